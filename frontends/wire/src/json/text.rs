//! A JSON string as Rust has it: borrowed from the document, unless it was written with escapes.
//!
//! `serde` borrows a plain `Cow` only as a field of derived code, and names of members are read by hand here and in
//! the crates around: they are compared and let go, so a copy of each would be work for nothing.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// The string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'a> Deserialize<'a> for Text<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Reader)
    }
}

struct Reader;

impl<'a> Visitor<'a> for Reader {
    type Value = Text<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'a str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_with_escapes_is_copied() {
        let read = |json| serde_json::from_str::<Text<'_>>(json).map(|Text(text)| text);
        assert!(matches!(read(r#""plain""#), Ok(Cow::Borrowed("plain"))));
        assert!(matches!(read(r#""\u0061""#), Ok(Cow::Owned(text)) if text == "a"));
        assert!(read("1").is_err());
    }
}
