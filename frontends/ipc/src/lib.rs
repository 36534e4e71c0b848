//! The Unix-socket door: frames of versions 1 and 2 and raw JSON on one socket, told apart by their first bytes.
//!
//! # Layout
//!
//! `session` is one connection, which speaks a dialect (`framed`, with the frames of `v1` or the messages of `wire`,
//! or `raw`) defined by `exchange`; `ordered` keeps answers in order; `outbox` and `buffers` are what a session works
//! with, beside the in-flight set, the streams and the socket file of `wire`.

mod buffers;
mod exchange;
mod frame;
mod framed;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod ordered;
mod outbox;
mod raw;
mod session;
mod v1;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::{Address, BindError, Error, Frontend, Gate, Pipeline, ServeError};
use tokio::net::UnixStream;
use wire::caps::Places;
use wire::entrance::{self, Guest, Host};
use wire::message::Limits;
use wire::socket::SocketFile;

use crate::buffers::BufferPool;
use crate::session::Bounds;

/// What can be configured of the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The socket file.
    pub path: PathBuf,
    /// Its permission bits, such as `0o600`.
    pub mode: u32,
    /// Connections at once; one over it gets an error frame.
    pub connections_max: usize,
    /// Requests of one connection that are worked on or wait to be written; at this many, reading from it
    /// stops. 1 to 4096.
    pub in_flight_max: usize,
    /// Streams of one connection at once.
    pub streams_max: usize,
    /// Read buffers kept ready, at most 128.
    pub buffers_ready: usize,
    /// Bytes of a read buffer.
    pub buffer_bytes: usize,
    /// Bytes of answers of one connection that are not written yet; at this many, reading from it stops.
    pub write_queue_bytes_max: usize,
    /// From the first byte of a frame's header to its last.
    pub header_timeout: Duration,
    /// From the end of a frame's header to the end of the frame; for raw JSON, of a whole document.
    pub body_timeout: Duration,
    /// How long the peer may take nothing of what is written to it.
    pub write_timeout: Duration,
    /// Whether a reply whose JSON says `"ok":false` is written as `RESPONSE_ERROR`.
    pub failed_as_error: bool,
}

/// The door, its socket bound.
#[derive(Debug)]
pub struct UnixSocket {
    file: SocketFile,
    settings: Settings,
}

impl Frontend for UnixSocket {
    const NAME: &'static str = "unix";
    type Settings = Settings;

    async fn bind(settings: Settings) -> Result<Self, BindError> {
        let file = SocketFile::bind(&settings.path, settings.mode)?;
        Ok(Self { file, settings })
    }

    fn address(&self) -> Address {
        Address::Unix(self.file.path().to_owned())
    }

    async fn serve(self, gate: Gate<impl Pipeline>) -> Result<(), ServeError> {
        let Self { file, settings } = self;
        let pool = BufferPool::new(settings.buffers_ready, settings.buffer_bytes, Arc::clone(&gate.meters));
        let bounds = Arc::new(Bounds {
            in_flight_max: settings.in_flight_max,
            streams_max: settings.streams_max,
            write_queue_bytes_max: settings.write_queue_bytes_max,
            header_timeout: settings.header_timeout,
            body_timeout: settings.body_timeout,
            write_timeout: settings.write_timeout,
            failed_as_error: settings.failed_as_error,
            limits: Arc::new(Limits {
                message_bytes_max: frame::FRAME_BYTES_MAX,
                in_flight_max: settings.in_flight_max,
                streams_max: settings.streams_max,
                timeout_max: gate.timeouts.max,
            }),
        });
        let places = Places::new(settings.connections_max, None, Arc::clone(&gate.meters));
        let serving = Serving { gate: gate.clone(), pool, bounds };
        entrance::receive(file, &serving, &gate, &places).await;
        gate.drain.finished().await;
        Ok(())
    }
}

/// All that a connection is served with.
struct Serving<P> {
    gate: Gate<P>,
    pool: BufferPool,
    bounds: Arc<Bounds>,
}

impl<P: Pipeline> Host<SocketFile> for Serving<P> {
    const NAME: &'static str = UnixSocket::NAME;
    type Entry = ();

    fn serve(&self, stream: UnixStream, guest: Guest<(), ()>) -> impl Future<Output = ()> + Send + 'static {
        let (gate, pool, bounds) = (self.gate.clone(), self.pool.clone(), Arc::clone(&self.bounds));
        async move {
            let Guest { origin, place, .. } = guest;
            // Given back also when the session panics.
            let _place = place;
            session::serve(stream, origin, gate, pool, bounds).await;
        }
    }

    fn refusal(&self, error: &Error) -> Vec<u8> {
        let body = v1::error_body(error, error.kind().row().ipc);
        [&frame::header(frame::kind::RESPONSE_ERROR, body.len())[..], body.as_bytes()].concat()
    }
}
