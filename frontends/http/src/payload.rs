//! Opaque bytes within a JSON document: as they are if they are JSON, else as base64 under a key of its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

/// A payload, looked at once.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    /// Nothing at all.
    Empty,
    /// One JSON text.
    Json(&'a RawValue),
    /// Anything else.
    Bytes(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// Looks what the bytes are. One validating pass, no tree.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        match bytes {
            [] => Self::Empty,
            _ => serde_json::from_slice(bytes).map_or(Self::Bytes(bytes), Self::Json),
        }
    }

    /// Base64 with padding (RFC 4648).
    pub(crate) fn base64(bytes: &[u8]) -> String {
        STANDARD.encode(bytes)
    }

    /// Appends `,"payload":…` or `,"payload_base64":"…"`, or nothing, in one line: in JSON a line break is
    /// white space, and becomes a space.
    pub(crate) fn append(self, text: &mut String) {
        match self {
            Self::Empty => {}
            Self::Json(json) => {
                text.push_str(",\"payload\":");
                one_line(text, json.get());
            }
            Self::Bytes(bytes) => {
                text.push_str(",\"payload_base64\":\"");
                STANDARD.encode_string(bytes, text);
                text.push('"');
            }
        }
    }
}

/// Appends JSON with each line break, which is white space there, as a space.
pub(crate) fn one_line(text: &mut String, json: &str) {
    let mut rest = json;
    while let Some(at) = rest.find(['\r', '\n']) {
        text.push_str(&rest[..at]);
        text.push(' ');
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(bytes: &[u8]) -> String {
        let mut text = String::new();
        Payload::of(bytes).append(&mut text);
        text
    }

    #[test]
    fn json_stays_and_everything_else_is_base64() {
        assert_eq!(appended(b""), "");
        assert_eq!(appended(b" {\"a\":\r\n1}\n"), ",\"payload\":{\"a\":  1}");
        assert_eq!(appended(b"hello"), ",\"payload_base64\":\"aGVsbG8=\"");
        assert_eq!(appended(b"{} {}"), ",\"payload_base64\":\"e30ge30=\"");
        assert_eq!(appended(b"\"\xff\""), ",\"payload_base64\":\"Iv8i\"");
    }
}
