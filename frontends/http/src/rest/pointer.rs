//! A part of a JSON text by its pointer (RFC 6901), as a slice of the text: nothing is copied and no tree is made.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use wire::json::Text;

/// A pointer that has been checked, such as `/error/details`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<Box<str>>);

impl Pointer {
    /// Reads a pointer: `/`, then the names of members (or the places of elements, from 0) with `/` between them;
    /// within a name `~1` stands for `/` and `~0` for `~`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('/').ok_or("a JSON pointer starts with /")?;
        let plain = |token: &str| {
            let escaped = token.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
            escaped.then(|| token.replace("~1", "/").replace("~0", "~").into_boxed_str())
        };
        let tokens: Option<_> = rest.split('/').map(plain).collect();
        tokens.map(Self).ok_or_else(|| "in a JSON pointer ~ is written ~0, and / in a name ~1".to_owned())
    }

    /// The part of `json` that it points at; `None` if there is none, or if the text is no JSON. Of a name that
    /// repeats the last one counts.
    pub(crate) fn find<'a>(&self, json: &'a [u8]) -> Option<&'a RawValue> {
        let mut value: &RawValue = serde_json::from_slice(json).ok()?;
        for token in &self.0 {
            let mut deserializer = serde_json::Deserializer::from_str(value.get());
            value = Step(token).deserialize(&mut deserializer).ok()??;
        }
        Some(value)
    }
}

/// One step of the way: the member or element of this name.
struct Step<'p>(&'p str);

impl<'a> DeserializeSeed<'a> for Step<'_> {
    type Value = Option<&'a RawValue>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

// What is neither an object nor an array has no parts: the default of every other visit is an error, which is
// the same as nothing found.
impl<'a> Visitor<'a> for Step<'_> {
    type Value = Option<&'a RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Text(key)) = map.next_key()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        // RFC 6901: digits without a leading zero.
        let digits = self.0.bytes().all(|byte| byte.is_ascii_digit());
        let place = (digits && (self.0 == "0" || !self.0.starts_with('0'))).then(|| self.0.parse::<usize>());
        let Some(Ok(place)) = place else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let (mut found, mut at) = (None, 0);
        loop {
            if at == place {
                found = list.next_element()?;
                if found.is_none() {
                    return Ok(None);
                }
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn found<'a>(pointer: &str, json: &'a str) -> Option<&'a str> {
        Pointer::parse(pointer).unwrap().find(json.as_bytes()).map(RawValue::get)
    }

    #[test]
    fn a_part_is_given_as_it_was_written() {
        let json = r#" {"health": { "a":1.50, "b" : [ 1e3, {"c":null} ] }, "a/b":"x", "\u0061":7, "~":0} "#;
        assert_eq!(found("/health", json), Some(r#"{ "a":1.50, "b" : [ 1e3, {"c":null} ] }"#));
        assert_eq!(found("/health/a", json), Some("1.50"));
        assert_eq!(found("/health/b/0", json), Some("1e3"));
        assert_eq!(found("/health/b/1/c", json), Some("null"));
        assert_eq!(
            (found("/a~1b", json), found("/a", json), found("/~0", json)),
            (Some("\"x\""), Some("7"), Some("0"))
        );
        for nothing in
            ["/health/b/2", "/health/b/01", "/health/b/-", "/health/a/x", "/nothing", "/", "/a~1b/x"]
        {
            assert_eq!(found(nothing, json), None, "{nothing}");
        }
        assert_eq!(found("/a", r#"{"a":1,"a":2}"#), Some("2"));
        assert_eq!(found("/a", "{\"a\":1"), None);
        assert_eq!(found("/a", "{\"a\":1} x"), None);
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for bad in ["", "a", "/~", "/~2", "/a~"] {
            assert!(Pointer::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// The same as the tree of `serde_json` says.
        #[test]
        fn finds_what_a_tree_finds(text in r#"[\[\]{}",:0-2a\\ ]{0,24}"#, pointer in "(/[0-2a~]{0,2}){1,3}") {
            let tree = serde_json::from_str::<Value>(&text).ok();
            if let Ok(parsed) = Pointer::parse(&pointer) {
                let mine = parsed.find(text.as_bytes()).map(|raw| serde_json::from_str::<Value>(raw.get()).unwrap());
                prop_assert_eq!(mine, tree.and_then(|tree| tree.pointer(&pointer).cloned()));
            }
        }
    }
}
