//! The gRPC door: unary calls, streams and sessions over HTTP/2, and gRPC-Web.
//!
//! tonic knows the messages, hyper speaks HTTP, and the door itself holds every bound that a stranger could test:
//! connections, streams, resets, header lists, frames that cost nothing, silence at the start, a client that takes
//! nothing. `tonic::transport` is not used, as it has ideas of its own about deadlines.
//!
//! # Layout
//!
//! [`proto`] is made from `proto/gateway/v1`, but for the messages of [`shared`]; `connection` is one connection over
//! `watched`, which counts `frames`, with `taking` for what its client does not take; `answer` is what every call passes; `service` holds the methods, with `calls` for
//! the pipeline, `events` and `session` for what is a stream; `asking` and `status` are the ways in and out;
//! `arrived` counts memory; `health` tells the readiness; [`client`] is a session seen from the other end.

mod answer;
mod arrived;
mod asking;
mod calls;
pub mod client;
mod connection;
mod events;
mod frames;
mod health;
pub mod proto;
mod service;
mod session;
pub mod shared;
mod status;
mod taking;
mod watched;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::{
    Address, BindError, Error, Frontend, Gate, Handshake, Kind, Origin, Pipeline, Presented, ServeError,
    UnixPeer,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use wire::caps::{Place, Places};
use wire::message::Limits;
use wire::names::HeaderNames;
use wire::site::Site;
use wire::socket::SocketFile;

use crate::answer::Answers;
use crate::connection::{Bounds, Serving};
use crate::health::Readiness;
use crate::proto::gateway_server::GatewayServer;
use crate::service::Service;
use crate::status::Telling;

/// The door's name in logs, metrics and origins.
pub const NAME: &str = "grpc";

/// Says whether the gateway serves, for `grpc.health.v1`. Asked often: it only looks.
pub type Ready = Arc<dyn Fn() -> bool + Send + Sync>;

/// What can be configured of the door.
#[derive(Clone)]
pub struct Settings {
    /// The address to take; port 0 takes a free one.
    pub address: SocketAddr,
    /// A Unix socket to listen on as well, and the mode of its file.
    pub socket: Option<(PathBuf, u32)>,
    /// Names that gRPC-Web may use for the gateway beside `localhost` and IP addresses; `*` allows every name.
    pub hosts: Vec<String>,
    /// Origins whose pages may call and read the answers by gRPC-Web; `*` allows every one but `null`.
    pub origins: Vec<String>,
    /// Connections at once; one over it is closed.
    pub connections_max: usize,
    /// Connections at once from one address other than loopback; `None` is bounded by the total alone.
    pub connections_per_address_max: Option<usize>,
    /// From the connect to the client's hello, and for a head of HTTP/1.1.
    pub handshake_timeout: Duration,
    /// How long a client may take nothing of what is written to it.
    pub write_timeout: Duration,
    /// How long a connection may be without a call; then it gets a GOAWAY.
    pub idle_timeout: Duration,
    /// How often a silent client is pinged.
    pub ping_interval: Duration,
    /// How long it has to answer.
    pub ping_timeout: Duration,
    /// SETTINGS, PING and PRIORITY frames of one connection in a second; more end it.
    pub control_frames_per_second_max: u32,
    /// Calls of one connection at once.
    pub concurrent_streams_max: u32,
    /// Calls that a client reset before they were looked at; more end the connection.
    pub pending_resets_max: usize,
    /// Bytes that a client may send ahead, on a call and on a connection, before they are taken: 65,535, the least that
    /// HTTP/2 has (RFC 9113, section 6.9.2), to 2^31 - 1.
    pub window_bytes: u32,
    /// Bytes of a call's metadata, as HTTP/2 counts them.
    pub header_bytes_max: u32,
    /// Bytes of one message either way, decompressed.
    pub message_bytes_max: usize,
    /// Questions of one session in flight; at this many, reading from it stops. 1 to 4096.
    pub in_flight_max: usize,
    /// Subscriptions of one session.
    pub streams_max: usize,
    /// Bytes that a session's client has not taken yet; at this many, reading from it stops.
    pub write_queue_bytes_max: usize,
    /// Metadata handed on: names, beginnings such as `x-*`, or `*`. Credentials, what belongs to the connection
    /// and reserved names never are.
    pub request_headers: Vec<String>,
    /// Headers of a responder that are given back as metadata, in the same form.
    pub response_headers: Vec<String>,
    /// Bytes of a responder's body that the status of a `failed` may carry.
    pub error_body_bytes_max: usize,
    /// Whether messages are compressed for who accepts gzip. Compressed ones are always taken.
    pub gzip: bool,
    /// Whether the gateway serves.
    pub ready: Ready,
    /// Says who listens on a port that is taken, as far as can be known.
    pub holder: fn(SocketAddr) -> Option<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Settings").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The door, its addresses taken.
#[derive(Debug)]
pub struct GrpcDoor {
    listener: TcpListener,
    address: SocketAddr,
    socket: Option<SocketFile>,
    settings: Settings,
}

/// What every call of the door consults.
#[derive(Debug)]
pub(crate) struct Door<P> {
    pub(crate) gate: Gate<P>,
    pub(crate) site: Site,
    pub(crate) request_names: HeaderNames,
    pub(crate) response_names: HeaderNames,
    pub(crate) telling: Telling,
    pub(crate) message_bytes_max: usize,
    /// What a session's client may have sent that is not taken.
    pub(crate) window_bytes: usize,
    pub(crate) write_queue_bytes_max: usize,
    pub(crate) limits: Arc<Limits>,
}

/// Connections that the system keeps until they are accepted: a burst of reconnecting clients fits.
const BACKLOG: u32 = 1024;
/// Shortest and longest pause after `accept` failed, for want of descriptors or memory.
const ACCEPT_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

impl Frontend for GrpcDoor {
    const NAME: &'static str = NAME;
    type Settings = Settings;

    async fn bind(settings: Settings) -> Result<Self, BindError> {
        let (listener, address) = listen(settings.address).map_err(|source| {
            let reason = match source.kind() {
                io::ErrorKind::AddrInUse => {
                    let by = (settings.holder)(settings.address).map_or_else(String::new, |by| format!(" by {by}"));
                    format!("the port is taken{by}; choose another with --set grpc.port=N (IPC_GATEWAY__GRPC__PORT)")
                }
                _ => format!(
                    "{source}; choose another with --set grpc.port=N (IPC_GATEWAY__GRPC__PORT) or --set \
                     grpc.address=IP (IPC_GATEWAY__GRPC__ADDRESS)"
                ),
            };
            BindError { address: Address::Tcp(settings.address), reason, source: Some(source) }
        })?;
        let socket =
            settings.socket.as_ref().map(|(path, mode)| SocketFile::bind(path, *mode)).transpose()?;
        Ok(Self { listener, address, socket, settings })
    }

    fn address(&self) -> Address {
        Address::Tcp(self.address)
    }

    async fn serve(self, gate: Gate<impl Pipeline>) -> Result<(), ServeError> {
        let Self { listener, socket, settings, .. } = self;
        let meters = Arc::clone(&gate.meters);
        let places = Places::new(settings.connections_max, settings.connections_per_address_max, meters);
        let entrance = Entrance { serving: serving(&settings, &gate)?, places, gate: gate.clone() };
        let mut pause = ACCEPT_PAUSES.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = gate.drain.draining() => break,
                accepted = listener.accept() => accepted.map(Accepted::Tcp),
                accepted = accept_unix(socket.as_ref()) => accepted.map(Accepted::Unix),
            };
            match accepted {
                Ok(accepted) => {
                    pause = ACCEPT_PAUSES.0;
                    entrance.admit(accepted);
                }
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(door = NAME, %error, "cannot accept a connection; waiting");
                    tokio::select! {
                        () = gate.drain.draining() => break,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(ACCEPT_PAUSES.1);
                }
            }
        }
        // The socket's file goes before the connections: a gateway that starts now finds its place free.
        drop((listener, socket));
        gate.drain.finished().await;
        Ok(())
    }
}

/// All that there is to call.
fn serving<P: Pipeline>(settings: &Settings, gate: &Gate<P>) -> Result<Serving<P>, ServeError> {
    let telling = Telling { body_bytes_max: settings.error_body_bytes_max };
    let door = Arc::new(Door {
        gate: gate.clone(),
        site: Site::new(NAME, &settings.hosts).with_origins(&settings.origins),
        request_names: asking::request_names(&settings.request_headers),
        response_names: asking::response_names(&settings.response_headers),
        telling,
        message_bytes_max: settings.message_bytes_max,
        window_bytes: settings.window_bytes as usize,
        write_queue_bytes_max: settings.write_queue_bytes_max,
        limits: Arc::new(Limits {
            message_bytes_max: settings.message_bytes_max,
            in_flight_max: settings.in_flight_max,
            streams_max: settings.streams_max,
            timeout_max: gate.timeouts.max,
        }),
    });
    let mut gateway = GatewayServer::new(Service(Arc::clone(&door)))
        .max_decoding_message_size(settings.message_bytes_max)
        .max_encoding_message_size(settings.message_bytes_max)
        .accept_compressed(CompressionEncoding::Gzip);
    if settings.gzip {
        gateway = gateway.send_compressed(CompressionEncoding::Gzip);
    }
    let ready = Arc::clone(&settings.ready);
    let readiness = Readiness { ready, drain: gate.drain.clone(), telling };
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let broken =
        |error: tonic_reflection::server::Error| ServeError { door: NAME, reason: error.to_string() };
    let routes = Routes::new(gateway)
        .add_service(HealthServer::new(readiness))
        .add_service(reflection().build_v1().map_err(broken)?)
        .add_service(reflection().build_v1alpha().map_err(broken)?)
        .prepare();
    let answers = Answers::new(&door, routes, &settings.origins);
    Ok(Serving { door, answers, bounds: Bounds::of(settings) })
}

/// A connection that was accepted.
enum Accepted {
    Tcp((TcpStream, SocketAddr)),
    Unix(UnixStream),
}

async fn accept_unix(socket: Option<&SocketFile>) -> io::Result<UnixStream> {
    match socket {
        Some(socket) => socket.listener().accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Who may come in, and how they are served.
struct Entrance<P> {
    serving: Serving<P>,
    places: Places,
    gate: Gate<P>,
}

impl<P: Pipeline> Entrance<P> {
    /// Lets a connection in, or closes it: before its hello there is no way to say more.
    fn admit(&self, accepted: Accepted) {
        match accepted {
            Accepted::Tcp((stream, address)) => {
                let presented = Presented::Anonymous(address);
                let Some((place, origin, handshake)) = self.place(address.ip(), &presented) else { return };
                // Answers are written whole: nothing is gained by waiting for more. A failure only costs time.
                let _ = stream.set_nodelay(true);
                self.serve(stream, origin, place, handshake);
            }
            Accepted::Unix(stream) => {
                let peer = match stream.peer_cred() {
                    Ok(peer) => UnixPeer { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() },
                    Err(error) => {
                        tracing::warn!(door = NAME, %error, "a peer without credentials");
                        return self.gate.meters.connections_refused_total.increment();
                    }
                };
                let presented = Presented::Unix(peer);
                let Some((place, origin, handshake)) = self.place(None, &presented) else { return };
                self.serve(stream, origin, place, handshake);
            }
        }
    }

    fn place(
        &self,
        address: impl Into<Option<std::net::IpAddr>>,
        presented: &Presented,
    ) -> Option<(Place, Arc<Origin>, Handshake)> {
        let admitted = self.gate.handshake().and_then(|handshake| {
            let full = || Error::new(Kind::Overloaded, "too many connections");
            let place = self.places.take(address).ok_or_else(full)?;
            Ok((place, self.gate.admit(NAME, presented)?, handshake))
        });
        admitted
            .inspect_err(|error| {
                self.gate.meters.connections_refused_total.increment();
                tracing::debug!(door = NAME, peer = %presented.address(), "refused: {error}");
            })
            .ok()
    }

    fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        origin: Arc<Origin>,
        place: Place,
        handshake: Handshake,
    ) {
        self.gate.meters.connections_total.increment();
        self.gate.drain.track(self.serving.clone().serve(stream, origin, place, handshake));
    }
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart finds its port free although old connections linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The peer went away between its connect and our accept (accept(2)): the next connection is not affected.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
