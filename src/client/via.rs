//! The ways in, by name.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::grpc::session;
use super::http::Http;
use super::json::Envelope;
use super::stream::unix;
use super::tasks::Tasks;
use super::v1::Version1;
use super::v2::Version2;
use super::ws::{Binary, Text, web_socket};
use super::{Line, Lost};

/// A way in: a door, and what is spoken there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Via {
    /// Version 2 of the IPC protocol on the Unix socket.
    #[default]
    Unix,
    /// Version 1 of the IPC protocol on the Unix socket: its subjects are `task_submit`, `task_query` and
    /// `task_cancel`.
    UnixV1,
    /// The JSON envelope on the Unix socket.
    Json,
    /// Bare tasks in raw JSON on the Unix socket: the subject is `task_submit`.
    Tasks,
    /// The JSON envelope over a WebSocket.
    Ws,
    /// Version 2 of the IPC protocol over a WebSocket.
    WsBinary,
    /// HTTP/1.1: posts, and Server-Sent Events for a subscription.
    Http,
    /// A session of `gateway.v1.Gateway` at the gRPC door.
    Grpc,
}

/// Where the doors are.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The Unix socket.
    pub socket: PathBuf,
    /// The HTTP door, which has the WebSocket too: a host and a port, with a colon between.
    pub http: String,
    /// The gRPC door.
    pub grpc: SocketAddr,
}

impl Via {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::UnixV1 => "unix-v1",
            Self::Json => "json",
            Self::Tasks => "tasks",
            Self::Ws => "ws",
            Self::WsBinary => "ws-binary",
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }

    /// Connects.
    pub async fn open(self, reach: &Reach) -> Result<Box<dyn Line>, Lost> {
        match self {
            Self::Unix => unix(&reach.socket, Version2::default()).await,
            Self::UnixV1 => unix(&reach.socket, Version1::default()).await,
            Self::Json => unix(&reach.socket, Envelope::default()).await,
            Self::Tasks => unix(&reach.socket, Tasks::default()).await,
            Self::Ws => web_socket::<Text>(&reach.http).await,
            Self::WsBinary => web_socket::<Binary>(&reach.http).await,
            Self::Http => Http::open(&reach.http).await,
            Self::Grpc => session(reach.grpc).await,
        }
    }

    /// The address that it connects to, for people.
    pub fn address(self, reach: &Reach) -> String {
        match self {
            Self::Unix | Self::UnixV1 | Self::Json | Self::Tasks => reach.socket.display().to_string(),
            Self::Ws | Self::WsBinary => format!("ws://{}/ws", reach.http),
            Self::Http => format!("http://{}", reach.http),
            Self::Grpc => reach.grpc.to_string(),
        }
    }
}
