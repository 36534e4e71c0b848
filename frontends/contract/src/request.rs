//! The request: what every protocol is reduced to.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{Headers, Origin, Pattern, QueueWish, Subject, TraceContext};

/// One exchange a peer asks for. The payload is opaque: a slice of the read buffer, never parsed on the way.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do, and with what subject.
    pub target: Target,
    /// Headers the peer gave; what may pass is the route's to say.
    pub headers: Headers,
    /// The payload.
    pub payload: Bytes,
    /// When the door had the whole request: the clock, read once.
    pub received: Instant,
    /// When the answer is due. Always present, clamped by the door; a route may make it earlier.
    pub deadline: Instant,
    /// Whether the peer says that doing it twice is the same as doing it once.
    pub idempotent: bool,
    /// Whether it must keep its order among the requests of its connection (publishes do anyway).
    pub ordered: bool,
    /// Of a request: whether its peer can take an answer of many messages. Without it a route that gives such answers
    /// refuses it.
    pub parts: bool,
    /// Of a subscription: what the peer asks of its queue; without it all is as the route says. Other
    /// operations ignore it.
    pub queue: Option<QueueWish>,
    /// The trace it belongs to.
    pub trace: TraceContext,
    /// Who asks.
    pub origin: Arc<Origin>,
}

impl Request {
    /// The text for who cannot take an answer of many parts where answers have them: a protocol that has a status of its
    /// own for it knows it by this.
    pub const PARTS_NEEDED: &'static str =
        "this route answers with a stream, which cannot be told to who asks in this way";
}

/// The shape of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// One message out, no answer but the backend's acceptance.
    Publish,
    /// One message out, an answer back.
    Request,
    /// A stream of messages back.
    Subscribe,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Publish, Self::Request, Self::Subscribe];

    /// The word for it in configuration, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Request => "request",
            Self::Subscribe => "subscribe",
        }
    }
}

/// The operation with what it is directed at: a publish or request has a concrete subject, a subscription a
/// pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Publish to a subject.
    Publish(Subject),
    /// Request of whoever listens on a subject.
    Request(Subject),
    /// Subscribe to a pattern.
    Subscribe(Pattern),
    /// Request of whatever the route table has for a message type of a protocol that has no subjects.
    Task(MessageType),
}

impl Target {
    /// The operation.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Publish(_) => Operation::Publish,
            Self::Request(_) | Self::Task(_) => Operation::Request,
            Self::Subscribe(_) => Operation::Subscribe,
        }
    }

    /// The subject, the pattern or the message type, as text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Publish(subject) | Self::Request(subject) => subject.as_str(),
            Self::Subscribe(pattern) => pattern.as_str(),
            Self::Task(kind) => kind.0,
        }
    }
}

/// A message type of a protocol that names types instead of subjects, such as `task_submit` of version 1 of
/// the IPC protocol. Which subject it means is a route's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageType(pub &'static str);
