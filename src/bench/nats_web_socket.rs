//! NATS' own protocol over nats-server's own WebSocket listener: what fan-out is compared with.
//!
//! As little of the protocol as a publisher and a subscriber need (docs.nats.io, "Client Protocol").

use bytes::{Buf, BytesMut};
use contract::{Headers, Kind};
use tungstenite::protocol::frame::coding::Data;

use crate::client::{Dialect, Failure, Heard, Lost, Say, Subprotocol, What};

/// Bytes of the longest line that is read: the server's greeting has some hundreds.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// The dialect. Its one subscription has the id that was said first.
#[derive(Debug, Default)]
pub(super) struct NatsCore {
    subscribed: Option<u64>,
    connected: bool,
    /// Questions of the server whether somebody is there.
    pings: usize,
}

impl Subprotocol for NatsCore {
    const PATH: &'static str = "/";
    const NAME: Option<&'static str> = None;
    const MESSAGES: Data = Data::Binary;
}

impl Dialect for NatsCore {
    fn encode(&mut self, id: u64, say: &Say, out: &mut BytesMut) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.connected, true) {
            out.extend_from_slice(b"CONNECT {\"verbose\":false}\r\n");
        }
        match say {
            Say::Subscribe(call) => {
                let text = format!("SUB {} 1\r\nPING\r\n", call.subject);
                out.extend_from_slice(text.as_bytes());
                self.subscribed = Some(id);
            }
            Say::Publish(call) => {
                let head = format!("PUB {} {}\r\n", call.subject, call.payload.len());
                for piece in [head.as_bytes(), &call.payload, b"\r\n"] {
                    out.extend_from_slice(piece);
                }
            }
            Say::Request(_) | Say::Unsubscribe | Say::Cancel | Say::Ping => {
                return Err(Failure::new(Kind::Unsupported, "this measures publishes and subscriptions"));
            }
        }
        Ok(())
    }

    fn owed(&mut self, out: &mut BytesMut) {
        for _ in 0..std::mem::take(&mut self.pings) {
            out.extend_from_slice(b"PONG\r\n");
        }
    }

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Heard>, Lost> {
        loop {
            let Some(end) = input.windows(2).take(LINE_BYTES_MAX).position(|pair| pair == b"\r\n") else {
                return Ok(None);
            };
            let line = String::from_utf8_lossy(&input[..end]).into_owned();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("MSG") => {
                    let bytes: usize = line
                        .rsplit(' ')
                        .next()
                        .and_then(|bytes| bytes.parse().ok())
                        .ok_or_else(|| Lost::Protocol(line.clone()))?;
                    if input.len() < end + 2 + bytes + 2 {
                        return Ok(None);
                    }
                    input.advance(end + 2);
                    let payload = input.split_to(bytes).freeze();
                    input.advance(2);
                    let subject = words.next().unwrap_or_default().to_owned();
                    let what = What::Delivery { subject, headers: Headers::new(), payload };
                    return Ok(Some(Heard { id: self.subscribed, what }));
                }
                Some("PONG") => {
                    input.advance(end + 2);
                    return Ok(Some(Heard { id: self.subscribed, what: What::Accepted }));
                }
                Some("PING") => {
                    input.advance(end + 2);
                    self.pings += 1;
                }
                Some("INFO") => input.advance(end + 2),
                _ => return Err(Lost::Protocol(line)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::client::Call;

    #[test]
    fn what_the_server_says_is_heard_in_any_pieces() {
        let bytes = b"INFO {\"a\":1}\r\nPING\r\nPONG\r\nMSG a.b 1 5\r\n\r\nx\r\n\r\nMSG a.b 1 0\r\n\r\n";
        for size in [1, 4, bytes.len()] {
            let (mut dialect, mut out) = (NatsCore::default(), BytesMut::new());
            let call = Call { subject: "a.b".to_owned(), ..Call::default() };
            dialect.encode(7, &Say::Subscribe(call), &mut out).unwrap();
            assert!(out.ends_with(b"SUB a.b 1\r\nPING\r\n"));
            let (mut input, mut heard) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(size) {
                input.extend_from_slice(piece);
                while let Some(one) = dialect.decode(&mut input).unwrap() {
                    heard.push((one.id, one.what));
                }
            }
            let [(Some(7), What::Accepted), (_, What::Delivery { payload, .. }), (_, What::Delivery { .. })] =
                &heard[..]
            else {
                panic!("{heard:?}")
            };
            out.clear();
            dialect.owed(&mut out);
            assert_eq!(out, "PONG\r\n");
            assert_eq!(payload, &Bytes::from_static(b"\r\nx\r\n"), "{size}");
        }
        let refused = NatsCore::default().decode(&mut BytesMut::from(&b"-ERR 'no'\r\n"[..]));
        assert!(matches!(refused, Err(Lost::Protocol(text)) if text.contains("no")));
    }
}
