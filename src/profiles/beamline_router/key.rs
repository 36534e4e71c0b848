//! The idempotency key of a decide body. It is read here and never sent on: the router answers a key that it has seen
//! with silence, so the gateway gives the answer again instead (`services::idempotency`).

use std::borrow::Cow;

use contract::Error;
use wire::json::Text;

use super::members::Keyed;
use super::{invalid, is_null, is_text};

/// The member `idempotency_key` at the top of a decide body. An empty one is none, as for the router. A payload that is
/// not JSON has none either: what is wrong with it is told when the body is made.
pub fn idempotency_key(payload: &[u8]) -> Result<Option<Cow<'_, str>>, Error> {
    // Most have none, and are not read for that: the name is nowhere, nor an escape that could spell it.
    let may_have_one = |text: &str| text.contains("idempotency_key") || text.contains('\\');
    if !std::str::from_utf8(payload).is_ok_and(may_have_one) {
        return Ok(None);
    }
    let Ok(Keyed { key }) = Keyed::read(payload) else { return Ok(None) };
    let Some(key) = key.filter(|key| !is_null(key)) else { return Ok(None) };
    if !is_text(key) {
        return Err(invalid("idempotency_key must be a text"));
    }
    let Ok(Text(key)) = serde_json::from_str(key.get()) else {
        return Err(invalid("idempotency_key must be a text"));
    };
    Ok(Some(key).filter(|key| !key.is_empty()))
}

#[cfg(test)]
mod tests {
    use contract::Kind;

    use super::*;

    #[test]
    fn a_key_is_a_text_at_the_top() {
        let cases: [(&str, Result<Option<&str>, Kind>); 11] = [
            (r#"{"idempotency_key":"k1"}"#, Ok(Some("k1"))),
            (r#" {"task":{"idempotency_key":"inner"},"idempotency_key":"outer"}"#, Ok(Some("outer"))),
            (r#"{"idempotency_key":"a","idempotency_key":"b"}"#, Ok(Some("b"))),
            (r#"{"idempotency\u005fkey":"\u006b"}"#, Ok(Some("k"))),
            (r#"{"idempotency_key":null}"#, Ok(None)),
            (r#"{"idempotency_key":""}"#, Ok(None)),
            (r#"{"task":{"idempotency_key":"inner"}}"#, Ok(None)),
            (r#"["idempotency_key"]"#, Ok(None)),
            ("{", Ok(None)),
            (r#"{"idempotency_key":7}"#, Err(Kind::Invalid)),
            (r#"{"idempotency_key":{}}"#, Err(Kind::Invalid)),
        ];
        for (payload, expected) in cases {
            let key = idempotency_key(payload.as_bytes());
            assert_eq!(key.as_ref().map(Option::as_deref).map_err(Error::kind), expected, "{payload}");
        }
    }
}
