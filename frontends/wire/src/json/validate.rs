//! The strict pass over a document that is complete: is it JSON, all of it, and nothing but it?
//!
//! `serde_json` drives a visitor that visits everything and keeps nothing, so no tree is built. Visiting, unlike
//! ignoring, makes it look into strings and numbers: bad UTF-8, lone surrogates and numbers that no `f64` holds
//! are found. Its limit on recursion is on, so that nesting cannot overflow the stack.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Checks one JSON text (RFC 8259), strictly:
/// - UTF-8 throughout, no byte order mark;
/// - numbers that a finite `f64` can hold (`1e400` is refused, `1e-400` is zero);
/// - no raw control characters in strings, and in `\u` escapes no half of a surrogate pair;
/// - at most [`DEPTH_MAX`](super::DEPTH_MAX) arrays and objects within each other;
/// - nothing but white space around it.
///
/// Keys that repeat are allowed, and what they mean is the backend's business.
pub fn validate(text: &[u8]) -> Result<(), JsonError> {
    serde_json::from_slice::<Visited>(text).map(drop).map_err(|error| JsonError::of(text, 0, &error))
}

/// Where and why a text is not JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} at line {line} column {column}")]
pub struct JsonError {
    /// Bytes read when it was noticed: the culprit is the last of them, or the end of the text.
    pub offset: usize,
    /// Line, from 1.
    pub line: usize,
    /// Bytes read of that line.
    pub column: usize,
    /// Why, without the place.
    pub text: String,
}

impl JsonError {
    /// What `serde_json` says about `text[start..]`, with its place in the whole of `text`.
    pub(super) fn of(text: &[u8], start: usize, error: &serde_json::Error) -> Self {
        let lines_before = error.line().saturating_sub(1);
        let lines = text[start..].split_inclusive(|byte| *byte == b'\n');
        let before: usize = lines.take(lines_before).map(<[u8]>::len).sum();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let mut why = error.to_string();
        if why.ends_with(&place) {
            why.truncate(why.len() - place.len());
        }
        Self::at(text, start + before + error.column(), why)
    }

    /// An error noticed when the first `offset` bytes of `text` were read.
    pub(super) fn at(text: &[u8], offset: usize, why: impl Into<String>) -> Self {
        let offset = offset.min(text.len());
        // A newline ends its own line.
        let read = &text[..offset];
        let line_start = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let line = read.split(|byte| *byte == b'\n').count();
        Self { offset, line, column: offset - line_start, text: why.into() }
    }
}

/// A value that was looked at, and how many arrays and objects are within each other in it.
pub(super) struct Visited {
    pub(super) height: usize,
}

/// A value without other values.
const LEAF: Visited = Visited { height: 0 };

impl<'de> Deserialize<'de> for Visited {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LEAF)
    }
}

impl<'de> Visitor<'de> for Visited {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        let mut height = 0;
        while let Some(element) = elements.next_element::<Self>()? {
            height = height.max(element.height);
        }
        Ok(Self { height: height + 1 })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        let mut height = 0;
        while let Some((_, value)) = entries.next_entry::<Self, Self>()? {
            height = height.max(value.height);
        }
        Ok(Self { height: height + 1 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::DEPTH_MAX;
    use super::*;

    #[test]
    fn takes_what_is_json() {
        for text in [
            "{}",
            " [1, -0.5e-3, 18446744073709551616] ",
            "\"\\ud83d\\ude00 \\u0000 \u{7f}\"",
            "null",
            "1e-400",
            "{\"a\":1,\"a\":{\"$serde_json::private::RawValue\":2}}",
            "\r\n\t true\n",
        ] {
            assert_eq!(validate(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "EOF"),
            (b"  ", "EOF"),
            (b"{\"a\":1", "EOF"),
            (b"{\"a\" 1}", "expected `:`"),
            (b"{\"a\":1,}", "trailing comma"),
            (b"[1 2]", "expected `,`"),
            (b"{]", "key must be a string"),
            (b"{1:2}", "key must be a string"),
            (b"01", "invalid number"),
            (b"+1", "expected value"),
            (b"NaN", "expected value"),
            (b"tru", "EOF"),
            (b"1e400", "number out of range"),
            (b"[-1e999]", "number out of range"),
            (b"\"\\ud800\"", "unexpected end of hex escape"),
            (b"\"\\udc00\"", "lone leading surrogate"),
            (b"\"\\x\"", "invalid escape"),
            (b"\"\xff\"", "invalid unicode code point"),
            (b"\"\xed\xa0\x80\"", "invalid unicode code point"),
            (b"{\"\xc3\":1}", "invalid unicode code point"),
            (b"\"\0\"", "control character"),
            (b"\"a\nb\"", "control character"),
            (b"\xef\xbb\xbf{}", "expected value"),
            (b"{}\0", "trailing characters"),
            (b"{} {}", "trailing characters"),
        ];
        for (text, why) in cases {
            let shown = String::from_utf8_lossy(text);
            let error = validate(text).expect_err(&shown);
            assert!(error.text.contains(why), "{shown}: {error}");
            assert!(!error.text.contains(" at line "), "{error}");
        }
    }

    #[test]
    fn says_where() {
        let error = validate(b"{\n  \"a\": 1,\n  \"b\": x\n}").unwrap_err();
        assert_eq!((error.offset, error.line, error.column), (20, 3, 8));
        assert_eq!(error.to_string(), "expected value at line 3 column 8");
        assert_eq!(validate(b"[1,").unwrap_err().offset, 3);
    }

    #[test]
    fn nesting_has_a_limit_and_never_overflows_the_stack() {
        let nested = |open: &str, close: &str, depth| open.repeat(depth) + "1" + &close.repeat(depth);
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert_eq!(validate(nested(open, close, DEPTH_MAX).as_bytes()), Ok(()));
            let error = validate(nested(open, close, DEPTH_MAX + 1).as_bytes()).unwrap_err();
            assert_eq!(error.text, "recursion limit exceeded");
            assert!(validate(nested(open, close, 1_000_000).as_bytes()).is_err());
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_tree(text in proptest::collection::vec(
            proptest::sample::select(&b"{}[]\":,01e+-.\\utrfalsn \n\0\xc3\xa9"[..]), 0..24,
        )) {
            let tree = serde_json::from_slice::<serde_json::Value>(&text);
            prop_assert_eq!(validate(&text).is_ok(), tree.is_ok());
        }

        #[test]
        fn arbitrary_bytes_never_panic(text: Vec<u8>) {
            if let Err(error) = validate(&text) {
                prop_assert!(error.offset <= text.len());
            }
        }
    }
}
