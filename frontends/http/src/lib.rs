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

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contract::{Address, BindError, Frontend, Gate, Pipeline, ServeError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use wire::caps::Places;
use wire::site::Site;
use wire::{entrance, listener};

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

impl<M: Mount> Frontend for HttpDoor<M> {
    const NAME: &'static str = "http";
    type Settings = Settings<M>;

    async fn bind(settings: Settings<M>) -> Result<Self, BindError> {
        let (listener, address) = listener::bind_tcp(Self::NAME, settings.address, settings.holder)?;
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
        entrance::receive(listener, &serving, &gate, &places).await;
        gate.drain.finished().await;
        Ok(())
    }
}
