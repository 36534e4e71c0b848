//! What attackers speak: bytes as they are on each door's wire, written by hand, so that they can be wrong.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use tokio::task::JoinSet;

use super::Scene;
use crate::client::kind;
use crate::gateway::PATIENCE;

/// Writes as much of it as the other side takes: it may have closed, or not read.
pub(super) fn push(mut stream: impl Write, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

pub(super) fn unix(scene: &Scene) -> UnixStream {
    let stream = UnixStream::connect(scene.gateway.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The header of a frame of version 1 with a payload of so many bytes.
pub(super) fn header(payload_bytes: usize) -> Vec<u8> {
    let length = u32::try_from(payload_bytes + 6).unwrap().to_be_bytes();
    [&length[..], &[1, kind::TASK_SUBMIT]].concat()
}

/// A WebSocket after its handshake. The mask of its frames is zero, so that they are written as they are.
pub(super) fn web_socket(scene: &Scene) -> TcpStream {
    let mut stream = scene.http();
    let head = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                Sec-WebSocket-Protocol: ipc-gateway.v1+json\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            break;
        }
        answer.push(byte[0]);
    }
    let is_in = answer.starts_with(b"HTTP/1.1 101 ");
    assert!(is_in || answer.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// A masked frame of a whole text.
pub(super) fn text_frame(text: &str) -> Vec<u8> {
    let length = match u8::try_from(text.len()).ok().filter(|length| *length < 126) {
        Some(length) => vec![0x80 | length],
        None => [&[0xFF][..], &(text.len() as u64).to_be_bytes()].concat(),
    };
    [&[0x81][..], &length, &[0; 4], text.as_bytes()].concat()
}

/// A connection of HTTP/2, open until it is dropped.
#[derive(Debug)]
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    connection: JoinSet<()>,
    calls: Vec<(ResponseFuture, SendStream<Bytes>)>,
    bodies: Vec<RecvStream>,
}

impl Http2 {
    pub(super) async fn open(address: std::net::SocketAddr) -> Option<Self> {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        // Two gigabytes less one, the largest there may be (RFC 9113, section 6.9.1): nothing is left with the gateway
        // for want of a window of the connection.
        let mut builder = h2::client::Builder::new();
        let (sender, connection) =
            builder.initial_connection_window_size((1 << 31) - 1).handshake(stream).await.ok()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async {
            let _ = connection.await;
        });
        Some(Self { sender, connection: tasks, calls: Vec::new(), bodies: Vec::new() })
    }

    /// Begins a call and sends this much of it, as far as the gateway takes it.
    pub(super) async fn call(
        &mut self,
        method: &str,
        encoding: &str,
        body: Bytes,
        is_whole: bool,
    ) -> Option<()> {
        let request = hyper::Request::post(format!("http://localhost/gateway.v1.Gateway/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-encoding", encoding);
        let mut sender = self.sender.clone().ready().await.ok()?;
        let (response, mut send) = sender.send_request(request.body(()).unwrap(), false).ok()?;
        send.send_data(body, is_whole).ok()?;
        self.calls.push((response, send));
        Some(())
    }

    /// Waits for what becomes of every call; the status, if it is not OK.
    pub(super) async fn statuses(&mut self) -> Vec<String> {
        let mut statuses = Vec::new();
        for (call, _send) in self.calls.drain(..) {
            let Ok(response) = call.await else { continue };
            let (head, mut body) = response.into_parts();
            let told = if let Some(status) = head.headers.get("grpc-status") {
                status.clone()
            } else {
                while let Some(Ok(data)) = body.data().await {
                    let _ = body.flow_control().release_capacity(data.len());
                }
                body.trailers().await.unwrap().unwrap()["grpc-status"].clone()
            };
            statuses.push(told.to_str().unwrap().to_owned());
        }
        statuses
    }

    /// Waits for the heads of all answers, and leaves their bodies unread.
    pub(super) async fn heads(&mut self) {
        for (call, _send) in self.calls.drain(..) {
            if let Ok(response) = call.await {
                self.bodies.push(response.into_body());
            }
        }
    }

    /// Whether the connection has not ended.
    #[allow(dead_code)]
    pub(super) fn is_open(&mut self) -> bool {
        self.connection.try_join_next().is_none()
    }
}

/// A message of gRPC with its prefix (of a `length` that need not be its own).
pub(super) fn grpc_message(is_compressed: bool, length: usize, message: &[u8]) -> Bytes {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&[u8::from(is_compressed)][..], &length, message].concat().into()
}

/// A `RequestRequest` or `PublishRequest`: the subject is field 1, the payload field 3.
pub(super) fn question(subject: &str, payload: &[u8]) -> Vec<u8> {
    [&field(1, subject.len())[..], subject.as_bytes(), &field(3, payload.len()), payload].concat()
}

/// A `SubscribeRequest`.
pub(super) fn subscription(pattern: &str) -> Vec<u8> {
    [&field(1, pattern.len())[..], pattern.as_bytes()].concat()
}

/// Key and length of a field of bytes (protobuf, wire type 2).
fn field(number: u8, mut length: usize) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    while length > 0x7F {
        bytes.push(u8::try_from(length & 0x7F).unwrap() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes
}
