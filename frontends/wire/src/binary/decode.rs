//! From the body of a frame to a message, in one pass and without copies: texts and payload are slices of it.

use bytes::Bytes;
use bytestring::ByteString;
use contract::{Error, Kind};

use super::{FIXED_BYTES, flag, kind, tag};
use crate::message::{Id, Inbound, Refusal};
use crate::parts::{Parts, Verb, header_error, malformed};

/// Reads what a client says: the type and the body (all that is behind the first six bytes) of a frame of
/// version 2. The payload and all texts share the body's memory.
///
/// A refusal carries the id if the fixed part could be read; the boundary of the frame is known, so the
/// connection can go on.
pub fn decode(kind: u8, body: Bytes) -> Result<Inbound, Refusal> {
    let id = id_of(&body);
    read(kind, id.clone(), body).map_err(|error| Refusal { id, error })
}

/// The id in the first bytes of a body, for answering a message that was not read to its end; `None` if they
/// are too few, or if there is none.
pub fn id_of(start: &[u8]) -> Option<Id> {
    let flags = *start.first()?;
    let id = start.get(2..10)?.try_into().expect("eight bytes");
    (flags & flag::ID != 0).then_some(Id::Number(u64::from_be_bytes(id)))
}

fn read(kind: u8, id: Option<Id>, mut body: Bytes) -> Result<Inbound, Error> {
    let Some(&[flags, reserved, ref number @ .., high, low]) = body.first_chunk::<FIXED_BYTES>() else {
        return Err(malformed("a frame of version 2 has at least 18 bytes"));
    };
    let verb = verb(kind)?;
    let allowed = match verb {
        Verb::Publish | Verb::Request => flag::ID | flag::IDEMPOTENT,
        _ => flag::ID,
    };
    if flags & !allowed != 0 || reserved != 0 {
        return Err(malformed(format!("flags or the reserved byte have bits that {} does not", verb.name())));
    }
    if id.is_none() && number.iter().any(|byte| *byte != 0) {
        return Err(malformed("an id without the flag that says so"));
    }
    let fields_bytes = usize::from(u16::from_be_bytes([high, low]));
    if FIXED_BYTES + fields_bytes > body.len() {
        return Err(malformed("the fields are longer than the frame"));
    }
    let payload = body.split_off(FIXED_BYTES + fields_bytes);
    let idempotent = flags & flag::IDEMPOTENT != 0;
    let mut parts = Parts { id, idempotent, payload, ..Parts::default() };
    read_fields(&body.slice(FIXED_BYTES..), &mut parts)?;
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

fn read_fields(fields: &Bytes, parts: &mut Parts) -> Result<(), Error> {
    let mut at = 0;
    while at < fields.len() {
        let Some(&[tag, high, low]) = fields[at..].first_chunk::<3>() else {
            return Err(malformed("a field ends within its tag and length"));
        };
        let start = at + 3;
        at = start + usize::from(u16::from_be_bytes([high, low]));
        if at > fields.len() {
            return Err(malformed(format!("the field 0x{tag:02x} is longer than all fields together")));
        }
        let value = || fields.slice(start..at);
        match tag {
            tag::SUBJECT => once(tag, &mut parts.subject, text(tag, value())?)?,
            tag::HEADER => read_header(tag, &value(), parts)?,
            tag::TIMEOUT_MS => once(tag, &mut parts.timeout_ms, number(tag, &fields[start..at])?)?,
            tag::QUEUE_POLICY => once(tag, &mut parts.queue_policy, text(tag, value())?)?,
            tag::QUEUE_MESSAGES_MAX => {
                once(tag, &mut parts.queue_messages_max, number(tag, &fields[start..at])?)?;
            }
            tag::QUEUE_BYTES_MAX => {
                once(tag, &mut parts.queue_bytes_max, number(tag, &fields[start..at])?)?;
            }
            tag::TRACEPARENT => once(tag, &mut parts.traceparent, text(tag, value())?)?,
            tag::TRACESTATE => once(tag, &mut parts.tracestate, text(tag, value())?)?,
            tag::POSITION => once(tag, &mut parts.position, value())?,
            _ => {}
        }
    }
    Ok(())
}

fn once<T>(tag: u8, place: &mut Option<T>, value: T) -> Result<(), Error> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed(format!("the field 0x{tag:02x} comes twice"))),
    }
}

fn number(tag: u8, value: &[u8]) -> Result<u32, Error> {
    let bytes = value.try_into().map_err(|_| malformed(format!("the field 0x{tag:02x} has 4 bytes")))?;
    Ok(u32::from_be_bytes(bytes))
}

fn text(tag: u8, value: Bytes) -> Result<ByteString, Error> {
    ByteString::try_from(value).map_err(|_| malformed(format!("the field 0x{tag:02x} is not UTF-8")))
}

fn read_header(tag: u8, field: &Bytes, parts: &mut Parts) -> Result<(), Error> {
    let name_bytes = field.first().copied().map(usize::from);
    let Some(value_at) = name_bytes.map(|bytes| 1 + bytes).filter(|end| *end <= field.len()) else {
        return Err(malformed("the name of a header is longer than its field"));
    };
    let (name, value) = (text(tag, field.slice(1..value_at))?, text(tag, field.slice(value_at..))?);
    parts.headers.append(name, value).map_err(header_error)
}
