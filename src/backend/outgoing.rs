//! The headers that a message carries from the gateway to a responder, the same on every backend.
//!
//! A visitor and not a list: each backend has a header type of its own, and building a second list first
//! would cost an allocation per header. What the gateway knows comes first, in a fixed order; then what the
//! peer gave, without the names that no peer may set ([`Headers::is_reserved`]).

use std::fmt;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use bytestring::ByteString;
use contract::{HeaderError, Headers, Request};
use tokio::time::Instant;

/// W3C trace context: `version-traceid-spanid-flags`.
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace context: what each vendor on the way adds.
pub const TRACESTATE: &str = "tracestate";
/// When the answer is due: absolute, in milliseconds since the Unix epoch.
pub const DEADLINE: &str = "Ipc-Gateway-Deadline";
/// What was left of the time when the message was sent, in milliseconds.
pub const TIMEOUT_MS: &str = "Ipc-Gateway-Timeout-Ms";
/// The message's own id; see [`RequestId`].
pub const REQUEST_ID: &str = "Ipc-Gateway-Request-Id";
/// Who asks, as authenticated.
pub const IDENTITY: &str = "Ipc-Gateway-Identity";
/// The tenant of who asks; absent when there is none.
pub const TENANT: &str = "Ipc-Gateway-Tenant";
/// The door the peer came by.
pub const DOOR: &str = "Ipc-Gateway-Door";

/// The name of one message towards the backend: 128 random bits as 32 hex digits. It names the request in
/// logs of late replies and in messages that cancel it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// A new id.
    pub fn random() -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bits = fastrand::u128(..);
        let mut text = [0; 32];
        for digit in &mut text {
            *digit = DIGITS[(bits & 15) as usize];
            bits >>= 4;
        }
        Self(text)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits are ASCII")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RequestId({self})")
    }
}

/// The name of an outgoing header: one of this file's, or one that the peer gave.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// The gateway's own: a constant, so that no backend has to copy it.
    Own(&'static str),
    /// The peer's.
    Peer(&'a ByteString),
}

impl Name<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Own(name) => name,
            Self::Peer(name) => name,
        }
    }

    /// The text, shared and not copied.
    pub fn to_byte_string(&self) -> ByteString {
        match self {
            Self::Own(name) => ByteString::from_static(name),
            Self::Peer(name) => (*name).clone(),
        }
    }
}

/// Shows every header of `request` as it goes out now under the name `id`. No value holds CR, LF or NUL: a
/// peer's are kept out by [`Headers`], and an identity or tenant that has one is left out here. The clock is
/// read at the call, so call it when the message is sent.
pub fn visit(request: &Request, id: &RequestId, mut each: impl FnMut(Name<'_>, &str)) {
    each(Name::Own(TRACEPARENT), &request.trace.traceparent());
    if let Some(state) = request.trace.tracestate() {
        each(Name::Own(TRACESTATE), state);
    }
    let left = request.deadline.saturating_duration_since(Instant::now());
    let due = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(left);
    decimal(due.as_millis(), |text| each(Name::Own(DEADLINE), text));
    decimal(left.as_millis(), |text| each(Name::Own(TIMEOUT_MS), text));
    each(Name::Own(REQUEST_ID), id.as_str());
    let identity = &request.origin.identity;
    let known = [
        (IDENTITY, Some(&*identity.name)),
        (TENANT, identity.tenant.as_deref()),
        (DOOR, Some(request.origin.door)),
    ];
    for (name, value) in known {
        if let Some(value) = value.filter(|value| is_one_line(value)) {
            each(Name::Own(name), value);
        }
    }
    for (name, value) in request.headers.iter().filter(|(name, _)| !Headers::is_reserved(name)) {
        each(Name::Peer(name), value);
    }
}

/// The headers of `request` as a list; see [`visit`]. Fails with the first header that is not one, which the
/// rules above make impossible for a request that a door built.
pub fn list(request: &Request, id: &RequestId) -> Result<Headers, HeaderError> {
    let mut headers = Headers::new();
    let mut result = Ok(());
    visit(request, id, |name, value| {
        if result.is_ok() {
            result = headers.append_past_limits(name.to_byte_string(), value);
        }
    });
    result.map(|()| headers)
}

fn is_one_line(value: &str) -> bool {
    !value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// Formats on the stack: u128 has at most 39 digits.
fn decimal(number: u128, then: impl FnOnce(&str)) {
    let mut digits = [0; 39];
    let mut rest = &mut digits[..];
    write!(rest, "{number}").expect("39 bytes hold every u128");
    let length = 39 - rest.len();
    then(std::str::from_utf8(&digits[..length]).expect("digits are ASCII"));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use contract::{Identity, Method, Origin, PeerAddress, Subject, Target, TraceContext};

    use super::*;

    fn request(identity: Identity, peer: &[(&'static str, &'static str)]) -> Request {
        let mut headers = Headers::new();
        for (name, value) in peer {
            headers.append(*name, *value).unwrap();
        }
        let received = Instant::now();
        Request {
            target: Target::Request(Subject::from_static("a.b")),
            headers,
            payload: bytes::Bytes::new(),
            received,
            deadline: received + Duration::from_secs(5),
            idempotent: false,
            ordered: false,
            parts: false,
            queue: None,
            trace: TraceContext::start(),
            origin: Arc::new(Origin { door: "unix", identity, address: PeerAddress::Unix, connection: 1 }),
        }
    }

    #[test]
    fn the_gateways_own_come_first_and_the_peers_reserved_never() {
        let mut identity = Identity::new("uid:1000", Method::Local);
        identity.tenant = Some("acme".into());
        let peer = [("X-A", "1"), ("nats-Msg-Id", "2"), ("Ipc-Gateway-Tenant", "evil"), ("TraceParent", "3")];
        let request = request(identity, &peer);
        let id = RequestId::random();
        let headers = list(&request, &id).unwrap();
        let names: Vec<&str> = headers.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, [TRACEPARENT, DEADLINE, TIMEOUT_MS, REQUEST_ID, IDENTITY, TENANT, DOOR, "X-A"]);
        assert_eq!(headers.get(TRACEPARENT), Some(&request.trace.traceparent()));
        assert_eq!(headers.get(REQUEST_ID).unwrap(), id.as_str());
        assert_eq!(headers.get(TENANT).unwrap(), "acme");
        let left: u64 = headers.get(TIMEOUT_MS).unwrap().parse().unwrap();
        assert!((4000..=5000).contains(&left), "{left}");
        let due: u128 = headers.get(DEADLINE).unwrap().parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        assert!((now..=now + 5000).contains(&due), "{due} {now}");
    }

    #[test]
    fn an_identity_cannot_smuggle_a_header() {
        let request = request(Identity::new("a\r\nNats-Msg-Id: 1", Method::Local), &[]);
        assert_eq!(list(&request, &RequestId::random()).unwrap().get(IDENTITY), None);
    }

    #[test]
    fn a_peer_that_fills_its_limit_still_gets_the_gateways_own() {
        let mut request = request(Identity::new("uid:1", Method::Local), &[]);
        for _ in 0..contract::headers::HEADERS_MAX {
            request.headers.append("X", "y").unwrap();
        }
        assert_eq!(list(&request, &RequestId::random()).unwrap().len(), contract::headers::HEADERS_MAX + 6);
    }

    #[test]
    fn a_deadline_in_the_past_leaves_nothing() {
        let mut request = request(Identity::new("uid:1", Method::Local), &[]);
        request.deadline = request.received;
        assert_eq!(list(&request, &RequestId::random()).unwrap().get(TIMEOUT_MS).unwrap(), "0");
    }

    #[test]
    fn ids_differ() {
        assert_ne!(RequestId::random(), RequestId::random());
    }
}
