//! Backends: what stands behind the pipeline and answers. Each passes the same conformance suite
//! (`tests/backend/suite.rs`).
//!
//! A backend knows nothing of rules: it gets a request that has passed them all, and carries it out. Silence
//! is not its business either (the deadline rule drops the answer's future, and dropping must give back
//! everything the call held).

use std::future::Future;

use contract::{ByteBudget, Error, Reply, Request};
use tokio::sync::watch;

use self::cancel::Manner;
pub use crate::metrics::Reading;

pub mod cancel;
pub mod embedded;
pub mod incoming;
pub(crate) mod memory;
pub mod nats;
pub mod outgoing;
pub mod replies;

/// Carries requests out.
///
/// What every implementation promises:
/// - `Publish` answers [`Reply::Accepted`] once the message was handed over; publishes of one origin's
///   connection keep their order, and so do requests marked `ordered`.
/// - `Request` answers exactly one [`Reply::Message`], or `no_responders` at once when nobody listens,
///   `unavailable` at once when there is no connection, `too_large` before anything is sent, `failed` when
///   the responder's headers say that its answer is an error.
/// - An acknowledgement of a JetStream stream is no answer where [`Manner::skips_acknowledgements`] says so.
/// - With [`Manner::replies`] a `Request` may be answered by [`Reply::Stream`] instead, if its first message says that
///   further ones follow. It ends with the last one, with `failed` if a message of it is an error, `too_large` over
///   the bounds, `timed_out` after silence, `slow_consumer`, or `unavailable` when the connection is lost; it has no
///   gaps, and the outcome of all but `failed` is unknown. Dropped or cut off, it is told of as below.
/// - `Subscribe` answers [`Reply::Stream`] once the subscription is in force. A bounded queue stands between
///   the backend and the stream's reader; what does not fit is told as a gap with its count.
/// - No message on a reserved subject ([`contract::Subject::is_reserved`]) is ever delivered.
/// - A `Request` that was sent, and whose future is dropped before the answer came, is told of on
///   [`Manner::cancel_subject`], by the same connection; as far as that is possible without waiting.
/// - Dropping the answer's future or the stream gives back every slot, subscription and gauge.
pub trait Backend: Clone + Send + Sync + 'static {
    /// The future of an answer.
    type Answer: Future<Output = Result<Reply, Error>> + Send + 'static;

    /// Carries `request` out as its route wants it. Never blocks; the work is the future's.
    fn call_as(&self, request: Request, manner: Manner) -> Self::Answer;

    /// Carries `request` out as where no route wants anything special.
    fn call(&self, request: Request) -> Self::Answer {
        self.call_as(request, Manner::default())
    }

    /// How it is now; cheap enough for every probe.
    fn health(&self) -> Health;

    /// Charges what it holds for peers to `memory` from now on: messages that wait to be read, to be written, or for the
    /// request that they answer. An answer that does not fit there is refused as `overloaded`, `done`.
    fn charge_to(&self, memory: &ByteBudget) {
        let _ = memory;
    }

    /// Whether requests can be carried out now; as [`Health::reachable`].
    fn is_reachable(&self) -> bool {
        self.health().reachable
    }

    /// Told when [`Self::is_reachable`] may be another than before. Nobody ever tells where it cannot change.
    fn changes(&self) -> watch::Receiver<()> {
        watch::channel(()).1
    }

    /// What to show of it when metrics are read.
    fn readings(&self) -> Vec<Reading>;

    /// Stops: flushes what was accepted, closes connections, ends subscriptions.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// How a backend is.
#[derive(Clone, Debug)]
pub struct Health {
    /// Which backend: `embedded` or `nats`.
    pub kind: &'static str,
    /// Whether requests can be carried out now.
    pub reachable: bool,
    /// Why not, or what a reader should know, in words; never a secret.
    pub reasons: Vec<String>,
    /// Facts for `/ready`, as JSON.
    pub facts: serde_json::Value,
}
