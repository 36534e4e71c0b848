//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): parse what a peer sent, continue it, or start
//! a new trace.

use std::fmt;

use bytestring::ByteString;

/// The most bytes of `tracestate` that are passed on (section 3.3.1.5: at least 512 should be).
pub const TRACESTATE_BYTES_MAX: usize = 512;

/// A trace id, the span that asks, and the flags.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    state: Option<ByteString>,
}

/// Why a `traceparent` was not taken; a new trace is started instead (section 3.2.2: a receiver that cannot
/// parse it ignores it, and `tracestate` with it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// Not `version-traceid-parentid-flags` in lower-case hex digits.
    #[error("traceparent is not 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")]
    Form,
    /// Version `ff`, which is forbidden.
    #[error("traceparent has the forbidden version ff")]
    Version,
    /// All zeros in the trace id or the parent id.
    #[error("traceparent has an id of zeros")]
    Zero,
}

impl TraceContext {
    /// Starts a new trace, not sampled: whoever samples decides so itself.
    pub fn start() -> Self {
        let mut trace_id = [0; 16];
        let mut span_id = [0; 8];
        fastrand::fill(&mut trace_id);
        fastrand::fill(&mut span_id);
        // An id of zeros means "none" (section 3.2.2.3).
        trace_id[15] |= u8::from(trace_id == [0; 16]);
        span_id[7] |= u8::from(span_id == [0; 8]);
        Self { trace_id, span_id, flags: 0, state: None }
    }

    /// Parses a `traceparent` and, if given, its `tracestate`. A tracestate over [`TRACESTATE_BYTES_MAX`] or
    /// with characters other than visible ASCII and spaces is dropped, as the specification allows; the
    /// trace goes on.
    pub fn parse(traceparent: &str, tracestate: Option<&ByteString>) -> Result<Self, TraceError> {
        let bytes = traceparent.as_bytes();
        let dashes = bytes.len() >= 55 && bytes[2] == b'-' && bytes[35] == b'-' && bytes[52] == b'-';
        if !dashes {
            return Err(TraceError::Form);
        }
        let [version] = hex::<1>(&bytes[0..2])?;
        let more = bytes.len() > 55;
        // A later version may append fields behind another dash; version 00 has none.
        if more && (version == 0 || bytes[55] != b'-') {
            return Err(TraceError::Form);
        }
        if version == 0xff {
            return Err(TraceError::Version);
        }
        let trace_id = hex::<16>(&bytes[3..35])?;
        let span_id = hex::<8>(&bytes[36..52])?;
        let [flags] = hex::<1>(&bytes[53..55])?;
        if trace_id == [0; 16] || span_id == [0; 8] {
            return Err(TraceError::Zero);
        }
        let visible = |state: &&ByteString| {
            !state.is_empty()
                && state.len() <= TRACESTATE_BYTES_MAX
                && state.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        };
        // Bit 0 is "sampled", bit 1 "random trace id"; the others must be zero when passed on.
        Ok(Self { trace_id, span_id, flags: flags & 3, state: tracestate.filter(visible).cloned() })
    }

    /// Continues the trace: the same trace, flags and state, a new span.
    #[must_use]
    pub fn child(&self) -> Self {
        let span_id = (fastrand::u64(1..)).to_be_bytes();
        Self { span_id, ..self.clone() }
    }

    /// The trace id as 32 hex digits.
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        Hex(self.trace_id)
    }

    /// The span id as 16 hex digits.
    pub fn span_id(&self) -> impl fmt::Display + use<> {
        Hex(self.span_id)
    }

    /// Whether the caller records this trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The value of the `traceparent` header: 55 ASCII characters.
    pub fn traceparent(&self) -> ByteString {
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        push_hex(&mut text, &self.trace_id);
        text.push('-');
        push_hex(&mut text, &self.span_id);
        text.push('-');
        push_hex(&mut text, &[self.flags]);
        text.into()
    }

    /// The value of the `tracestate` header, if there is one to pass on.
    pub fn tracestate(&self) -> Option<&ByteString> {
        self.state.as_ref()
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TraceContext({}-{}-{:02x})", self.trace_id(), self.span_id(), self.flags)
    }
}

struct Hex<const N: usize>([u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Lower-case hex digits only (section 3.2.2: upper case is not allowed).
fn hex<const N: usize>(digits: &[u8]) -> Result<[u8; N], TraceError> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(TraceError::Form),
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn parses_and_formats_the_example_of_the_specification() {
        let state = ByteString::from_static("congo=t61rcWkgMzE");
        let context = TraceContext::parse(GOOD, Some(&state)).unwrap();
        assert_eq!(context.traceparent(), GOOD);
        assert_eq!(context.tracestate(), Some(&state));
        assert!(context.is_sampled());
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn a_child_keeps_the_trace_and_changes_the_span() {
        let context = TraceContext::parse(GOOD, None).unwrap();
        let child = context.child();
        assert_eq!(context.trace_id().to_string(), child.trace_id().to_string());
        assert_ne!(context.span_id().to_string(), child.span_id().to_string());
        assert!(child.is_sampled());
    }

    #[test]
    fn refuses_what_the_specification_refuses() {
        let bad = [
            ("", TraceError::Form),
            ("00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceError::Form),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", TraceError::Form),
            ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x", TraceError::Form),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceError::Version),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", TraceError::Zero),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", TraceError::Zero),
        ];
        for (text, why) in bad {
            assert_eq!(TraceContext::parse(text, None), Err(why), "{text}");
        }
        // A later version with more fields is read as far as it is known.
        assert!(TraceContext::parse(&format!("01{}-more", &GOOD[2..]), None).is_ok());
    }

    #[test]
    fn a_hostile_tracestate_is_dropped_and_the_trace_goes_on() {
        for state in ["a=b\r\nNats-Msg-Id: 1".to_owned(), "x".repeat(513), String::new()] {
            let context = TraceContext::parse(GOOD, Some(&state.into())).unwrap();
            assert_eq!(context.tracestate(), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,80}") {
            let _ = TraceContext::parse(&text, None);
        }

        #[test]
        fn what_is_started_can_be_parsed(_seed in any::<u8>()) {
            let started = TraceContext::start();
            prop_assert_eq!(TraceContext::parse(&started.traceparent(), None).unwrap(), started);
        }
    }
}
