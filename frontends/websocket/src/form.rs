//! The two subprotocols: which form the messages of a connection have.
//!
//! A binary message is a frame of version 2 with its header, as on the Unix socket, so that one encoder of a client
//! serves both. A text message is one document of the JSON envelope; bare tasks belong to the Unix socket, because
//! without an id their answers could only be told apart by their order.

use bytes::Bytes;
use contract::{Error, Kind};
use wire::frame::HEADER_BYTES;
use wire::json::Decoded;
use wire::{Id, Inbound, Outbound, Refusal, binary, json};

use crate::outbox::Outbox;

/// The form of the messages of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `ipc-gateway.v1+json`: text messages, a document of the JSON envelope each.
    Json,
    /// `ipc-gateway.v1+binary`: binary messages, a frame of version 2 each.
    Binary,
}

impl Form {
    const ALL: [Self; 2] = [Self::Json, Self::Binary];

    /// The name of the subprotocol.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "ipc-gateway.v1+json",
            Self::Binary => "ipc-gateway.v1+binary",
        }
    }

    /// The form of that name; names are compared with case (RFC 6455 section 4.1).
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.name() == name)
    }

    /// Whether its messages are text.
    pub(crate) fn is_text(self) -> bool {
        self == Self::Json
    }

    /// Reads what a client says.
    pub(crate) fn decode(self, payload: Bytes) -> Result<Inbound, Refusal> {
        match self {
            Self::Json => match json::decode(payload)? {
                Decoded::Envelope(inbound) => Ok(inbound),
                Decoded::Task(_) => {
                    let text = "\"op\" says what a message is: hello, publish, request, subscribe, unsubscribe, \
                                cancel or ping";
                    Err(Refusal { id: None, error: Error::new(Kind::Unsupported, text) })
                }
            },
            Self::Binary => {
                let Some(&[a, b, c, d, version, kind]) = payload.first_chunk::<HEADER_BYTES>() else {
                    return Err(misframed("a binary message is a whole frame, which has at least 6 bytes"));
                };
                if u32::from_be_bytes([a, b, c, d]) as usize != payload.len() {
                    return Err(misframed(
                        "a binary message is one frame, whose length is that of the message",
                    ));
                }
                if version != binary::VERSION {
                    let error = Error::new(Kind::Unsupported, "a WebSocket carries frames of version 2 only");
                    return Err(Refusal { id: None, error });
                }
                binary::decode(kind, payload.slice(HEADER_BYTES..))
            }
        }
    }

    /// The id in the first bytes of a message that was skipped, if the form has it there.
    pub(crate) fn id_of(self, start: &[u8]) -> Option<Id> {
        match self {
            Self::Json => None,
            Self::Binary => binary::id_of(start.get(HEADER_BYTES..)?),
        }
    }

    /// Queues a message of at most `bytes_max` bytes. Says whether a reply or a delivery is in it as it is.
    pub(crate) fn encode(self, told: &Outbound<'_>, bytes_max: usize, outbox: &mut Outbox) -> bool {
        let mut as_it_is = false;
        outbox.message(self.is_text(), |draft| {
            as_it_is = match self {
                Self::Json => json::encode(told, bytes_max, draft),
                Self::Binary => binary::encode(told, bytes_max, draft),
            };
        });
        as_it_is
    }
}

fn misframed(text: &'static str) -> Refusal {
    Refusal { id: None, error: Error::new(Kind::Malformed, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subprotocols_are_known_by_their_exact_names() {
        for form in Form::ALL {
            assert_eq!(Form::parse(form.name()), Some(form));
        }
        for other in ["", "json", "ipc-gateway.v1", "IPC-Gateway.v1+json", "ipc-gateway.v2+json"] {
            assert_eq!(Form::parse(other), None);
        }
    }

    #[test]
    fn a_binary_message_is_one_frame_of_version_2() {
        // Length, version, type PING, flags with an id, reserved, the id 7, no fields.
        let ping: &[u8] = &[0, 0, 0, 18, 2, 0x26, 2, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0];
        let decode = |bytes: &[u8]| Form::Binary.decode(Bytes::copy_from_slice(bytes));
        assert!(matches!(decode(ping), Ok(Inbound::Ping { id: Some(Id::Number(7)), .. })));
        assert_eq!(Form::Binary.id_of(ping), Some(Id::Number(7)));
        let kind = |bytes: &[u8]| decode(bytes).unwrap_err().error.kind();
        assert_eq!(kind(b""), Kind::Malformed);
        assert_eq!(kind(&ping[..17]), Kind::Malformed);
        assert_eq!(kind(&[ping, ping].concat()), Kind::Malformed);
        let mut old = ping.to_vec();
        old[4] = 1;
        assert_eq!(kind(&old), Kind::Unsupported);
    }

    #[test]
    fn a_bare_task_is_refused() {
        let refusal = Form::Json.decode(Bytes::from_static(b"{\"task_id\":\"1\"}")).unwrap_err();
        assert_eq!(refusal.error.kind(), Kind::Unsupported);
    }
}
