//! From a request of HTTP to what its headers ask for.
//!
//! | header | means |
//! |---|---|
//! | `X-Request-Timeout` | the deadline: milliseconds, or a number with a unit (`250ms`, `2s`, `1m`) |
//! | `Idempotency-Key`, `X-Idempotent: true` | doing it twice is the same as doing it once |
//! | `traceparent`, `tracestate` | the trace it belongs to (W3C Trace Context) |
//!
//! A header that the door reads and cannot make sense of is refused: a deadline that is let go is found in
//! production.

use std::time::Duration;

use axum::http::HeaderMap;
use bytestring::ByteString;
use contract::{Error, Kind, TraceContext};

/// Name of the deadline's header.
pub(crate) const TIMEOUT: &str = "x-request-timeout";
/// Names of the headers that say a request may be done twice.
pub(crate) const IDEMPOTENT: [&str; 2] = ["idempotency-key", "x-idempotent"];

/// The deadline that a request asks for.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(text) = single(headers, TIMEOUT)? else { return Ok(None) };
    let wrong = || {
        let what =
            "X-Request-Timeout is a whole number above 0: of milliseconds, or with the unit ms, s or m";
        Error::new(Kind::Malformed, what)
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let each = match &text[digits..] {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    match number.checked_mul(each) {
        Some(millis) if millis > 0 => Ok(Some(Duration::from_millis(millis))),
        _ => Err(wrong()),
    }
}

/// Whether it may be done twice.
pub(crate) fn idempotent(headers: &HeaderMap) -> Result<bool, Error> {
    said_idempotent(headers).map(|said| said.unwrap_or(false))
}

/// The same, if the headers say anything about it.
pub(crate) fn said_idempotent(headers: &HeaderMap) -> Result<Option<bool>, Error> {
    let [key, flag] = IDEMPOTENT;
    match single(headers, flag)? {
        None => Ok(headers.contains_key(key).then_some(true)),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(Error::new(Kind::Malformed, "X-Idempotent is true or false")),
    }
}

/// The trace it belongs to. What cannot be read is ignored, as the specification demands, and a new one begins.
pub(crate) fn trace(headers: &HeaderMap) -> TraceContext {
    let text = |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
    let mut parents = text("traceparent");
    let (Some(parent), None) = (parents.next(), parents.next()) else { return TraceContext::start() };
    // Lines of one list (section 3.3.1.1 refers to RFC 9110, 5.3).
    let states: Vec<_> = text("tracestate").collect();
    let state = (!states.is_empty()).then(|| ByteString::from(states.join(",")));
    TraceContext::parse(parent, state.as_ref()).unwrap_or_else(|_| TraceContext::start())
}

/// The value of a header that stands once.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.trim())),
        _ => Err(Error::new(Kind::Malformed, format!("{name} stands once, and in ASCII"))),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(entries: &[(&'static str, &'static str)]) -> HeaderMap {
        let entry = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        entries.iter().map(entry).collect()
    }

    #[test]
    fn a_timeout_is_milliseconds_or_has_a_unit() {
        let of = |text| timeout(&headers(&[(TIMEOUT, text)]));
        for (text, millis) in [("250", 250), ("250ms", 250), ("2s", 2000), ("1m", 60_000), ("0001", 1)] {
            assert_eq!(of(text).unwrap(), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "0",
            "0s",
            "-1",
            "+1",
            "1.5s",
            "1 s",
            "1h",
            "s",
            "1S",
            "99999999999999999999",
            "99999999999999999m",
        ] {
            assert_eq!(of(text).unwrap_err().kind(), Kind::Malformed, "{text}");
        }
        assert_eq!(timeout(&headers(&[])).unwrap(), None);
        assert!(timeout(&headers(&[(TIMEOUT, "1"), (TIMEOUT, "2")])).is_err());
    }

    #[test]
    fn a_key_or_a_flag_makes_it_idempotent() {
        let of = |entries| idempotent(&headers(entries)).unwrap();
        assert!(of(&[("idempotency-key", "a")]) && of(&[("x-idempotent", "true")]));
        assert!(!of(&[]) && !of(&[("x-idempotent", "false"), ("idempotency-key", "a")]));
        assert!(idempotent(&headers(&[("x-idempotent", "yes")])).is_err());
    }

    #[test]
    fn a_trace_is_continued_or_begun() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let continued =
            trace(&headers(&[("traceparent", parent), ("tracestate", "a=1"), ("tracestate", "b=2")]));
        assert_eq!(
            (continued.traceparent(), continued.tracestate().unwrap()),
            (parent.into(), &"a=1,b=2".into())
        );
        let begun = trace(&headers(&[("traceparent", parent), ("traceparent", parent)]));
        assert_ne!(begun.trace_id().to_string(), continued.trace_id().to_string());
    }
}
