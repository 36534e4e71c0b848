//! Which headers pass between HTTP and messages: the door's own lists of what never does.
//!
//! What belongs to the connection or to the door itself never passes, whatever the list says, and neither do
//! credentials, which were meant for the gateway.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytestring::ByteString;
use contract::{Error, Headers, Kind};
use wire::names::written;

/// What is the connection's or the door's own, in either direction.
const NEVER: &[&str] = &[
    "connection",
    "content-length",
    "date",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What is never handed on from a request: credentials, and what the door has read already.
const NEVER_ASKED: &[&str] =
    &["authorization", "cookie", "proxy-authorization", "x-request-timeout", "x-idempotent", "last-event-id"];
/// What is never given back: what makes the browser trust, keep or open something in the gateway's name.
const NEVER_ANSWERED: &[&str] = &["content-type", "location", "set-cookie", "vary", "x-content-type-options"];
/// And what starts so.
const NEVER_ANSWERED_PREFIXES: &[&str] = &["access-control-", "cross-origin-", "proxy-", "www-"];

/// Which names pass in one direction.
#[derive(Clone, Debug)]
pub(crate) struct HeaderNames(wire::names::HeaderNames);

impl HeaderNames {
    /// Of requests.
    pub(crate) fn of_requests(list: &[String]) -> Self {
        Self(wire::names::HeaderNames::new(list, &[NEVER, NEVER_ASKED], &[]).with_those_of_rules())
    }

    /// Of answers.
    pub(crate) fn of_answers(list: &[String]) -> Self {
        let never: &[&[&str]] = &[NEVER, NEVER_ANSWERED];
        Self(wire::names::HeaderNames::new(list, never, NEVER_ANSWERED_PREFIXES))
    }

    /// A request's headers, as a message has them. What passes and cannot be held is refused, never dropped.
    pub(crate) fn take(&self, from: &HeaderMap) -> Result<Headers, Error> {
        let mut headers = Headers::new();
        for (name, value) in from {
            if !self.0.takes(name.as_str()) {
                continue;
            }
            let value = ByteString::try_from(value.as_bytes())
                .map_err(|_| Error::new(Kind::Malformed, format!("the header {name} is not UTF-8")))?;
            headers
                .append(written(name.as_str()), value)
                .map_err(|error| Error::new(Kind::Invalid, format!("the header {name}: {error}")))?;
        }
        Ok(headers)
    }

    /// A responder's headers, as an answer of HTTP has them. What HTTP cannot hold is left out.
    pub(crate) fn give(&self, from: &Headers, to: &mut HeaderMap) {
        for (name, value) in from.iter() {
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
            if !self.0.gives(name.as_str()) {
                continue;
            }
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                to.append(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn taken(names: &[&str], from: &[(&'static str, &'static str)]) -> Vec<String> {
        let map =
            from.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let headers = HeaderNames::of_requests(&list(names)).take(&map.collect()).unwrap();
        headers.iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn only_what_is_listed_passes_and_some_never_do() {
        let sent = [
            ("content-type", "a/b"),
            ("x-request-id", "1"),
            ("x-other", "2"),
            ("cookie", "secret"),
            ("authorization", "secret"),
            ("host", "localhost"),
            ("nats-msg-id", "1"),
            ("ipc-gateway-tenant", "me"),
            ("traceparent", "x"),
            ("x-request-timeout", "5"),
        ];
        assert_eq!(taken(&["Content-Type"], &sent), ["Content-Type"]);
        assert_eq!(taken(&["x-*", "cookie"], &sent), ["X-Request-Id", "X-Other"]);
        assert_eq!(taken(&["*", "nats-msg-id"], &sent), ["Content-Type", "X-Request-Id", "X-Other"]);
        assert!(taken(&[], &sent).is_empty());
    }

    #[test]
    fn what_passes_and_cannot_be_held_is_refused() {
        let names = HeaderNames::of_requests(&list(&["x-*"]));
        let one = |value| HeaderMap::from_iter([(HeaderName::from_static("x-a"), value)]);
        let bytes = one(HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(names.take(&bytes).unwrap_err().kind(), Kind::Malformed);
        let large = one(HeaderValue::from_bytes(&b"x".repeat(20_000)).unwrap());
        assert_eq!(names.take(&large).unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn a_responder_cannot_speak_in_the_gateways_name() {
        let mut from = Headers::new();
        for name in [
            "ETag",
            "Set-Cookie",
            "Transfer-Encoding",
            "Access-Control-Allow-Origin",
            "Nats-Service",
            "Ipc-Gateway-Demo",
            "Bad(Name)",
            "Content-Type",
        ] {
            from.append(name, "1").unwrap();
        }
        let mut to = HeaderMap::new();
        HeaderNames::of_answers(&list(&["*"])).give(&from, &mut to);
        let names: Vec<_> = to.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["etag", "ipc-gateway-demo"]);
    }
}
