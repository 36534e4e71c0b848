//! A WebSocket as a client speaks it (`docs/protocols/websocket.md`): another dialect, with its words in frames.
//!
//! tungstenite's frame layer parses and writes headers; its own client is a blocking one, and would have to be
//! wrapped in tasks. A message of the gateway is whole when its last fragment is; what the gateway asks by
//! itself, a ping, is answered from within the poll that reads it.

use std::io::{self, Cursor};

use bytes::{Buf, Bytes, BytesMut};
use contract::Kind;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, HOST, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::json::{self, Envelope};
use super::stream::{Dialect, Stream};
use super::v2::Version2;
use super::{Failure, Heard, Line, Lost, Say};

/// Bytes of the longest message: what a frame of the Unix socket may have, and its newline.
const MESSAGE_BYTES_MAX: usize = wire::frame::FRAME_BYTES_MAX + 1;
/// Bytes of the longest refusal that is read.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the longest header of a frame, with a mask.
const HEADER_BYTES_MAX: usize = 14;

/// What is spoken in the messages.
pub(crate) trait Subprotocol: Dialect + Default + 'static {
    /// Where it is spoken.
    const PATH: &'static str = "/ws";
    /// Its name in the handshake, if it has one.
    const NAME: Option<&'static str>;
    /// What its messages are: text is a document each.
    const MESSAGES: Data;
}

/// The JSON envelope.
pub(super) type Text = Envelope;

impl Subprotocol for Text {
    const NAME: Option<&'static str> = Some("ipc-gateway.v1+json");
    const MESSAGES: Data = Data::Text;
}

/// Version 2.
pub(super) type Binary = Version2;

impl Subprotocol for Binary {
    const NAME: Option<&'static str> = Some("ipc-gateway.v1+binary");
    const MESSAGES: Data = Data::Binary;
}

/// Opens a WebSocket at a host and a port.
pub(crate) async fn web_socket<P: Subprotocol>(address: &str) -> Result<Box<dyn Line>, Lost> {
    let socket = connect(address).await?;
    let failed = |error: hyper::Error| Lost::Broken(io::Error::other(error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(failed)?;
    let key = generate_key();
    let mut opening = Request::get(P::PATH)
        .header(HOST, address)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key)
        .body(Empty::<Bytes>::new())
        .map_err(|error| Lost::Connect { address: address.to_owned(), source: io::Error::other(error) })?;
    if let Some(name) = P::NAME {
        opening.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    let asking = async move {
        let answer = sender.send_request(opening).await.map_err(failed)?;
        let said = |name| answer.headers().get(name).map(HeaderValue::as_bytes);
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let accepted = said(SEC_WEBSOCKET_ACCEPT) == Some(derive_accept_key(key.as_bytes()).as_bytes())
                && said(SEC_WEBSOCKET_PROTOCOL) == P::NAME.map(str::as_bytes);
            let other = || Lost::Protocol("another WebSocket than the one that was asked for".to_owned());
            return accepted.then_some(()).ok_or_else(other);
        }
        let status = answer.status();
        let body = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Err(match json::problem(&body) {
            Ok(failure) => Lost::Refused(failure),
            Err(_) => Lost::Protocol(format!("{status} to the opening of a WebSocket")),
        })
    };
    // The connection ends with the change of the protocol, or with the refusal.
    let (asked, ended) = tokio::join!(asking, connection.without_shutdown());
    asked?;
    let parts = ended.map_err(failed)?;
    let input = BytesMut::from(parts.read_buf);
    Ok(Box::new(Stream::with_input(parts.io.into_inner(), Framed::<P>::new(), input)))
}

/// Connects to a host and a port, without the delay that joins small writes.
pub(super) async fn connect(address: &str) -> Result<TcpStream, Lost> {
    let connecting = async {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    };
    connecting.await.map_err(|source| Lost::Connect { address: address.to_owned(), source })
}

/// A dialect in frames (RFC 6455 section 5).
#[derive(Debug)]
struct Framed<P> {
    inner: P,
    /// The message that is being written, kept to be filled again.
    said: BytesMut,
    /// Whole messages that the dialect has not taken.
    told: BytesMut,
    /// The fragments of a message that is not whole.
    fragments: BytesMut,
    /// Answers to pings.
    owed: BytesMut,
}

impl<P: Subprotocol> Framed<P> {
    fn new() -> Self {
        Self {
            inner: P::default(),
            said: BytesMut::new(),
            told: BytesMut::new(),
            fragments: BytesMut::new(),
            owed: BytesMut::new(),
        }
    }

    /// Takes one whole frame from the input. `None` if there is none.
    fn take(&mut self, input: &mut BytesMut) -> Result<Option<()>, Lost> {
        let mut cursor = Cursor::new(&input[..]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|error| Lost::Protocol(error.to_string()))?;
        let Some((header, length)) = parsed else { return Ok(None) };
        let start = usize::try_from(cursor.position()).expect("within the input");
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MESSAGE_BYTES_MAX - self.fragments.len() || header.mask.is_some() {
            return Err(Lost::Protocol(format!("a frame of {length} bytes, or with a mask")));
        }
        if input.len() - start < length {
            return Ok(None);
        }
        input.advance(start);
        let payload = input.split_to(length);
        match header.opcode {
            OpCode::Data(_) if header.is_final && self.fragments.is_empty() => self.message(&payload),
            OpCode::Data(_) => {
                self.fragments.extend_from_slice(&payload);
                if header.is_final {
                    let whole = std::mem::take(&mut self.fragments);
                    self.message(&whole);
                }
            }
            OpCode::Control(Control::Ping) => frame(OpCode::Control(Control::Pong), &payload, &mut self.owed),
            OpCode::Control(Control::Close) => {
                let (code, reason) = payload.split_at(payload.len().min(2));
                return Err(match <[u8; 2]>::try_from(code) {
                    Ok(code) => Lost::Shut {
                        code: u16::from_be_bytes(code),
                        reason: String::from_utf8_lossy(reason).into_owned(),
                    },
                    Err(_) => Lost::Closed,
                });
            }
            OpCode::Control(_) => {}
        }
        Ok(Some(()))
    }

    /// Puts a message behind those that the dialect has not taken. Documents end with a newline there, as on
    /// the Unix socket.
    fn message(&mut self, payload: &[u8]) {
        self.told.extend_from_slice(payload);
        if P::MESSAGES == Data::Text && !payload.ends_with(b"\n") {
            self.told.extend_from_slice(b"\n");
        }
    }
}

impl<P: Subprotocol> Dialect for Framed<P> {
    fn encode(&mut self, id: u64, say: &Say, out: &mut BytesMut) -> Result<(), Failure> {
        self.said.clear();
        self.inner.encode(id, say, &mut self.said)?;
        let message = self.said.strip_suffix(b"\n").filter(|_| P::MESSAGES == Data::Text);
        let message = message.unwrap_or(&self.said);
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Failure::new(Kind::TooLarge, "the message is over the 4 MiB of a WebSocket"));
        }
        frame(OpCode::Data(P::MESSAGES), message, out);
        Ok(())
    }

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Heard>, Lost> {
        loop {
            if let Some(heard) = self.inner.decode(&mut self.told)? {
                return Ok(Some(heard));
            }
            if self.take(input)?.is_none() {
                return Ok(None);
            }
        }
    }

    fn owed(&mut self, out: &mut BytesMut) {
        self.said.clear();
        self.inner.owed(&mut self.said);
        if !self.said.is_empty() {
            frame(OpCode::Data(P::MESSAGES), &self.said, out);
        }
        out.extend_from_slice(&self.owed);
        self.owed.clear();
    }
}

/// Writes a frame as a client does, with a mask. The mask is no secret: it keeps proxies from mistaking what a
/// script wrote for HTTP (RFC 6455 section 10.3), and nobody else writes here.
fn frame(opcode: OpCode, payload: &[u8], out: &mut BytesMut) {
    let mask = fastrand::u32(..).to_be_bytes();
    let header = FrameHeader { opcode, mask: Some(mask), ..FrameHeader::default() };
    let mut space = [0; HEADER_BYTES_MAX];
    let length = payload.len() as u64;
    header.format(length, &mut &mut space[..]).expect("there is room for the longest header");
    out.extend_from_slice(&space[..header.len(length)]);
    let start = out.len();
    out.extend_from_slice(payload);
    for (byte, mask) in out[start..].iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::What;

    /// A frame as the gateway writes it.
    fn told(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = FrameHeader { opcode, is_final, ..FrameHeader::default() };
        header.format(payload.len() as u64, &mut bytes).unwrap();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_message_is_heard_in_any_pieces_and_fragments_with_a_ping_between_that_is_answered() {
        let text = br#"{"op":"pong","id":7}"#;
        let bytes = [
            told(OpCode::Data(Data::Text), true, text),
            told(OpCode::Data(Data::Text), false, &text[..5]),
            told(OpCode::Control(Control::Ping), true, b"there?"),
            told(OpCode::Data(Data::Continue), true, &text[5..]),
        ]
        .concat();
        for size in [1, 3, bytes.len()] {
            let mut framed = Framed::<Text>::new();
            let (mut input, mut heard) = (BytesMut::new(), 0);
            for piece in bytes.chunks(size) {
                input.extend_from_slice(piece);
                while let Some(what) = framed.decode(&mut input).unwrap() {
                    assert!(matches!(what, Heard { id: Some(7), what: What::Pong }));
                    heard += 1;
                }
            }
            let mut owed = BytesMut::new();
            framed.owed(&mut owed);
            // FIN and PONG, a mask and 6 bytes, the mask, the bytes.
            assert_eq!((heard, &owed[..2], owed.len()), (2, &[0x8a, 0x86][..], 12), "{size}");
            let unmasked: Vec<_> =
                owed[6..].iter().zip(&owed[2..6]).map(|(byte, mask)| byte ^ mask).collect();
            assert_eq!(unmasked[..4], *b"ther");
        }
    }

    #[test]
    fn a_close_says_why_and_what_is_too_long_is_not_waited_for() {
        let mut close = BytesMut::from(&told(OpCode::Control(Control::Close), true, b"\x03\xf1large")[..]);
        let shut = Framed::<Binary>::new().decode(&mut close).unwrap_err();
        assert_eq!(shut.to_string(), "the gateway closed the connection with 1009: large");
        let mut long = BytesMut::new();
        long.extend_from_slice(&[0x82, 127, 0, 0, 0, 0, 0xff, 0, 0, 0]);
        assert!(matches!(Framed::<Binary>::new().decode(&mut long), Err(Lost::Protocol(_))));
    }

    #[test]
    fn what_is_said_is_one_masked_frame() {
        let mut out = BytesMut::new();
        Framed::<Text>::new().encode(1, &Say::Ping, &mut out).unwrap();
        let unmasked: Vec<_> =
            out[6..].iter().zip(out[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!((out[0], &*unmasked), (0x81, &br#"{"op":"ping","id":1}"#[..]));
    }
}
