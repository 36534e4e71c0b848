//! The gRPC door: unary calls, streams and sessions over HTTP/2, and gRPC-Web.
//!
//! tonic knows the messages, hyper speaks HTTP, and the door itself holds every bound that a stranger could test:
//! connections, streams, resets, header lists, frames that cost nothing, silence at the start, a client that takes
//! nothing. `tonic::transport` is not used, as it has ideas of its own about deadlines.
//!
//! # Layout
//!
//! [`proto`] is made from `proto/gateway/v1`, but for the messages of [`shared`]; `connection` is one connection with its
//! `pulse`, which counts `frames`, and `taking` for what its client does not take; `answer` is what every call passes; `service` holds the methods, with `calls` for
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
mod pulse;
mod service;
mod session;
pub mod shared;
mod status;
mod taking;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::{Address, BindError, Frontend, Gate, Pipeline, ServeError};
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use wire::caps::Places;
use wire::message::Limits;
use wire::names::HeaderNames;
use wire::site::Site;
use wire::socket::SocketFile;
use wire::{entrance, listener};

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

impl Frontend for GrpcDoor {
    const NAME: &'static str = NAME;
    type Settings = Settings;

    async fn bind(settings: Settings) -> Result<Self, BindError> {
        let (listener, address) = listener::bind_tcp(NAME, settings.address, settings.holder)?;
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
        let serving = serving(&settings, &gate)?;
        let over_socket = async {
            if let Some(socket) = socket {
                entrance::receive(socket, &serving, &gate, &places).await;
            }
        };
        tokio::join!(entrance::receive(listener, &serving, &gate, &places), over_socket);
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
