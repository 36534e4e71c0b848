//! A session seen from the client's end: what the command line and the benchmark speak to the door with.
//!
//! In the hands of one task: things to say are queued, and one poll gives the next thing heard. hyper needs a task
//! of its own for the connection; it ends with the session.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{StreamExt as _, stream};
use hyper::Uri;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::{Status, Streaming};
use tower_service::Service;

use crate::proto::SessionRequest;
use crate::proto::gateway_client::GatewayClient;
use crate::shared::SessionResponse;

/// Bytes that the gateway may send ahead: as much as a message may have, so that no round trip is spent on it.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Bytes of the largest message that is taken.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An open session. Dropping it closes the connection.
#[derive(Debug)]
pub struct Session {
    say: mpsc::UnboundedSender<SessionRequest>,
    heard: Streaming<SessionResponse>,
    /// The connection's task.
    _connection: JoinSet<()>,
}

/// Why a session is not open, or is over.
#[derive(Debug, thiserror::Error)]
pub enum Over {
    /// The connection could not be made.
    #[error(transparent)]
    Connect(#[from] io::Error),
    /// What is there does not speak HTTP/2, or broke the connection.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// The gateway ended the call.
    #[error("{0}")]
    Ended(String),
    /// The gateway closed the session as it should.
    #[error("the session is over")]
    Closed,
}

impl Session {
    /// Opens a session with the gateway at `address`. The answer's head is waited for, so that it is known to be
    /// a gateway.
    pub async fn open(address: SocketAddr) -> Result<Self, Over> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            // How it ended is told by the session.
            let _ = connection.await;
        });
        let authority = address.to_string();
        let origin = Uri::builder().scheme("http").authority(authority).path_and_query("/").build();
        let origin = origin.expect("an address is an authority");
        let mut client =
            GatewayClient::with_origin(Sender(sender), origin).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (say, mut said) = mpsc::unbounded_channel();
        let said = stream::poll_fn(move |context| said.poll_recv(context));
        let response = client.session(said).await.map_err(|status| ended(&status))?;
        Ok(Self { say, heard: response.into_inner(), _connection: task })
    }

    /// Queues something to say. What is said after the end is lost, as the next poll tells.
    pub fn say(&self, message: SessionRequest) {
        let _ = self.say.send(message);
    }

    /// The next thing heard. After an error there is no more.
    pub fn poll_heard(&mut self, context: &mut Context<'_>) -> Poll<Result<SessionResponse, Over>> {
        Poll::Ready(match ready!(self.heard.poll_next_unpin(context)) {
            Some(Ok(message)) => Ok(message),
            Some(Err(status)) => Err(ended(&status)),
            None => Err(Over::Closed),
        })
    }
}

fn ended(status: &Status) -> Over {
    Over::Ended(format!("{:?}: {}", status.code(), status.message()))
}

/// A connection as tonic's client wants one.
#[derive(Clone, Debug)]
struct Sender(http2::SendRequest<Body>);

impl Service<hyper::Request<Body>> for Sender {
    type Response = hyper::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A delivery, out of the bytes that stand for it.
pub fn delivery(bytes: bytes::Bytes) -> Option<crate::proto::Delivery> {
    prost::Message::decode(bytes).ok()
}
