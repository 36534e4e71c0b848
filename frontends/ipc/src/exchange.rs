//! What a session and its dialect say to each other: what the peer said, and what it is answered.

use bytes::Bytes;
use contract::{Charge, DeliveryStream, Error, Event, Message, MessageType, Pattern};

use wire::{Inbound, Outbound, Refusal};

use crate::frame::Partial;
use crate::outbox::Outbox;

/// The name of a stream, chosen by the subscriber or by the session.
pub(crate) type StreamName = Box<str>;

/// What the peer said.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and a box would cost each message")]
pub(crate) enum Said {
    /// A request, to be answered in its turn.
    Task { kind: MessageType, payload: Bytes, charge: Option<Charge> },
    /// A subscription; the session names the stream if the peer did not.
    Subscribe { pattern: Pattern, stream: Option<StreamName> },
    /// A message with an id, to be answered whenever its answer is there.
    Question(Inbound, Option<Charge>),
    /// A message with an id that could not be understood.
    Misspoken(Refusal),
    /// Something that is answered without asking anybody.
    Plain(Answer),
    /// Something that ends the connection once it is answered.
    Last(Answer),
}

/// What the peer is answered, in the order of what it said.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The reply to a task.
    Message(Message),
    /// The reply to a PING.
    Pong,
    /// What this door can do.
    Capabilities,
    /// A subscription is in force; its deliveries follow.
    Opened { stream: StreamName, deliveries: DeliveryStream },
    /// The peer ends a stream.
    End { stream: StreamName },
    /// A refusal or a failure.
    Error(Error),
    /// A version that is not spoken, which has a number of its own in version 1.
    Version,
}

/// What is pushed between answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Push<'a> {
    /// A delivery, or a gap.
    Event(&'a Event),
    /// The stream is complete.
    Complete,
    /// The stream failed.
    Failed(&'a Error),
}

/// A protocol spoken over the socket: pure decoding and encoding, no waiting.
pub(crate) trait Dialect {
    /// Takes bytes from the front of `input` until the peer has said something (the rest stays in `input`),
    /// or until it is empty.
    fn hear(&mut self, input: &mut &[u8]) -> Option<Said>;

    /// Encodes an answer that opens or ends no stream.
    fn answer(&mut self, answer: Answer, outbox: &mut Outbox);

    /// Encodes the acceptance of a subscription, or of its end.
    fn acknowledge(&mut self, stream: &str, outbox: &mut Outbox);

    /// Encodes what a stream yields.
    fn push(&mut self, stream: &str, push: Push<'_>, outbox: &mut Outbox);

    /// Encodes a message with an id. Says whether a reply or a delivery could be told as it is.
    fn tell(&mut self, told: &Outbound<'_>, outbox: &mut Outbox) -> bool;

    /// Where the peer is within a message, for deadlines.
    fn partial(&self) -> Partial;
}
