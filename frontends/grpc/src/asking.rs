//! From the head of a call to what it asks for: its deadline, its trace, its headers.

use std::time::Duration;

use bytestring::ByteString;
use contract::{Error, HeaderError, Headers, Kind, TraceContext};
use hyper::HeaderMap;
use wire::names::{HeaderNames, written};

use crate::proto;

/// Name of the deadline's header.
pub(crate) const TIMEOUT: &str = "grpc-timeout";
/// The longest deadline that means anything: what is longer is cut to it. The longest that can be written,
/// 99999999 hours, is beyond any clock.
const TIMEOUT_MAX: Duration = Duration::from_hours(365 * 24);
/// Digits of a deadline (gRPC over HTTP2, "Timeout").
const DIGITS_MAX: usize = 8;

/// What is a connection's or the door's own, or a part of gRPC itself.
const NEVER: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "date",
    "host",
    "keep-alive",
    "proxy-connection",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
/// And what starts so. Binary metadata (`-bin`) has no form as a header of NATS, see [`is_binary`].
const NEVER_PREFIXES: &[&str] = &["grpc-", ":", "access-control-", "x-grpc-web"];
/// Credentials, which were meant for the gateway.
const NEVER_ASKED: &[&str] = &["authorization", "cookie", "proxy-authorization"];
/// What would make a browser trust, keep or open something in the gateway's name.
const NEVER_ANSWERED: &[&str] = &["location", "set-cookie", "vary"];

/// Which metadata of a call is handed on.
pub(crate) fn request_names(list: &[String]) -> HeaderNames {
    HeaderNames::new(list, &[NEVER, NEVER_ASKED], NEVER_PREFIXES).with_those_of_rules()
}

/// Which headers of a responder come back as metadata.
pub(crate) fn response_names(list: &[String]) -> HeaderNames {
    HeaderNames::new(list, &[NEVER, NEVER_ANSWERED], NEVER_PREFIXES)
}

/// The deadline that a call asks for; `Some(0)` is one that has passed. What is no deadline is refused, since
/// one that is let go is found in production.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let mut values = headers.get_all(TIMEOUT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let wrong = || {
        let text =
            "grpc-timeout stands once: 1 to 8 digits, then one of H, M, S, m, u and n (gRPC over HTTP2)";
        Error::new(Kind::Malformed, text)
    };
    let (Some((unit, digits)), None) = (value.as_bytes().split_last(), values.next()) else {
        return Err(wrong());
    };
    if !(1..=DIGITS_MAX).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let number = digits.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
    let timeout = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(wrong()),
    };
    Ok(Some(timeout.min(TIMEOUT_MAX)))
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

/// A message's headers: those of the metadata that are listed, then its own. What cannot be held is refused,
/// never dropped.
pub(crate) fn headers(
    names: &HeaderNames,
    metadata: &HeaderMap,
    own: Vec<proto::Header>,
) -> Result<Headers, Error> {
    let mut headers = Headers::new();
    for (name, value) in metadata {
        if !names.takes(name.as_str()) || is_binary(name.as_str()) {
            continue;
        }
        let value = ByteString::try_from(value.as_bytes())
            .map_err(|_| Error::new(Kind::Malformed, format!("the metadata {name} is not UTF-8")))?;
        headers.append(written(name.as_str()), value).map_err(|error| refused(error, name.as_str()))?;
    }
    add(&mut headers, own)?;
    Ok(headers)
}

/// Adds a message's own headers.
pub(crate) fn add(headers: &mut Headers, own: Vec<proto::Header>) -> Result<(), Error> {
    for proto::Header { name, value } in own {
        let name = ByteString::from(name);
        headers.append(name.clone(), value).map_err(|error| refused(error, &name))?;
    }
    Ok(())
}

fn refused(error: HeaderError, name: &str) -> Error {
    let kind = match error {
        HeaderError::Name | HeaderError::Value => Kind::Invalid,
        HeaderError::TooMany | HeaderError::TooLarge => Kind::TooLarge,
    };
    let name: String = name.chars().take(64).flat_map(char::escape_default).collect();
    Error::new(kind, format!("the header {name}: {error}"))
}

/// Whether metadata of this name is bytes in base64 (gRPC over HTTP2, "Binary-Header").
pub(crate) fn is_binary(name: &str) -> bool {
    name.ends_with("-bin")
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn map(entries: &[(&'static str, &'static str)]) -> HeaderMap {
        let entry = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        entries.iter().map(entry).collect()
    }

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        let of = |text| timeout(&map(&[(TIMEOUT, text)]));
        for (text, expected) in [
            ("1H", Duration::from_hours(1)),
            ("2M", Duration::from_mins(2)),
            ("3S", Duration::from_secs(3)),
            ("00000004m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("6n", Duration::from_nanos(6)),
            ("0S", Duration::ZERO),
            ("99999999H", TIMEOUT_MAX),
        ] {
            assert_eq!(of(text).unwrap(), Some(expected), "{text}");
        }
        for text in ["", "1", "H", "123456789n", "-1S", "+1S", "1 S", "1s", "1.5S", "1SS", "٣S"] {
            let map: HeaderMap =
                [(HeaderName::from_static(TIMEOUT), HeaderValue::from_bytes(text.as_bytes()).unwrap())]
                    .into_iter()
                    .collect();
            assert_eq!(timeout(&map).unwrap_err().kind(), Kind::Malformed, "{text}");
        }
        assert!(timeout(&map(&[(TIMEOUT, "1S"), (TIMEOUT, "1S")])).is_err());
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn metadata_is_taken_as_listed_before_a_messages_own_headers() {
        let names = request_names(&["*".to_owned()]);
        let metadata = map(&[
            ("x-a", "1"),
            ("x-b-bin", "AAAA"),
            ("authorization", "secret"),
            ("grpc-timeout", "1S"),
            ("nats-msg-id", "1"),
            ("user-agent", "me"),
        ]);
        let own = |name: &str| vec![proto::Header { name: name.to_owned(), value: "2".to_owned() }];
        let taken = headers(&names, &metadata, own("X-A")).unwrap();
        let taken: Vec<_> = taken.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(taken, ["X-A=1", "X-A=2"]);
        assert_eq!(headers(&names, &metadata, own("bad name")).unwrap_err().kind(), Kind::Invalid);
        let foreign = [(HeaderName::from_static("x-a"), HeaderValue::from_bytes(b"\xff").unwrap())];
        let error = headers(&names, &foreign.into_iter().collect(), Vec::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed);
    }
}
