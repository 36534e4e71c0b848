//! A WebSocket client of raw bytes, which can say what no library would.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::running::{Running, within};

/// First bytes of whole frames.
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;

/// The key of RFC 6455 section 1.3, and what is to be answered to it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The head of a handshake.
pub(crate) fn opening(subprotocol: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    )
}

/// A client's frame, masked.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 11, 13, 17];
    let mut frame = vec![first];
    match payload.len() {
        small @ 0..=125 => frame.push(0x80 | u8::try_from(small).unwrap()),
        medium @ 126..=0xFFFF => {
            frame.push(0xFE);
            frame.extend_from_slice(&u16::try_from(medium).unwrap().to_be_bytes());
        }
        large => {
            frame.push(0xFF);
            frame.extend_from_slice(&(large as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// One connection after its handshake.
#[derive(Debug)]
pub(crate) struct Peer(pub(crate) BufReader<TcpStream>);

impl Peer {
    pub(crate) async fn open(address: SocketAddr, subprotocol: &str) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), subprotocol).await
    }

    /// One whose system keeps as little for it as it can.
    pub(crate) async fn open_small(address: SocketAddr, subprotocol: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(socket.connect(address).await.unwrap(), subprotocol).await
    }

    async fn over(mut stream: TcpStream, subprotocol: &str) -> Self {
        stream.write_all(opening(subprotocol).as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(
            head.contains(&format!("sec-websocket-accept: {}\r\n", ACCEPT.to_ascii_lowercase())),
            "{head}"
        );
        assert!(head.contains(&format!("sec-websocket-protocol: {subprotocol}\r\n")), "{head}");
        Self(BufReader::with_capacity(2048, stream))
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.unwrap();
    }

    pub(crate) async fn send(&mut self, first: u8, payload: &[u8]) {
        self.send_bytes(&frame(first, payload)).await;
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes()).await;
    }

    /// The next frame: its first byte and its payload. Pings of the gateway are answered and passed over.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            let frame = within(self.read_frame()).await;
            if frame.0 != PING {
                return frame;
            }
            self.send(PONG, &frame.1).await;
        }
    }

    /// The next frame, whatever it is.
    pub(crate) async fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let first = self.0.read_u8().await.unwrap();
        let length = match self.0.read_u8().await.unwrap() {
            126 => usize::from(self.0.read_u16().await.unwrap()),
            127 => usize::try_from(self.0.read_u64().await.unwrap()).unwrap(),
            small => usize::from(small),
        };
        assert!(length < 1 << 30, "a server's frames are not masked");
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.unwrap();
        (first, payload)
    }

    /// The next message, which is JSON.
    pub(crate) async fn json(&mut self) -> Value {
        let (first, payload) = self.frame().await;
        assert_eq!(first, TEXT, "{}", String::from_utf8_lossy(&payload));
        serde_json::from_slice(&payload).unwrap()
    }

    /// The code of the close that comes next, and that nothing comes behind it.
    pub(crate) async fn closed(mut self) -> u16 {
        let (first, payload) = self.frame().await;
        assert_eq!(first, CLOSE, "{}", String::from_utf8_lossy(&payload));
        // A peer that is to be understood answers; one that is not may have been closed on already.
        let _ = self.0.get_mut().write_all(&frame(CLOSE, &payload[..2])).await;
        let mut rest = Vec::new();
        let _ = within(self.0.read_to_end(&mut rest)).await;
        assert!(rest.is_empty(), "{rest:?}");
        u16::from_be_bytes([payload[0], payload[1]])
    }
}

impl Running {
    /// A peer that speaks JSON.
    pub(crate) async fn peer(&self) -> Peer {
        Peer::open(self.http, "ipc-gateway.v1+json").await
    }
}
