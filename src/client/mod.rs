//! A client of the gateway: what the command line, the benchmark and the tests speak to a door with.
//!
//! A [`Line`] is one connection in the hands of one task: things to say are queued, and one poll sends them
//! and gives the next thing heard. There is no task behind it and no channel, so a benchmark measures the
//! gateway and not its client. A door is one file that makes a line, and one line in [`Via`].
//!
//! | file | holds |
//! |---|---|
//! | `via.rs` | the ways in, by name |
//! | `stream.rs` | a line over a byte stream, with a [`Dialect`] for the bytes |
//! | `v2.rs`, `v1.rs`, `json.rs`, `tasks.rs` | the dialects of the Unix socket |
//! | `ws.rs` | the dialects of a WebSocket, and how one is opened |
//! | `http.rs`, `exchange.rs`, `events.rs` | a line over a few connections of HTTP/1.1; one exchange; events |
//! | `grpc.rs` | a session of the gRPC door |
//! | `failure.rs` | why there is no answer |
//! | `pages.rs`, `samples.rs` | the admin listener: its pages, and its metrics as numbers again |

mod events;
mod exchange;
mod failure;
mod grpc;
mod http;
mod json;
mod pages;
mod samples;
mod stream;
mod tasks;
mod v1;
mod v2;
mod via;
mod ws;

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use contract::Headers;

pub use failure::{Failure, Lost};
pub(crate) use pages::Pages;
pub(crate) use samples::Samples;
pub(crate) use stream::Dialect;
pub use via::{Reach, Via};
pub(crate) use ws::{Subprotocol, web_socket};

/// What a client says.
#[derive(Clone, Debug)]
pub enum Say {
    /// Ask whoever listens on a subject; answered by [`What::Reply`] or [`What::Failed`].
    Request(Call),
    /// Hand a message on; answered by [`What::Accepted`] or [`What::Failed`].
    Publish(Call),
    /// Subscribe to the pattern that is the call's subject; answered by [`What::Accepted`], then deliveries.
    Subscribe(Call),
    /// End the subscription with this id; answered by [`What::End`].
    Unsubscribe,
    /// Take back the question with this id; its answer is then [`What::Failed`] or what had come before. A protocol
    /// without a word for it says so: there a question is taken back by closing the connection.
    Cancel,
    /// See whether the gateway is there; answered by [`What::Pong`].
    Ping,
}

/// A question.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Where to: a subject, or a pattern to subscribe to. Checked by the gateway.
    pub subject: String,
    /// The payload.
    pub payload: Bytes,
    /// Headers for the responder.
    pub headers: Headers,
    /// How long to wait for the answer; the route's own time without one.
    pub timeout: Option<Duration>,
    /// Whether doing it twice is the same as doing it once.
    pub idempotent: bool,
    /// The trace it belongs to, as the text of a `traceparent` header.
    pub traceparent: Option<String>,
}

/// What a client is told.
#[derive(Debug)]
pub struct Heard {
    /// What was said with this id; `None` when it cannot be known, or when it is about the connection.
    pub id: Option<u64>,
    /// What is told.
    pub what: What,
}

/// What a client is told about something it said.
#[derive(Debug)]
pub enum What {
    /// The answer to a request.
    Reply {
        /// Headers of the responder, if the door carries them.
        headers: Headers,
        /// The payload.
        payload: Bytes,
        /// Whether further replies follow.
        more: bool,
    },
    /// A publish was handed on, or a subscription is in force.
    Accepted,
    /// A message of a subscription.
    Delivery {
        /// The subject it was published to.
        subject: String,
        /// Its headers, if the door carries them.
        headers: Headers,
        /// Its payload.
        payload: Bytes,
    },
    /// Messages of a subscription were lost; `None` when nobody can know how many.
    Gap(Option<u64>),
    /// A subscription, or an answer in parts, is complete.
    End,
    /// The answer to a ping.
    Pong,
    /// The gateway will close the connection.
    GoAway,
    /// A no.
    Failed(Failure),
}

/// One connection to a door.
pub trait Line: Send + fmt::Debug {
    /// Queues something to say; polling sends it. `id` is unique among what is not answered yet. Fails when
    /// the door has no words for it, and then nothing is queued.
    fn say(&mut self, id: u64, say: &Say) -> Result<(), Failure>;

    /// Sends what is queued, and gives the next thing heard.
    fn poll_heard(&mut self, context: &mut Context<'_>) -> Poll<Result<Heard, Lost>>;
}

impl dyn Line + '_ {
    /// The next thing heard. Safe to drop: nothing is lost.
    pub async fn heard(&mut self) -> Result<Heard, Lost> {
        std::future::poll_fn(|context| self.poll_heard(context)).await
    }
}
