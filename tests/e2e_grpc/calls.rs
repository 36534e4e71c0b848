//! A call by the `h2` crate: HTTP/2 as it should be, with whatever in it.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use hyper::http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::running::within;

/// A connection.
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    task: JoinSet<()>,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status of HTTP.
    pub(crate) http: u16,
    /// Head and trailers.
    pub(crate) told: HeaderMap,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The status of gRPC; `None` if there is none.
    pub(crate) fn status(&self) -> Option<u8> {
        self.told.get("grpc-status").map(|status| status.to_str().unwrap().parse().unwrap())
    }
}

/// The bytes of a message on the wire: a flag, the length, the message.
pub(crate) fn framed(flag: u8, message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag], &length[..], message].concat().into()
}

/// A `RequestRequest` to `demo.<what>` with a payload of under 128 bytes.
pub(crate) fn question(what: &str, payload: &[u8]) -> Vec<u8> {
    let subject = format!("demo.{what}");
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    [&[0x0a, length(subject.as_bytes())], subject.as_bytes(), &[0x1a, length(payload)], payload].concat()
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::open_with_window(address, 65_535).await
    }

    /// One whose streams take so many bytes ahead.
    pub(crate) async fn open_with_window(address: SocketAddr, bytes: u32) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(bytes);
        let (sender, connection) = within(builder.handshake(stream)).await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move { drop(connection.await) });
        Self { sender, task }
    }

    /// Begins a call of a method of the service, or of another one's if it says whose.
    pub(crate) async fn begin(
        &self,
        method: &str,
        headers: &[(&str, &[u8])],
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let service = if method.contains('/') { "" } else { "gateway.v1.Gateway/" };
        let mut request = Request::post(format!("http://localhost/{service}{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut sender = within(self.sender.clone().ready()).await.unwrap();
        sender.send_request(request.body(()).unwrap(), false).unwrap()
    }

    /// A call to its end.
    pub(crate) async fn call(&self, method: &str, headers: &[(&str, &[u8])], body: Bytes) -> Answer {
        let (response, mut send) = self.begin(method, headers).await;
        // What is refused by its head may be reset before its body.
        drop(send.send_data(body, true));
        answer(response).await
    }

    /// Resolves when it is over, because the other side ended it.
    pub(crate) async fn closed(mut self) {
        within(self.task.join_next()).await;
    }

    /// Sees that the echo answers.
    pub(crate) async fn expect_echo(&self) {
        let answer = self.call("Request", &[], framed(0, &question("echo", b"hello"))).await;
        assert_eq!(answer.status(), Some(0), "{answer:?}");
        assert!(answer.body.ends_with(b"hello"), "{answer:?}");
    }
}

/// What comes of a call.
pub(crate) async fn answer(response: h2::client::ResponseFuture) -> Answer {
    let (head, mut body) = within(response).await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(piece) = within(body.data()).await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    let mut told = head.headers;
    told.extend(within(body.trailers()).await.unwrap().unwrap_or_default());
    Answer { http: head.status.as_u16(), told, body: bytes }
}
