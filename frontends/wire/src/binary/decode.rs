//! From the body of a frame to what a client says, in one pass and without copies: texts and payload are slices
//! of it.

use bytes::Bytes;
use contract::{Error, Kind};

use super::fields::{Body, each, header, id_of, number, once, text};
use super::{flag, kind, tag};
use crate::message::{Inbound, Refusal};
use crate::parts::{Parts, Verb};

/// Reads what a client says: the type and the body (all that is behind the first six bytes) of a frame of
/// version 2. The payload and all texts share the body's memory.
///
/// A refusal carries the id if the fixed part could be read; the boundary of the frame is known, so the
/// connection can go on.
pub fn decode(kind: u8, body: Bytes) -> Result<Inbound, Refusal> {
    let id = id_of(&body);
    read(kind, body).map_err(|error| Refusal { id, error })
}

fn read(kind: u8, body: Bytes) -> Result<Inbound, Error> {
    let verb = verb(kind)?;
    let flags_allowed = match verb {
        Verb::Publish | Verb::Request => flag::ID | flag::IDEMPOTENT,
        _ => flag::ID,
    };
    let Body { flags, id, fields, payload } = Body::split(body, flags_allowed)?;
    let idempotent = flags & flag::IDEMPOTENT != 0;
    let mut parts = Parts { id, idempotent, payload, ..Parts::default() };
    each(&fields, |tag, value| match tag {
        tag::SUBJECT => once(tag, &mut parts.subject, text(tag, value)?),
        tag::HEADER => header(&value, &mut parts.headers),
        tag::TIMEOUT_MS => once(tag, &mut parts.timeout_ms, u32::from_be_bytes(number(tag, &value)?)),
        tag::TRACEPARENT => once(tag, &mut parts.traceparent, text(tag, value)?),
        tag::TRACESTATE => once(tag, &mut parts.tracestate, text(tag, value)?),
        tag::POSITION => once(tag, &mut parts.position, value),
        tag::QUEUE_POLICY => once(tag, &mut parts.queue_policy, text(tag, value)?),
        tag::QUEUE_MESSAGES_MAX => {
            once(tag, &mut parts.queue_messages_max, u32::from_be_bytes(number(tag, &value)?))
        }
        tag::QUEUE_BYTES_MAX => {
            once(tag, &mut parts.queue_bytes_max, u32::from_be_bytes(number(tag, &value)?))
        }
        _ => Ok(()),
    })?;
    parts.inbound(verb)
}

fn verb(kind: u8) -> Result<Verb, Error> {
    Ok(match kind {
        kind::HELLO => Verb::Hello,
        kind::PUBLISH => Verb::Publish,
        kind::REQUEST => Verb::Request,
        kind::SUBSCRIBE => Verb::Subscribe,
        kind::UNSUBSCRIBE => Verb::Unsubscribe,
        kind::CANCEL => Verb::Cancel,
        kind::PING => Verb::Ping,
        _ => {
            let text = format!("0x{kind:02x} is not a type that a client sends in version 2");
            return Err(Error::new(Kind::Unsupported, text));
        }
    })
}
