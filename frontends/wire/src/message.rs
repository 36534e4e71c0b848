//! The messages of version 2 of the IPC protocol and of the JSON envelope: one vocabulary, two forms.
//!
//! Every message that asks carries an id of the peer's choice; every message that answers carries it back, so
//! answers may come in any order. A door decodes bytes into [`Inbound`] and encodes [`Outbound`].

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use contract::{Delivery, Error, Headers, Message, Pattern, QueueWish, Subject, TraceContext};

/// Bytes of the longest textual id.
pub const ID_BYTES_MAX: usize = 64;
/// Bytes of the largest payload of a ping, as in WebSocket (RFC 6455 section 5.5).
pub const PING_BYTES_MAX: usize = 125;

/// The correlation id of a question, chosen by the peer and unique among its questions in flight and its
/// open subscriptions. The binary form knows numbers only, the JSON form both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    /// A number.
    Number(u64),
    /// A text of 1 to [`ID_BYTES_MAX`] bytes.
    Text(ByteString),
}

/// What a peer says.
#[derive(Debug)]
pub enum Inbound {
    /// Introduces itself; optional, answered by [`Outbound::Welcome`].
    Hello {
        /// The id to answer.
        id: Option<Id>,
    },
    /// Publish a message; answered by [`Outbound::Accepted`] or an error, or by nothing without an id.
    Publish {
        /// The id to answer; without one only an error without an id tells of a failure.
        id: Option<Id>,
        /// Where to.
        subject: Subject,
        /// The rest.
        question: Question,
    },
    /// Ask whoever listens on a subject; answered by [`Outbound::Reply`] or an error.
    Request {
        /// The id to answer.
        id: Id,
        /// Whom to ask.
        subject: Subject,
        /// The rest.
        question: Question,
    },
    /// Subscribe; answered by [`Outbound::Accepted`], then deliveries and gaps, then an end or an error, all
    /// with this id.
    Subscribe {
        /// The id of the subscription.
        id: Id,
        /// To what.
        pattern: Pattern,
        /// The rest; its payload is empty.
        question: Question,
    },
    /// End a subscription; answered by [`Outbound::End`] with the same id.
    Unsubscribe {
        /// The id of the subscription.
        id: Id,
    },
    /// Take a question back; answered by an error of kind `cancelled` in the question's place, unless its
    /// answer is already on the way.
    Cancel {
        /// The id of the question.
        id: Id,
    },
    /// Answered by [`Outbound::Pong`] with the same id and payload.
    Ping {
        /// The id to answer.
        id: Option<Id>,
        /// At most [`PING_BYTES_MAX`] bytes.
        payload: Bytes,
    },
}

/// What a question carries beside its id and target.
#[derive(Debug, Default)]
pub struct Question {
    /// Headers for the responder.
    pub headers: Headers,
    /// The payload: a slice of what was read.
    pub payload: Bytes,
    /// How long the peer wants to wait.
    pub timeout: Option<Duration>,
    /// Whether doing it twice is the same as doing it once.
    pub idempotent: bool,
    /// The trace it belongs to; a new one is started without.
    pub trace: Option<TraceContext>,
    /// Of a subscription: what the peer asks of its queue, within what its route allows.
    pub queue: Option<QueueWish>,
    /// Of a subscription: the position behind which to resume, as a delivery gave it.
    pub position: Option<Bytes>,
}

/// Why something a peer said is not a message, and whom to tell.
#[derive(Debug)]
pub struct Refusal {
    /// The id to answer, as far as it could be read.
    pub id: Option<Id>,
    /// What is wrong. Its outcome is `not_sent`, and the connection stays.
    pub error: Error,
}

/// What a peer is told.
#[derive(Debug)]
pub enum Outbound<'a> {
    /// What this gateway speaks and allows.
    Welcome {
        /// The id of the hello.
        id: Option<&'a Id>,
        /// Bounds a client should know.
        limits: &'a Limits,
    },
    /// A publish was handed on, or a subscription is in force.
    Accepted {
        /// The id of the question.
        id: &'a Id,
    },
    /// The answer to a request.
    Reply {
        /// The id of the question.
        id: &'a Id,
        /// The responder's message.
        message: &'a Message,
        /// Whether further replies follow for this id.
        more: bool,
    },
    /// A question failed, or a subscription ended by a failure; without an id, something said could not be
    /// understood well enough to tell which question it was.
    Error {
        /// The id of the question.
        id: Option<&'a Id>,
        /// What went wrong; its cause is not told.
        error: &'a Error,
    },
    /// A message of a subscription.
    Delivery {
        /// The id of the subscription.
        id: &'a Id,
        /// The message.
        delivery: &'a Arc<Delivery>,
    },
    /// Messages of a subscription were lost here.
    Gap {
        /// The id of the subscription.
        id: &'a Id,
        /// How many; `None` when nobody can know.
        lost: Option<NonZeroU64>,
    },
    /// A subscription, or a reply in many parts, is complete.
    End {
        /// The id of the question.
        id: &'a Id,
    },
    /// The answer to a ping.
    Pong {
        /// The id of the ping.
        id: Option<&'a Id>,
        /// Its payload.
        payload: &'a Bytes,
    },
    /// The gateway is about to close the connection: finish, and connect again after a while.
    GoAway {
        /// How long to wait before connecting again.
        retry_after: Duration,
    },
}

/// Bounds a client should know, told by [`Outbound::Welcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the largest message, with everything that belongs to it.
    pub message_bytes_max: usize,
    /// Questions in flight at once before the gateway stops reading.
    pub in_flight_max: usize,
    /// Subscriptions at once.
    pub streams_max: usize,
    /// The longest a question may take.
    pub timeout_max: Duration,
}

impl Limits {
    /// What a welcome says, as members of a JSON object without its braces: the versions of the IPC protocol
    /// that are spoken, and the limits.
    pub(crate) fn members(&self) -> String {
        let Self { message_bytes_max, in_flight_max, streams_max, timeout_max } = self;
        format!(
            "\"versions\":[1,2],\"limits\":{{\"message_bytes_max\":{message_bytes_max},\
             \"in_flight_max\":{in_flight_max},\"streams_max\":{streams_max},\"timeout_ms_max\":{}}}",
            timeout_max.as_millis(),
        )
    }
}

/// A duration in milliseconds as the wire has it, never zero: "at once" would read as "not said".
pub(crate) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}
