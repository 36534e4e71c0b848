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

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::{Address, BindError, Error, Frontend, Gate, Kind, Pipeline, Presented, ServeError, UnixPeer};
use futures_util::FutureExt;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use wire::message::Limits;

use crate::buffers::BufferPool;
use crate::session::Bounds;
use wire::socket::SocketFile;

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

/// Shortest and longest pause after `accept` failed, for want of descriptors or memory.
const ACCEPT_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

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
        let places = Arc::new(Semaphore::new(settings.connections_max.min(Semaphore::MAX_PERMITS)));
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
        let mut pause = ACCEPT_PAUSES.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = gate.drain.draining() => break,
                accepted = file.listener().accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    pause = ACCEPT_PAUSES.0;
                    admit(stream, &gate, &pool, &places, &bounds);
                }
                Err(error) => {
                    gate.meters.accept_failures_total.increment();
                    tracing::warn!(door = Self::NAME, %error, "cannot accept a connection; waiting");
                    tokio::select! {
                        () = gate.drain.draining() => break,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(ACCEPT_PAUSES.1);
                }
            }
        }
        // Who has connected and was not accepted yet is told, instead of reset.
        while let Some(Ok((stream, _))) = file.listener().accept().now_or_never() {
            let draining = Error::new(Kind::Draining, "the gateway is stopping; connect again");
            refuse(stream, &gate, &draining.with_retry_after(gate.drain.retry_after()));
        }
        // The file goes before the connections: a gateway that starts now finds its place free.
        drop(file);
        gate.drain.finished().await;
        Ok(())
    }
}

/// Lets a connection in, or says why not.
fn admit<P: Pipeline>(
    stream: UnixStream,
    gate: &Gate<P>,
    pool: &BufferPool,
    places: &Arc<Semaphore>,
    bounds: &Arc<Bounds>,
) {
    // Who is there is known at once: it has no handshake that could be waited for.
    if let Err(error) = gate.check_memory() {
        return refuse(stream, gate, &error);
    }
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        return refuse(stream, gate, &Error::new(Kind::Overloaded, "too many connections; try again later"));
    };
    let peer = match stream.peer_cred() {
        Ok(peer) => UnixPeer { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() },
        Err(error) => {
            tracing::warn!(door = UnixSocket::NAME, %error, "a peer without credentials");
            return refuse(stream, gate, &Error::new(Kind::Unauthenticated, "no peer credentials"));
        }
    };
    let origin = match gate.admit(UnixSocket::NAME, &Presented::Unix(peer)) {
        Ok(origin) => origin,
        Err(error) => {
            tracing::warn!(
                door = UnixSocket::NAME,
                uid = peer.uid,
                gid = peer.gid,
                pid = peer.pid,
                "refused: {error}"
            );
            return refuse(stream, gate, &error);
        }
    };
    gate.meters.connections_total.increment();
    gate.meters.connections.add(1);
    let (meters, session) = (Arc::clone(&gate.meters), gate.clone());
    let (pool, bounds) = (pool.clone(), Arc::clone(bounds));
    gate.drain.track(async move {
        // Given back also when the session panics.
        let _open = Open { _place: place, meters };
        session::serve(stream, origin, session, pool, bounds).await;
    });
}

/// Counts a connection until it is dropped.
struct Open {
    _place: tokio::sync::OwnedSemaphorePermit,
    meters: Arc<contract::DoorMeters>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.meters.connections.add(-1);
    }
}

/// Says why a connection is not let in, before a byte of it is read. One attempt without waiting: an empty
/// socket buffer takes it.
fn refuse<P>(stream: UnixStream, gate: &Gate<P>, error: &Error) {
    gate.meters.connections_refused_total.increment();
    let body = v1::error_body(error, error.kind().row().ipc);
    let frame = [&frame::header(frame::kind::RESPONSE_ERROR, body.len())[..], body.as_bytes()].concat();
    // Not by way of the runtime, which has not yet heard that the socket can be written to.
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(&frame);
    }
}
