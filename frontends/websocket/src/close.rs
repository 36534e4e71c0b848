//! Why a connection ends: a close code (RFC 6455 section 7.4) and a reason for a person.
//!
//! What ends by an error of the one table takes its code from the table's WebSocket column. What the table does
//! not know is the WebSocket protocol's own: [`CODES`] is the list of those, and the documentation has both.

use std::borrow::Cow;

use contract::{Error, Kind};
use tungstenite::protocol::frame::coding::CloseCode;

/// Bytes of the longest reason: a control frame holds 125, the code takes two.
const REASON_BYTES_MAX: usize = 123;

/// Done; nobody is to blame.
pub const NORMAL: u16 = 1000;
/// The bytes are not the WebSocket protocol.
pub const PROTOCOL: u16 = 1002;

/// The codes beside those of the error table, each with what it means.
pub const CODES: &[(u16, &str)] =
    &[(NORMAL, "the client closed"), (PROTOCOL, "the bytes are not the WebSocket protocol")];

/// A code and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The code.
    pub code: u16,
    /// What a person may read.
    pub reason: Cow<'static, str>,
}

impl Ending {
    /// A violation of the WebSocket protocol itself.
    pub(crate) fn protocol(reason: &'static str) -> Self {
        Self { code: PROTOCOL, reason: reason.into() }
    }

    /// An end whose code is that of an error's kind.
    pub fn of(kind: Kind, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: kind.row().websocket, reason: reason.into() }
    }

    /// The payload of the close frame.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let end = self.reason.floor_char_boundary(REASON_BYTES_MAX);
        [&self.code.to_be_bytes()[..], &self.reason.as_bytes()[..end]].concat()
    }
}

impl From<&Error> for Ending {
    fn from(error: &Error) -> Self {
        Self {
            code: error.kind().row().websocket,
            reason: format!("{}: {}", error.kind(), error.text()).into(),
        }
    }
}

/// What is answered to a peer's close: its own code, 1000 where it gave none, or what is wrong with it.
pub(crate) fn answer(payload: &[u8]) -> Ending {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ending { code: NORMAL, reason: "".into() }
        } else {
            Ending::protocol("a close code has two bytes")
        };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Ending::protocol("that close code is not one to send");
    }
    if str::from_utf8(reason).is_err() {
        return Ending::of(Kind::Malformed, "the reason is not UTF-8");
    }
    Ending { code, reason: "".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_answered_with_its_own_code_if_it_has_a_fit_one() {
        let code = |payload: &[u8]| answer(payload).code;
        assert_eq!(code(b""), 1000);
        assert_eq!(code(b"\x03"), 1002);
        for fit in [1000, 1001, 1003, 1007, 1011, 3000, 3999, 4000, 4999] {
            assert_eq!(code(&u16::to_be_bytes(fit)), fit);
        }
        for unfit in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert_eq!(code(&u16::to_be_bytes(unfit)), 1002, "{unfit}");
        }
        assert_eq!(code(b"\x03\xe8bye"), 1000);
        assert_eq!(code(b"\x03\xe8\xff"), 1007);
    }

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let ending = Ending::of(Kind::Invalid, "ü".repeat(100));
        let payload = ending.payload();
        assert_eq!((payload.len(), &payload[..2]), (2 + 122, &1008_u16.to_be_bytes()[..]));
        assert!(str::from_utf8(&payload[2..]).is_ok());
    }
}
