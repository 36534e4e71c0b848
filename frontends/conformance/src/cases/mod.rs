//! The cases: a name, the settings of its gateway, and what must be true of every door.
//!
//! A new case is one function and one line here.

mod flow;
mod refusals;
mod requests;
mod streamed;
mod whole;

use std::pin::Pin;

use crate::ground::{Fault, Ground};

/// The future of a cell.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Fault>> + 'a>>;

/// What must be true of every door.
#[derive(Debug)]
pub struct Case {
    /// Its row's heading.
    pub name: &'static str,
    /// Settings of the gateway, besides those of [`Ground::open`].
    pub settings: &'static [(&'static str, &'static str)],
    /// Tries it.
    pub run: for<'a> fn(&'a mut Ground) -> Running<'a>,
}

macro_rules! cases {
    ($($name:literal $run:path $({ $($key:literal = $value:literal),* })?;)*) => {
        /// The cases, in the order of the rows.
        pub static CASES: &[Case] = &[$(Case {
            name: $name,
            settings: &[$($(($key, $value)),*)?],
            run: |ground| Box::pin($run(ground)),
        },)*];
    };
}

cases! {
    // Requests and their answers.
    "happy request" requests::happy;
    "empty payload" requests::empty;
    "binary payload" requests::binary;
    "maximal payload" requests::maximal {
        "limits.payload_bytes_max" = "4194304", "nats.publish_queue_bytes_max" = "16777216",
        "routes.case.queue_bytes_max" = "8388608"
    };
    "headers to the responder" requests::headers_to_the_responder;
    "headers of the answer" requests::headers_of_the_answer;
    "trace continued" requests::trace;
    "identity and door told" requests::identity;
    "deadline told" requests::deadline { "routes.case.timeout_ms" = "7000" };
    // Refusals and failures, each with its code and what became of the request.
    "wildcard in a publish" refusals::wildcard;
    "reserved subject" refusals::reserved;
    "unknown route" refusals::unknown_route;
    "denied" refusals::denied { "routes.case.allow" = "uid:4294967294" };
    "operation not offered" refusals::not_offered { "routes.case.operations" = "publish" };
    "too large" refusals::too_large { "routes.case.payload_bytes_max" = "1024" };
    "too small" refusals::too_small { "routes.case.payload_bytes_min" = "1024" };
    "unsupported" refusals::unsupported { "routes.case.refuse" = "there is no such service any more" };
    "conflict" refusals::conflict { "routes.case.idempotency" = "true" };
    "unavailable" refusals::unavailable;
    "rate limited" refusals::rate_limited {
        "routes.case.rate_per_second" = "1", "routes.case.rate_burst" = "1"
    };
    "overloaded" refusals::overloaded { "routes.case.calls_max" = "1", "routes.case.streams_max" = "1" };
    "no responders" refusals::no_responders;
    "failed" refusals::failed_by_the_responder;
    "expired" refusals::expired { "routes.case.timeout_ms" = "100" };
    "circuit open" refusals::circuit_open {
        "routes.case.timeout_ms" = "100", "breaker.enabled" = "true", "routes.case.breaker_consecutive_max" = "2"
    };
    // Many at once, and in order.
    "1,000 pipelined" flow::pipelined;
    "answers out of order" flow::out_of_order;
    "order of publishes" flow::publishes;
    "order of deliveries" flow::deliveries;
    "slow reader told" flow::slow_reader { "routes.case.queue_messages_max" = "4" };
    "slow reader cut off" flow::slow_reader_cut_off {
        "routes.case.queue_messages_max" = "4", "routes.case.queue_policy" = "disconnect"
    };
    // Answers of many messages.
    "streamed reply" streamed::whole { "routes.case.replies_max" = "1000" };
    "streamed reply cut off" streamed::cut_off { "routes.case.replies_max" = "3" };
    // The gateway as a whole.
    "cancel in mid-flight" whole::cancel;
    "responder told of a cancel" whole::cancel_told { "routes.case.cancel_subject" = "matrix.cancels" };
    "one limit for all doors" whole::shared_limit {
        "limits.peer_rate_per_second" = "1", "limits.peer_rate_burst" = "1", "limits.peer_rate_local" = "true"
    };
    "drain" whole::drain;
}
