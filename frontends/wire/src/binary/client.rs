//! The client's side of version 2: write what a client says, read what the gateway says.
//!
//! Beside the gateway's side, so that the command line client, the benchmark and the tests of both speak what is
//! documented, and so that a change of one side fails a test of the other.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use contract::{Delivery, Error, Kind, Message, QueueWish, Subject, TraceContext};

use super::encode::{Frame, TooLarge};
use super::fields::{Body, each, header, number, once, text};
use super::{flag, kind, tag};
use crate::message::{Id, Inbound, Question, milliseconds};
use crate::parts::malformed;
use crate::sink::Sink;

/// What the gateway says, as [`Outbound`](crate::Outbound) says it.
#[derive(Clone, Debug)]
pub enum Heard {
    /// What the gateway speaks and allows, as JSON.
    Welcome {
        /// The id of the hello.
        id: Option<Id>,
        /// `{"versions":[…],"limits":{…}}`
        json: Bytes,
    },
    /// A publish was handed on, or a subscription is in force.
    Accepted {
        /// The id of the question.
        id: Id,
    },
    /// The answer to a request.
    Reply {
        /// The id of the question.
        id: Id,
        /// The responder's message.
        message: Message,
        /// Whether further replies follow for this id.
        more: bool,
    },
    /// A question failed, a subscription ended by a failure, or something said was not understood.
    Error {
        /// The id of the question.
        id: Option<Id>,
        /// What went wrong.
        failure: Failure,
    },
    /// A message of a subscription.
    Delivery {
        /// The id of the subscription.
        id: Id,
        /// The message.
        delivery: Box<Delivery>,
    },
    /// Messages of a subscription were lost.
    Gap {
        /// The id of the subscription.
        id: Id,
        /// How many; `None` when nobody can know.
        lost: Option<NonZeroU64>,
    },
    /// A subscription, or a reply in many parts, is complete.
    End {
        /// The id of the question.
        id: Id,
    },
    /// The answer to a ping.
    Pong {
        /// The id of the ping.
        id: Option<Id>,
        /// Its payload.
        payload: Bytes,
    },
    /// The connection is about to be closed.
    GoAway {
        /// How long to wait before connecting again.
        retry_after: Duration,
    },
}

/// An error as it is told: a client may meet kinds that it does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// The code of its kind.
    pub kind: ByteString,
    /// What became of the question.
    pub outcome: ByteString,
    /// What a person may read.
    pub text: ByteString,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    /// The backend's own code, if it was the backend that said no.
    pub backend_code: Option<ByteString>,
    /// The backend's own body, likewise.
    pub body: Bytes,
}

/// Writes what a client says as one frame of at most `frame_bytes_max` bytes; larger is `too_large`, and nothing
/// is written.
///
/// # Panics
/// If the id is a text, which this form does not have.
pub fn say(message: &Inbound, frame_bytes_max: usize, sink: &mut impl Sink) -> Result<(), Error> {
    let mut frame = Frame { frame_bytes_max, sink };
    let none = Bytes::new();
    match message {
        Inbound::Hello { id } => frame.put(kind::HELLO, 0, id.as_ref(), &[], None, &none),
        Inbound::Publish { id, subject, question } => {
            ask(&mut frame, kind::PUBLISH, id.as_ref(), subject.as_str(), question)
        }
        Inbound::Request { id, subject, question } => {
            ask(&mut frame, kind::REQUEST, Some(id), subject.as_str(), question)
        }
        Inbound::Subscribe { id, pattern, question } => {
            ask(&mut frame, kind::SUBSCRIBE, Some(id), pattern.as_str(), question)
        }
        Inbound::Unsubscribe { id } => frame.put(kind::UNSUBSCRIBE, 0, Some(id), &[], None, &none),
        Inbound::Cancel { id } => frame.put(kind::CANCEL, 0, Some(id), &[], None, &none),
        Inbound::Ping { id, payload } => frame.put(kind::PING, 0, id.as_ref(), &[], None, payload),
    }
    .map_err(|TooLarge| Error::new(Kind::TooLarge, format!("a message has at most {frame_bytes_max} bytes")))
}

fn ask(
    frame: &mut Frame<'_, impl Sink>,
    kind: u8,
    id: Option<&Id>,
    subject: &str,
    question: &Question,
) -> Result<(), TooLarge> {
    let Question { headers, payload, timeout, idempotent, trace, position, queue } = question;
    let timeout = timeout.map(|timeout| milliseconds(timeout).to_be_bytes());
    let QueueWish { policy, messages_max, bytes_max } = queue.unwrap_or_default();
    let [messages_max, bytes_max] = [messages_max, bytes_max].map(|wish| wish.map(size));
    let traceparent = trace.as_ref().map(TraceContext::traceparent);
    let tracestate = trace.as_ref().and_then(TraceContext::tracestate);
    let fields = [
        Some((tag::SUBJECT, subject.as_bytes())),
        timeout.as_ref().map(|timeout| (tag::TIMEOUT_MS, &timeout[..])),
        traceparent.as_ref().map(|parent| (tag::TRACEPARENT, &parent.as_bytes()[..])),
        tracestate.map(|state| (tag::TRACESTATE, &state.as_bytes()[..])),
        position.as_ref().map(|position| (tag::POSITION, &position[..])),
        policy.map(|policy| (tag::QUEUE_POLICY, policy.name().as_bytes())),
        messages_max.as_ref().map(|wish| (tag::QUEUE_MESSAGES_MAX, &wish[..])),
        bytes_max.as_ref().map(|wish| (tag::QUEUE_BYTES_MAX, &wish[..])),
    ];
    let flags = if *idempotent { flag::IDEMPOTENT } else { 0 };
    frame.put(kind, flags, id, &fields, Some(headers), payload)
}

/// A size as the wire has it; one that is larger asks for as much as can be.
fn size(size: usize) -> [u8; 4] {
    u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes()
}

/// Reads what the gateway says: the type and the body of a frame of version 2. An error of kind `malformed`
/// means that it was no gateway that spoke, `unsupported` that it is newer than this client.
pub fn hear(kind: u8, body: Bytes) -> Result<Heard, Error> {
    let flags_allowed = if kind == kind::REPLY { flag::ID | flag::MORE } else { flag::ID };
    let Body { flags, id, fields, payload } = Body::split(body, flags_allowed)?;
    let (mut message, mut subject, mut position) = (Message { payload, ..Message::default() }, None, None);
    let (mut code, mut outcome, mut told) = (None, None, None);
    let (mut wait_ms, mut backend_code, mut lost) = (None, None, None);
    each(&fields, |tag, value| match tag {
        tag::SUBJECT => once(tag, &mut subject, text(tag, value)?),
        tag::HEADER => header(&value, &mut message.headers),
        tag::POSITION => once(tag, &mut position, value),
        tag::KIND => once(tag, &mut code, text(tag, value)?),
        tag::OUTCOME => once(tag, &mut outcome, text(tag, value)?),
        tag::TEXT => once(tag, &mut told, text(tag, value)?),
        tag::RETRY_AFTER_MS => once(tag, &mut wait_ms, u32::from_be_bytes(number(tag, &value)?)),
        tag::BACKEND_CODE => once(tag, &mut backend_code, text(tag, value)?),
        tag::LOST => once(tag, &mut lost, u64::from_be_bytes(number(tag, &value)?)),
        _ => Ok(()),
    })?;
    let retry_after = wait_ms.map(|ms| Duration::from_millis(ms.into()));
    let named = |id: Option<Id>| id.ok_or_else(|| malformed("an answer without the id of its question"));
    Ok(match kind {
        kind::WELCOME => Heard::Welcome { id, json: message.payload },
        kind::ACCEPTED => Heard::Accepted { id: named(id)? },
        kind::REPLY => Heard::Reply { id: named(id)?, message, more: flags & flag::MORE != 0 },
        kind::ERROR => {
            let (Some(kind), Some(outcome)) = (code, outcome) else {
                return Err(malformed("an error without its kind or outcome"));
            };
            let text = told.unwrap_or_default();
            let body = message.payload;
            Heard::Error { id, failure: Failure { kind, outcome, text, retry_after, backend_code, body } }
        }
        kind::DELIVERY => {
            let subject = subject.ok_or_else(|| malformed("a delivery without its subject"))?;
            let subject = Subject::parse(subject).map_err(|error| malformed(error.to_string()))?;
            let mut delivery = Delivery::new(subject, message.headers, message.payload);
            delivery.position = position;
            Heard::Delivery { id: named(id)?, delivery: Box::new(delivery) }
        }
        kind::GAP => Heard::Gap { id: named(id)?, lost: lost.and_then(NonZeroU64::new) },
        kind::END => Heard::End { id: named(id)? },
        kind::PONG => Heard::Pong { id, payload: message.payload },
        kind::GO_AWAY => Heard::GoAway { retry_after: retry_after.unwrap_or_default() },
        _ => return Err(Error::new(Kind::Unsupported, format!("0x{kind:02x} is not known to this client"))),
    })
}
