//! The HTTP door: requests and publishes as posts, subscriptions as Server-Sent Events.
//!
//! axum routes, hyper speaks HTTP/1.1, and the door itself holds every bound that a stranger could test: the
//! number of connections, the head in bytes, headers and time, the body in bytes and time, a peer that takes
//! nothing. `axum::serve` has none of these, so the server is built on hyper. HTTP/2 is left out: without TLS
//! browsers do not speak it, and its floods (rapid reset, continuation, settings) are a risk for no gain.
//!
//! # Layout
//!
//! `connection` is one connection, whose heads `pulse` times; `guard` says whom it answers; `routes` is the list of what there is, described by `openapi`;
//! `asking` turns a request into the contract's, with `names` deciding which headers pass and `body` reading
//! what it carries; `answer`, `events` and `problem` are the ways back, with `payload` for bytes within
//! JSON; `rest` is all that is configured instead of built in.

mod answer;
mod asking;
mod body;
mod connection;
mod events;
mod guard;
mod names;
mod openapi;
mod payload;
mod problem;
mod pulse;
pub mod rest;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contract::{Address, BindError, Error, Frontend, Gate, Kind, Pipeline, Presented, ServeError};
use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use wire::caps::Places;
use wire::site::Site;

use crate::names::HeaderNames;

pub use crate::connection::Peer;
pub use crate::routes::Entry;
/// What [`Mount`] gives.
pub use axum::Router;

/// What can be configured of the door.
#[derive(Clone, Debug)]
pub struct Settings<M = NoMount> {
    /// The address to take; port 0 takes a free one.
    pub address: SocketAddr,
    /// Names that may stand in `Host` beside `localhost` and IP addresses; `*` allows every name.
    pub hosts: Vec<String>,
    /// Origins whose pages may send requests, beside the door's own; `*` allows every one but `null`.
    pub origins: Vec<String>,
    /// Origins whose pages may also read the answers (CORS); each may send requests too.
    pub cors_origins: Vec<String>,
    /// Connections at once; one over it is told so and closed.
    pub connections_max: usize,
    /// Connections at once from one address other than loopback; `None` is bounded by the total alone.
    pub connections_per_address_max: Option<usize>,
    /// From the first byte of a request's head (of the first one: from the connect) to its last.
    pub header_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// How long a peer may take nothing of what is written to it.
    pub write_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub keep_alive: Duration,
    /// Headers of one request.
    pub headers_max: usize,
    /// Bytes of one request's head, at least 8192.
    pub header_bytes_max: usize,
    /// Bytes of one request's body.
    pub payload_bytes_max: usize,
    /// Pause between the comments that keep an event stream alive.
    pub event_keep_alive: Duration,
    /// Request headers handed on: names, beginnings such as `x-*`, or `*`. Credentials, what belongs to the
    /// connection and reserved names never are.
    pub request_headers: Vec<String>,
    /// Headers of a responder that are given back, in the same form. What belongs to the connection never is.
    pub response_headers: Vec<String>,
    /// Whether JSON over 1 KiB is compressed for who accepts gzip.
    pub gzip: bool,
    /// The configured routes in force; the last that was sent counts.
    pub rest: watch::Receiver<Arc<rest::Table>>,
    /// Says how the gateway stands, for configured routes that tell it.
    pub stand: rest::Stand,
    /// Says who listens on a port that is taken, as far as can be known.
    pub holder: fn(SocketAddr) -> Option<String>,
    /// What else is served on the port.
    pub mount: M,
}

/// Something else served on the same port, behind the same guard and in the same connections.
///
/// Its handlers find a [`Peer`] among the request's extensions. Upgrades work (`hyper::upgrade::on`); whoever
/// upgrades keeps a clone of the [`Peer`] for as long as the connection lives, as that is the connection's
/// place under the cap, and lets the gate's drain track its task.
pub trait Mount: Send + 'static {
    /// What it adds to the list that `GET /` shows.
    const ENTRIES: &'static [Entry] = &[];

    /// The routes. The gate is the door's own: give it meters of your own where things are counted apart.
    fn router<P: Pipeline>(self, gate: Gate<P>) -> Router;
}

/// Nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMount;

impl Mount for NoMount {
    fn router<P: Pipeline>(self, _: Gate<P>) -> Router {
        Router::new()
    }
}

/// The door, its address taken.
#[derive(Debug)]
pub struct HttpDoor<M = NoMount> {
    listener: TcpListener,
    address: SocketAddr,
    settings: Settings<M>,
}

/// What every request of the door consults.
#[derive(Debug)]
pub(crate) struct Door<P> {
    pub(crate) gate: Gate<P>,
    pub(crate) site: Site,
    pub(crate) request_headers: HeaderNames,
    pub(crate) response_headers: HeaderNames,
    pub(crate) payload_bytes_max: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) event_keep_alive: Duration,
    pub(crate) stand: rest::Stand,
    rest: watch::Receiver<Arc<rest::Table>>,
}

impl<P> Door<P> {
    /// The configured routes in force now.
    pub(crate) fn table(&self) -> Arc<rest::Table> {
        Arc::clone(&self.rest.borrow())
    }
}

/// Connections that the system keeps until they are accepted: a burst of reconnecting browsers fits.
const BACKLOG: u32 = 1024;
/// Shortest and longest pause after `accept` failed, for want of descriptors or memory.
const ACCEPT_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// When a client that was turned away may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl<M: Mount> Frontend for HttpDoor<M> {
    const NAME: &'static str = "http";
    type Settings = Settings<M>;

    async fn bind(settings: Settings<M>) -> Result<Self, BindError> {
        let (listener, address) = listen(settings.address).map_err(|source| {
            let reason = match source.kind() {
                io::ErrorKind::AddrInUse => {
                    let by = (settings.holder)(settings.address).map_or_else(String::new, |by| format!(" by {by}"));
                    format!("the port is taken{by}; choose another with --set http.port=N (IPC_GATEWAY__HTTP__PORT)")
                }
                _ => format!(
                    "{source}; choose another with --set http.port=N (IPC_GATEWAY__HTTP__PORT) or --set \
                     http.address=IP (IPC_GATEWAY__HTTP__ADDRESS)"
                ),
            };
            BindError { address: Address::Tcp(settings.address), reason, source: Some(source) }
        })?;
        Ok(Self { listener, address, settings })
    }

    fn address(&self) -> Address {
        Address::Tcp(self.address)
    }

    async fn serve(self, gate: Gate<impl Pipeline>) -> Result<(), ServeError> {
        let Self { listener, settings, .. } = self;
        let places = Places::new(
            settings.connections_max,
            settings.connections_per_address_max,
            Arc::clone(&gate.meters),
        );
        let bounds = connection::Bounds::of(&settings);
        let allowed = settings.origins.iter().chain(&settings.cors_origins);
        let door = Arc::new(Door {
            gate: gate.clone(),
            site: Site::new(Self::NAME, &settings.hosts).with_origins(allowed),
            request_headers: HeaderNames::of_requests(&settings.request_headers),
            response_headers: HeaderNames::of_answers(&settings.response_headers),
            payload_bytes_max: settings.payload_bytes_max,
            body_timeout: settings.body_timeout,
            event_keep_alive: settings.event_keep_alive,
            stand: settings.stand,
            rest: settings.rest,
        });
        let mounted = settings.mount.router(gate.clone());
        let router = routes::router(&door, mounted, &settings.cors_origins, settings.gzip);
        let serving = connection::Serving { door, router, bounds };
        let mut pause = ACCEPT_PAUSES.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = gate.drain.draining() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    pause = ACCEPT_PAUSES.0;
                    admit(stream, address, &gate, &places, &serving);
                }
                Err(error) if is_of_the_peer(&error) => {}
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
        while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
            let draining = Error::new(Kind::Draining, "the gateway is stopping; connect again");
            refuse(stream, &gate, &draining.with_retry_after(gate.drain.retry_after()));
        }
        drop(listener);
        gate.drain.finished().await;
        Ok(())
    }
}

/// Lets a connection in, or says why not.
fn admit<P: Pipeline>(
    stream: TcpStream,
    address: SocketAddr,
    gate: &Gate<P>,
    places: &Places,
    serving: &connection::Serving<P>,
) {
    let handshake = match gate.handshake() {
        Ok(handshake) => handshake,
        Err(error) => return refuse(stream, gate, &error),
    };
    let Some(place) = places.take(address.ip()) else {
        let full = Error::new(Kind::Overloaded, "too many connections; try again later");
        return refuse(stream, gate, &full.with_retry_after(RETRY_AFTER));
    };
    let origin = match gate.admit(HttpDoor::<NoMount>::NAME, &Presented::Anonymous(address)) {
        Ok(origin) => origin,
        Err(error) => {
            tracing::warn!(door = HttpDoor::<NoMount>::NAME, %address, "refused: {error}");
            return refuse(stream, gate, &error);
        }
    };
    gate.meters.connections_total.increment();
    // Answers are written whole: nothing is gained by waiting for more. A failure only costs time.
    let _ = stream.set_nodelay(true);
    gate.drain.track(serving.clone().serve(stream, origin, (address, place), handshake));
}

/// Says why a connection is not let in, before a byte of it is read. One attempt without waiting: an empty
/// socket buffer takes it.
fn refuse<P>(stream: TcpStream, gate: &Gate<P>, error: &Error) {
    gate.meters.connections_refused_total.increment();
    let answer = problem::before_any_request(error);
    // Not by way of the runtime, which has not yet heard that the socket can be written to.
    if let Ok(mut stream) = stream.into_std() {
        let _ = io::Write::write(&mut stream, &answer);
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
