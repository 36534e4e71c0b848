//! The members of a document that is an object: the one strict pass over it, which remembers where the
//! envelope's own keys have their values.
//!
//! Only the outermost braces are read here; each value is read by `serde_json` with the visitor of
//! [`super::validate`], so that the same texts are JSON. Where a value ends is thus known without reading it
//! twice, and a payload can be cut out of the document.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Visitor};

use super::validate::{JsonError, Visited};
use super::{DEPTH_MAX, blank};

/// A key that the envelope gives a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Op,
    Id,
    Subject,
    Headers,
    TimeoutMs,
    Idempotent,
    Traceparent,
    Tracestate,
    Position,
    QueuePolicy,
    QueueMessagesMax,
    QueueBytesMax,
    Payload,
    PayloadBase64,
}

impl Key {
    /// All of them, in their order.
    pub(super) const ALL: [(Self, &'static str); 14] = [
        (Self::Op, "op"),
        (Self::Id, "id"),
        (Self::Subject, "subject"),
        (Self::Headers, "headers"),
        (Self::TimeoutMs, "timeout_ms"),
        (Self::Idempotent, "idempotent"),
        (Self::Traceparent, "traceparent"),
        (Self::Tracestate, "tracestate"),
        (Self::Position, "position"),
        (Self::QueuePolicy, "queue_policy"),
        (Self::QueueMessagesMax, "queue_messages_max"),
        (Self::QueueBytesMax, "queue_bytes_max"),
        (Self::Payload, "payload"),
        (Self::PayloadBase64, "payload_base64"),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Where the members are. Of a key that repeats, the last one counts.
#[derive(Debug, Default)]
pub(super) struct Members {
    values: [Option<Range<usize>>; Key::ALL.len()],
    /// The first of the envelope's keys that came again.
    pub(super) repeated: Option<Key>,
    /// The first key that is none of the envelope's, in its quotes.
    pub(super) unknown: Option<Range<usize>>,
}

impl Members {
    /// Reads a whole document, as strictly as [`super::validate`]. It must be an object.
    pub(super) fn read(text: &[u8]) -> Result<Self, JsonError> {
        let (mut members, mut at) = (Self::default(), blank(text));
        expect(text, &mut at, b'{', "expected an object")?;
        at += blank(&text[at..]);
        if text.get(at) == Some(&b'}') {
            at += 1;
        } else {
            loop {
                members.read_member(text, &mut at)?;
                at += blank(&text[at..]);
                match text.get(at) {
                    Some(b',') => at += 1,
                    Some(b'}') => break at += 1,
                    Some(_) => return Err(JsonError::at(text, at + 1, "expected `,` or `}`")),
                    None => return Err(JsonError::at(text, at, ENDED)),
                }
            }
        }
        at += blank(&text[at..]);
        if at < text.len() { Err(JsonError::at(text, at + 1, "trailing characters")) } else { Ok(members) }
    }

    /// Where the value of `key` is, without the white space around it.
    pub(super) fn value(&self, key: Key) -> Option<Range<usize>> {
        self.values[key as usize].clone()
    }

    /// The keys of the envelope that are there.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        Key::ALL.into_iter().map(|(key, _)| key).filter(|key| self.values[*key as usize].is_some())
    }

    fn read_member(&mut self, text: &[u8], at: &mut usize) -> Result<(), JsonError> {
        *at += blank(&text[*at..]);
        match text.get(*at) {
            Some(b'"') => {}
            Some(b'}') => return Err(JsonError::at(text, *at + 1, "trailing comma")),
            Some(_) => return Err(JsonError::at(text, *at + 1, "key must be a string")),
            None => return Err(JsonError::at(text, *at, ENDED)),
        }
        let (key, place) = one::<Name>(text, at)?;
        expect(text, at, b':', "expected `:`")?;
        let (visited, value) = one::<Visited>(text, at)?;
        if visited.height >= DEPTH_MAX {
            return Err(JsonError::at(text, value.start, "recursion limit exceeded"));
        }
        match key.0 {
            Some(key) => {
                if self.values[key as usize].replace(value).is_some() {
                    self.repeated.get_or_insert(key);
                }
            }
            None => {
                self.unknown.get_or_insert(place);
            }
        }
        Ok(())
    }
}

const ENDED: &str = "EOF while parsing an object";

fn expect(text: &[u8], at: &mut usize, byte: u8, why: &str) -> Result<(), JsonError> {
    *at += blank(&text[*at..]);
    match text.get(*at) {
        Some(found) if *found == byte => *at += 1,
        Some(_) => return Err(JsonError::at(text, *at + 1, why)),
        None => return Err(JsonError::at(text, *at, ENDED)),
    }
    Ok(())
}

/// Reads one value behind white space, and says where it is.
fn one<'a, T: Deserialize<'a>>(text: &'a [u8], at: &mut usize) -> Result<(T, Range<usize>), JsonError> {
    *at += blank(&text[*at..]);
    let start = *at;
    let mut values = serde_json::Deserializer::from_slice(&text[start..]).into_iter::<T>();
    match values.next() {
        Some(Ok(value)) => {
            *at = start + values.byte_offset();
            Ok((value, start..*at))
        }
        Some(Err(error)) => Err(JsonError::of(text, start, &error)),
        None => Err(JsonError::at(text, start, ENDED)),
    }
}

/// A key, or `None` for one that means nothing here.
struct Name(Option<Key>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Self(None))
    }
}

impl Visitor<'_> for Name {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self, E> {
        Ok(Self(Key::ALL.into_iter().find(|(_, name)| *name == text).map(|(key, _)| key)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::validate;
    use super::*;

    #[test]
    fn values_are_cut_out_without_white_space() {
        let text = br#" { "payload" :  [1, {"op": 2}] , "id":7 ,"x":"}", "\u006fp": "\"" } "#;
        let members = Members::read(text).unwrap();
        let value = |key| members.value(key).map(|place| std::str::from_utf8(&text[place]).unwrap());
        assert_eq!(value(Key::Payload), Some(r#"[1, {"op": 2}]"#));
        assert_eq!(value(Key::Id), Some("7"));
        assert_eq!(value(Key::Op), Some(r#""\"""#));
        assert_eq!(value(Key::Subject), None);
        assert_eq!(members.unknown.map(|place| &text[place]), Some(&b"\"x\""[..]));
        assert_eq!(members.repeated, None);
        assert_eq!(Members::read(b"{\"a\":1,\"id\":1,\"id\":2}").unwrap().repeated, Some(Key::Id));
    }

    #[test]
    fn keys_are_in_their_order() {
        assert!(Key::ALL.iter().enumerate().all(|(index, (key, _))| *key as usize == index));
    }

    #[test]
    fn says_where() {
        let error = Members::read(b"{\n  \"a\": 1,\n  \"b\": x\n}").unwrap_err();
        assert_eq!(error, validate(b"{\n  \"a\": 1,\n  \"b\": x\n}").unwrap_err());
        assert_eq!(Members::read(b"{\"a\":1").unwrap_err().offset, 6);
    }

    #[test]
    fn nesting_counts_the_document_itself() {
        for depth in [DEPTH_MAX - 1, DEPTH_MAX, DEPTH_MAX + 1, 100_000] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                let text = format!("{{\"a\":{}1{}}}", open.repeat(depth), close.repeat(depth));
                assert_eq!(
                    Members::read(text.as_bytes()).is_ok(),
                    validate(text.as_bytes()).is_ok(),
                    "{depth}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_strict_pass(text in prop::collection::vec(
            prop::sample::select(&b"{}[]\":,01e-.\\u8dc0trualfsn \n\0\xc3\xa9"[..]), 0..16,
        )) {
            let text = [b"{\"a\":", &text[..], b"}"].concat();
            prop_assert_eq!(Members::read(&text).is_ok(), validate(&text).is_ok());
        }

        #[test]
        fn agrees_on_structure(tokens in prop::collection::vec(
            prop::sample::select(&["{", "}", ",", ":", "\"a\"", "\"id\"", "1", "[", "]", " ", "null"][..]), 0..12,
        )) {
            let text = format!("{{{}", tokens.concat());
            let (ours, theirs) = (Members::read(text.as_bytes()), validate(text.as_bytes()));
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}: {:?} {:?}", text, ours, theirs);
        }
    }
}
