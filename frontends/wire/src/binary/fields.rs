//! The parts that every body has: the fixed part, the fields, the payload. Read the same by both sides.

use bytes::Bytes;
use bytestring::ByteString;
use contract::{Error, Headers};

use super::{FIXED_BYTES, flag, tag};
use crate::message::Id;
use crate::parts::{header_error, malformed};

/// A body, taken apart.
pub(super) struct Body {
    pub(super) flags: u8,
    pub(super) id: Option<Id>,
    pub(super) fields: Bytes,
    pub(super) payload: Bytes,
}

impl Body {
    /// Takes a body apart; `flags` are those that its type may have. Nothing is copied.
    pub(super) fn split(mut body: Bytes, flags_allowed: u8) -> Result<Self, Error> {
        let Some(&[flags, reserved, ref number @ .., high, low]) = body.first_chunk::<FIXED_BYTES>() else {
            return Err(malformed("a frame of version 2 has at least 18 bytes"));
        };
        if flags & !flags_allowed != 0 || reserved != 0 {
            return Err(malformed("flags that this type does not have, or a reserved byte that is not zero"));
        }
        let id = id_of(&body);
        if id.is_none() && number.iter().any(|byte| *byte != 0) {
            return Err(malformed("an id without the flag that says so"));
        }
        let fields_end = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
        if fields_end > body.len() {
            return Err(malformed("the fields are longer than the frame"));
        }
        let payload = body.split_off(fields_end);
        Ok(Self { flags, id, fields: body.slice(FIXED_BYTES..), payload })
    }
}

/// The id in the first bytes of a body, for answering a message that was not read to its end; `None` if they
/// are too few, or if there is none.
pub fn id_of(start: &[u8]) -> Option<Id> {
    let flags = *start.first()?;
    let id = start.get(2..10)?.try_into().expect("eight bytes");
    (flags & flag::ID != 0).then_some(Id::Number(u64::from_be_bytes(id)))
}

/// Calls `take` with the tag and the value of each field, in order.
pub(super) fn each(
    fields: &Bytes,
    mut take: impl FnMut(u8, Bytes) -> Result<(), Error>,
) -> Result<(), Error> {
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
        take(tag, fields.slice(start..at))?;
    }
    Ok(())
}

/// Keeps the value of a field that may not repeat.
pub(super) fn once<T>(tag: u8, place: &mut Option<T>, value: T) -> Result<(), Error> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed(format!("the field 0x{tag:02x} comes twice"))),
    }
}

/// The value of a field that is a text.
pub(super) fn text(tag: u8, value: Bytes) -> Result<ByteString, Error> {
    ByteString::try_from(value).map_err(|_| malformed(format!("the field 0x{tag:02x} is not UTF-8")))
}

/// The value of a field that is a number, as its big-endian bytes.
pub(super) fn number<const N: usize>(tag: u8, value: &[u8]) -> Result<[u8; N], Error> {
    value.try_into().map_err(|_| malformed(format!("the field 0x{tag:02x} has {N} bytes")))
}

/// Appends the header that a field holds.
pub(super) fn header(field: &Bytes, headers: &mut Headers) -> Result<(), Error> {
    let name_bytes = field.first().copied().map(usize::from);
    let Some(value_at) = name_bytes.map(|bytes| 1 + bytes).filter(|end| *end <= field.len()) else {
        return Err(malformed("the name of a header is longer than its field"));
    };
    let name = text(tag::HEADER, field.slice(1..value_at))?;
    headers.append(name, text(tag::HEADER, field.slice(value_at..))?).map_err(header_error)
}
