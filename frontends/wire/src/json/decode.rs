//! From a document to a message of the envelope, or to a bare task.
//!
//! A task may have any members, so only its `op` tells an envelope from it. Once that is told, everything else
//! is strict: a key that is not the verb's own, or that comes twice, is refused by name, because a typo in
//! `timeout_ms` that is let go is found in production.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use contract::{Error, HeaderError, Headers, Kind};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::members::{Key, Members};
use crate::message::{ID_BYTES_MAX, Id, Inbound, Refusal};
use crate::parts::{Parts, Verb, header_error, malformed};

/// Bytes of a key that a refusal repeats; longer ones are cut.
const KEY_SHOWN_BYTES_MAX: usize = 40;

/// What a document is.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and a box would cost each message")]
pub enum Decoded {
    /// A message of the envelope: its `op` is one of the envelope's verbs.
    Envelope(Inbound),
    /// Any other object: a task, as it was read.
    Task(Bytes),
}

/// Reads one document. It is looked at once, as strictly as [`super::validate`] does; the payload of an
/// envelope is a slice of it, byte for byte.
///
/// A refusal carries the id if the document is an object with one. What is no JSON, and what is JSON and no
/// object, is refused as `malformed`.
pub fn decode(document: Bytes) -> Result<Decoded, Refusal> {
    let members = Members::read(&document)
        .map_err(|error| Refusal { id: None, error: malformed(format!("not a JSON object: {error}")) })?;
    let envelope = Envelope { document: &document, members: &members };
    let Some(verb) = envelope.verb() else { return Ok(Decoded::Task(document)) };
    match envelope.id() {
        Err(error) => Err(Refusal { id: None, error }),
        Ok(id) => match envelope.read(verb, id.clone()) {
            Ok(inbound) => Ok(Decoded::Envelope(inbound)),
            Err(error) => Err(Refusal { id, error }),
        },
    }
}

/// Whether a document that [`decode`] refused was meant as a message of the envelope, by its `op`: then it is
/// answered as one.
pub fn is_envelope(document: &Bytes) -> bool {
    Members::read(document).is_ok_and(|members| Envelope { document, members: &members }.verb().is_some())
}

struct Envelope<'a> {
    document: &'a Bytes,
    members: &'a Members,
}

impl Envelope<'_> {
    /// The verb, if `op` has one.
    fn verb(&self) -> Option<Verb> {
        let op = self.text(Key::Op).ok()??;
        Verb::ALL.into_iter().find(|verb| op == verb.name())
    }

    fn id(&self) -> Result<Option<Id>, Error> {
        if self.members.repeated == Some(Key::Id) {
            return Err(repeated(Key::Id));
        }
        let Some(place) = self.value(Key::Id) else { return Ok(None) };
        if self.document[place.start] == b'"' {
            let text = self.text(Key::Id)?.unwrap_or_default();
            return if (1..=ID_BYTES_MAX).contains(&text.len()) {
                Ok(Some(Id::Text(text)))
            } else {
                Err(id_error())
            };
        }
        self.parse(Key::Id).map(|number| number.map(Id::Number)).map_err(|_| id_error())
    }

    fn read(&self, verb: Verb, id: Option<Id>) -> Result<Inbound, Error> {
        self.check_keys(verb)?;
        let parts = Parts {
            id,
            subject: self.text(Key::Subject)?,
            headers: self
                .parse::<HeaderList>(Key::Headers)?
                .map(HeaderList::take)
                .transpose()?
                .unwrap_or_default(),
            timeout_ms: self.parse(Key::TimeoutMs)?,
            idempotent: self.parse(Key::Idempotent)?.unwrap_or(false),
            traceparent: self.text(Key::Traceparent)?,
            tracestate: self.text(Key::Tracestate)?,
            position: self.base64(Key::Position)?,
            queue_policy: self.text(Key::QueuePolicy)?,
            queue_messages_max: self.parse(Key::QueueMessagesMax)?,
            queue_bytes_max: self.parse(Key::QueueBytesMax)?,
            payload: self.payload()?,
        };
        parts.inbound(verb)
    }

    fn check_keys(&self, verb: Verb) -> Result<(), Error> {
        if let Some(key) = self.members.repeated {
            return Err(repeated(key));
        }
        let foreign =
            self.members.keys().find(|key| !takes(verb, *key)).map(|key| format!("\"{}\"", key.name()));
        let unknown = || {
            let place = self.members.unknown.clone()?;
            let key = String::from_utf8_lossy(&self.document[place]).into_owned();
            let end = key.floor_char_boundary(KEY_SHOWN_BYTES_MAX);
            Some(if end < key.len() { format!("{}…\"", &key[..end]) } else { key })
        };
        match foreign.or_else(unknown) {
            None => Ok(()),
            Some(key) => {
                let keys = Key::ALL.into_iter().filter(|(key, _)| takes(verb, *key)).map(|(_, name)| name);
                let keys = keys.collect::<Vec<_>>().join(", ");
                Err(malformed(format!("{key} is not a key of {}; its keys are {keys}", verb.name())))
            }
        }
    }

    fn payload(&self) -> Result<Bytes, Error> {
        // Here, and only here, null is a value.
        let json = self.members.value(Key::Payload);
        let base64 = self.base64(Key::PayloadBase64)?;
        match (json, base64) {
            (Some(_), Some(_)) => Err(malformed("payload and payload_base64 exclude each other")),
            (Some(place), None) => Ok(self.document.slice(place)),
            (None, base64) => Ok(base64.unwrap_or_default()),
        }
    }

    fn base64(&self, key: Key) -> Result<Option<Bytes>, Error> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let wrong =
            |error| malformed(format!("{} is not base64 with padding (RFC 4648): {error}", key.name()));
        STANDARD.decode(&text).map(|bytes| Some(bytes.into())).map_err(wrong)
    }

    /// A text; a slice of the document if it has no escapes.
    fn text(&self, key: Key) -> Result<Option<ByteString>, Error> {
        let Some(place) = self.value(key) else { return Ok(None) };
        let quoted = &self.document[place.clone()];
        if quoted[0] != b'"' {
            return Err(malformed(format!("{} is a text", key.name())));
        }
        if quoted.contains(&b'\\') {
            return self.parse::<String>(key).map(|text| text.map(ByteString::from));
        }
        let inside = self.document.slice(place.start + 1..place.end - 1);
        ByteString::try_from(inside).map(Some).map_err(|_| malformed(format!("{} is not UTF-8", key.name())))
    }

    fn parse<'a, T: Deserialize<'a>>(&'a self, key: Key) -> Result<Option<T>, Error> {
        let Some(place) = self.value(key) else { return Ok(None) };
        serde_json::from_slice(&self.document[place]).map(Some).map_err(|error| {
            let why = error.to_string();
            let why = why.split(" at line ").next().unwrap_or_default();
            malformed(format!("{}: {why}", key.name()))
        })
    }

    /// Where a value is; null is none.
    fn value(&self, key: Key) -> Option<Range<usize>> {
        self.members.value(key).filter(|place| self.document[place.clone()] != b"null"[..])
    }
}

/// Whether a key is one of the verb's own.
fn takes(verb: Verb, key: Key) -> bool {
    match key {
        Key::Op | Key::Id => true,
        Key::Subject | Key::Headers | Key::TimeoutMs | Key::Traceparent | Key::Tracestate => verb.asks(),
        Key::Idempotent => matches!(verb, Verb::Publish | Verb::Request),
        Key::Position | Key::QueuePolicy | Key::QueueMessagesMax | Key::QueueBytesMax => {
            verb == Verb::Subscribe
        }
        Key::Payload | Key::PayloadBase64 => verb.has_payload(),
    }
}

fn repeated(key: Key) -> Error {
    malformed(format!("the key \"{}\" comes twice", key.name()))
}

fn id_error() -> Error {
    Error::new(Kind::Invalid, "an id is an integer from 0 to 2^64-1, or a text of 1 to 64 bytes")
}

/// Headers as JSON has them: an object whose values are texts or lists of texts.
#[derive(Debug, Default)]
struct HeaderList {
    headers: Headers,
    refused: Option<HeaderError>,
}

impl HeaderList {
    fn take(self) -> Result<Headers, Error> {
        self.refused.map_or(Ok(self.headers), |error| Err(header_error(error)))
    }
}

impl<'de> Deserialize<'de> for HeaderList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for HeaderList {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of texts or lists of texts")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Self, A::Error> {
        while let Some(name) = entries.next_key::<String>()? {
            entries.next_value_seed(Values { list: &mut self, name: name.into() })?;
        }
        Ok(self)
    }
}

/// The value or the values of one header, appended as they are read: a list of them is never kept.
struct Values<'a> {
    list: &'a mut HeaderList,
    name: ByteString,
}

impl Values<'_> {
    fn append(&mut self, value: &str) {
        if self.list.refused.is_none() {
            self.list.refused = self.list.headers.append(self.name.clone(), value).err();
        }
    }
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text or a list of texts")
    }

    fn visit_str<E>(mut self, value: &str) -> Result<(), E> {
        self.append(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut values: A) -> Result<(), A::Error> {
        while let Some(value) = values.next_element::<Cow<'de, str>>()? {
            self.append(&value);
        }
        Ok(())
    }
}
