//! Headers of a request, a reply or a delivery: an ordered list of names and values, as NATS has them
//! (NATS protocol, HPUB/HMSG; ADR-4).
//!
//! A list and not a map: messages carry a handful, order and repetition are kept, and an empty list
//! allocates nothing.

use bytestring::ByteString;

/// The most headers one message may carry.
pub const HEADERS_MAX: usize = 64;
/// The most bytes that names and values of one message may have together.
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// An ordered list of header names and values. Names keep their case and are compared without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    entries: Vec<(ByteString, ByteString)>,
    bytes: usize,
}

/// Why a header was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The name is empty or has a character other than visible ASCII, or a colon.
    #[error("a header name must be visible ASCII without a colon")]
    Name,
    /// The value has a carriage return, a line feed or a NUL.
    #[error("a header value must not contain CR, LF or NUL")]
    Value,
    /// More than [`HEADERS_MAX`] headers.
    #[error("more than 64 headers")]
    TooMany,
    /// More than [`HEADERS_BYTES_MAX`] bytes.
    #[error("more than 16384 bytes of headers")]
    TooLarge,
}

impl Headers {
    /// An empty list; allocates nothing.
    pub const fn new() -> Self {
        Self { entries: Vec::new(), bytes: 0 }
    }

    /// Appends a header. An earlier one of the same name stays.
    pub fn append(
        &mut self,
        name: impl Into<ByteString>,
        value: impl Into<ByteString>,
    ) -> Result<(), HeaderError> {
        self.add(name.into(), value.into(), HEADERS_MAX, HEADERS_BYTES_MAX)
    }

    /// Appends a header even past the limits, which bound what a peer sends: for the few that the gateway
    /// itself adds to a list that is bounded already. Only the form is checked.
    pub fn append_past_limits(
        &mut self,
        name: impl Into<ByteString>,
        value: impl Into<ByteString>,
    ) -> Result<(), HeaderError> {
        self.add(name.into(), value.into(), usize::MAX, usize::MAX)
    }

    fn add(
        &mut self,
        name: ByteString,
        value: ByteString,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<(), HeaderError> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
            return Err(HeaderError::Name);
        }
        if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(HeaderError::Value);
        }
        if self.entries.len() >= count_max {
            return Err(HeaderError::TooMany);
        }
        let bytes = self.bytes + name.len() + value.len();
        if bytes > bytes_max {
            return Err(HeaderError::TooLarge);
        }
        self.bytes = bytes;
        self.entries.push((name, value));
        Ok(())
    }

    /// The first value of `name`, whatever the case of either.
    pub fn get(&self, name: &str) -> Option<&ByteString> {
        self.entries.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Every header, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ByteString, &ByteString)> {
        self.entries.iter().map(|(name, value)| (name, value))
    }

    /// Keeps the headers for which `keep` says true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        self.entries.retain(|(name, value)| keep(name, value));
        self.bytes = self.entries.iter().map(|(name, value)| name.len() + value.len()).sum();
    }

    /// Number of headers.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that the list itself takes, names and values apart.
    pub fn list_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(ByteString, ByteString)>()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a peer may never set this name: what NATS or the gateway itself gives a meaning
    /// (`Nats-*`, `Ipc-Gateway-*`), and the trace context, which has a field of its own.
    pub fn is_reserved(name: &str) -> bool {
        let starts =
            |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        starts("nats-")
            || starts("ipc-gateway-")
            || name.eq_ignore_ascii_case("traceparent")
            || name.eq_ignore_ascii_case("tracestate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_split_a_message() {
        let mut headers = Headers::new();
        assert_eq!(headers.append("A", "b\r\nNats-Msg-Id: 1"), Err(HeaderError::Value));
        assert_eq!(headers.append("A", "b\0"), Err(HeaderError::Value));
        assert_eq!(headers.append("A:", "b"), Err(HeaderError::Name));
        assert_eq!(headers.append("A B", "b"), Err(HeaderError::Name));
        assert_eq!(headers.append("", "b"), Err(HeaderError::Name));
        assert_eq!(headers.append("Ä", "b"), Err(HeaderError::Name));
        assert!(headers.is_empty());
    }

    #[test]
    fn counts_and_bytes_are_bounded() {
        let mut headers = Headers::new();
        assert_eq!(headers.append("A", "x".repeat(HEADERS_BYTES_MAX)), Err(HeaderError::TooLarge));
        for _ in 0..HEADERS_MAX {
            headers.append("A", "b").unwrap();
        }
        assert_eq!(headers.append("A", "b"), Err(HeaderError::TooMany));
        headers.retain(|_, _| false);
        assert_eq!((headers.len(), headers.bytes()), (0, 0));
    }

    #[test]
    fn names_are_found_whatever_their_case() {
        let mut headers = Headers::new();
        headers.append("Content-Type", "a/b").unwrap();
        headers.append("content-type", "c/d").unwrap();
        assert_eq!(headers.get("CONTENT-TYPE").map(|value| &**value), Some("a/b"));
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn reserved_names() {
        for name in ["Nats-Msg-Id", "nats-x", "IPC-GATEWAY-Tenant", "TraceParent", "tracestate"] {
            assert!(Headers::is_reserved(name), "{name}");
        }
        for name in ["Natsy", "X-Request-Id", "na", "é-nats-"] {
            assert!(!Headers::is_reserved(name), "{name}");
        }
    }
}
