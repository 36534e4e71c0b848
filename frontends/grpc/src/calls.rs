//! One call of the pipeline: what is known of a call of gRPC, and what is counted of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::{
    DoorMeters, Error, Headers, Kind, Origin, Pattern, Pipeline, QueueWish, Reply, Request, Subject,
    SubjectError, Target, TraceContext,
};
use tokio::time::Instant;
use tonic::Status;

use crate::Door;
use crate::arrived::Arrived;

/// What the head of a call says and where it came from: among the extensions of its request.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) received: Instant,
    /// The deadline that was asked for, as a span from `received`.
    pub(crate) timeout: Option<Duration>,
    pub(crate) trace: TraceContext,
    pub(crate) origin: Arc<Origin>,
    pub(crate) arrived: Arrived,
}

impl Head {
    /// The head of a request that came through the door.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().expect("the door gives every request its head")
    }

    /// When the whole call must be over, if the client said so: a stream has no other end.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.timeout.map(|timeout| self.received + timeout)
    }
}

/// What is asked.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) target: Target,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
    pub(crate) idempotent: bool,
    /// Whether its answer may have many messages.
    pub(crate) parts: bool,
    pub(crate) queue: Option<QueueWish>,
}

impl<P: Pipeline> Door<P> {
    /// Calls the pipeline. Dropping the future, as hyper does when the client resets the call, takes it back.
    pub(crate) async fn call(&self, head: &Head, question: Question) -> Result<Reply, Error> {
        let Question { target, headers, payload, idempotent, parts, queue } = question;
        // In a stream of messages each has its own time.
        let received = Instant::now();
        let asked = head.until().map(|until| until.saturating_duration_since(received));
        let request = Request {
            target,
            headers,
            payload,
            received,
            deadline: self.gate.deadline(received, asked),
            idempotent,
            ordered: false,
            parts,
            queue,
            trace: head.trace.clone(),
            origin: Arc::clone(&head.origin),
        };
        let mut waiting = Waiting::new(&self.gate.meters);
        let outcome = self.gate.pipeline.clone().call(request).await;
        waiting.answered = true;
        outcome
    }

    /// The status of a call that failed.
    pub(crate) fn status(&self, error: &Error, trace: &TraceContext) -> Status {
        if error.kind() == Kind::Malformed {
            self.gate.meters.protocol_errors_total.increment();
        }
        self.telling.status(error, trace)
    }
}

/// A subject that a client named.
pub(crate) fn subject(name: String) -> Result<Subject, Error> {
    Subject::parse(name).map_err(invalid)
}

/// A pattern that a client named.
pub(crate) fn pattern(name: String) -> Result<Pattern, Error> {
    Pattern::parse(name).map_err(invalid)
}

fn invalid(error: SubjectError) -> Error {
    Error::new(Kind::Invalid, error.to_string())
}

/// What came is no answer to what was asked: a fault of the gateway.
pub(crate) fn mismatched() -> Error {
    Error::new(Kind::Internal, "the answer is not of the kind that was asked for")
}

/// Counts a request until it is answered or its client has gone.
struct Waiting<'a> {
    meters: &'a DoorMeters,
    answered: bool,
}

impl<'a> Waiting<'a> {
    fn new(meters: &'a DoorMeters) -> Self {
        meters.in_flight.add(1);
        Self { meters, answered: false }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.meters.in_flight.add(-1);
        // A panic is counted as one.
        if !self.answered && !std::thread::panicking() {
            self.meters.vanished_total.increment();
        }
    }
}
