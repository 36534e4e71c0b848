//! Whether an object is large enough for the router, which measures it decoded and encoded again: without white
//! space, escapes or keys that repeat.
//!
//! A lower bound that stops counting as soon as it is enough: a few bytes are looked at of most payloads, and nesting
//! cannot make it recurse, because each level counts.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use wire::json::Text;

/// Whether the compact encoding of `value` surely has `wanted` bytes.
pub(super) fn fills(value: &str, wanted: usize) -> bool {
    let mut reader = serde_json::Deserializer::from_str(value);
    Measure { wanted }.deserialize(&mut reader).is_ok_and(|bytes| bytes >= wanted)
}

/// Measures a value until it has as many bytes as are wanted; gives what was counted.
#[derive(Clone, Copy)]
struct Measure {
    wanted: usize,
}

impl Measure {
    fn after(self, bytes: usize) -> Self {
        Self { wanted: self.wanted.saturating_sub(bytes) }
    }
}

impl<'de> DeserializeSeed<'de> for Measure {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        if self.wanted == 0 {
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| 0);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Measure {
    type Value = usize;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<usize, E> {
        Ok("null".len())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<usize, E> {
        Ok(if value { "true".len() } else { "false".len() })
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<usize, E> {
        self.visit_u64(value.unsigned_abs()).map(|digits: usize| digits + 1)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<usize, E> {
        Ok(value.checked_ilog10().map_or(1, |exponent| exponent as usize + 1))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<usize, E> {
        // The shortest forms: a zero may come back whole, another has a point and digits around it, and what no
        // integer here holds has an exponent or all its digits.
        Ok(match value.abs() {
            zero if zero < f64::MIN_POSITIVE => 1,
            large if large >= 1e19 => "1.0e19".len(),
            _ => "0.1".len(),
        })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
        Ok(text.len() + 2)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<usize, A::Error> {
        let mut bytes = 2;
        let mut comma = 0;
        while let Some(element) = elements.next_element_seed(self.after(bytes + comma))? {
            bytes += comma + element;
            comma = 1;
        }
        Ok(bytes)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let Some(Text(first)) = map.next_key()? else { return Ok(2) };
        // {"":}
        let frame = first.len() + 5;
        let mut value = map.next_value_seed(self.after(frame))?;
        while let Some(Text(key)) = map.next_key()? {
            if key == first {
                // Which of them the router keeps is not known: the smaller one has to do.
                value = value.min(map.next_value_seed(self.after(frame))?);
                continue;
            }
            map.next_value::<IgnoredAny>()?;
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            // Another key, of any length, with any value: ,"":1
            return Ok(frame + value.max(1) + 5);
        }
        Ok(frame + value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_surely_fills_ten_bytes_does() {
        let cases = [
            ("{}", false),
            ("{          }", false),
            (r#"{"a":1}"#, false),
            (r#"{"a":"\u0041\u0042"}"#, true),
            (r#"{"a":"\u0041"}"#, false),
            (r#"{"a":1,"a":2,"a":3}"#, false),
            (r#"{"a":"long enough","a":3}"#, false),
            (r#"{"a":1,"":2}"#, true),
            (r#"{"a":1,"\u0061":2}"#, false),
            (r#"{"a":1234}"#, true),
            (r#"{"a":123}"#, false),
            (r#"{"a":1e0}"#, false),
            (r#"{"ab":-1.0e0}"#, true),
            (r#"{"a":-0}"#, false),
            (r#"{"a":12345678901234567890123}"#, true),
            (r#"{"a":null}"#, true),
            (r#"{"a":[ 1, 2 ]}"#, true),
            (r#"{"a":[  1  ]}"#, false),
            (r#"{"a":{"b":{}}}"#, true),
        ];
        for (text, expected) in cases {
            assert_eq!(fills(text, 10), expected, "{text}");
        }
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(fills(&deep, 10));
    }
}
