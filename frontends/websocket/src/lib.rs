//! The WebSocket door: the JSON envelope and the messages of version 2 over one socket, for browsers and for
//! everything behind an ingress.
//!
//! It has no listener of its own: whatever speaks HTTP/1.1 hands it the requests for its path
//! ([`WebSocketDoor::open`]), so that one port serves both. Frames are parsed with tungstenite's frame layer; the
//! loop around it is ours, because the bounds that a stranger can test (fragments, the time of a message, pings,
//! memory before it is promised) need every frame to be seen, and because an idle connection should hold no buffer.
//!
//! # Layout
//!
//! `handshake` is all that happens before the upgrade; `session` is one connection after it, a conversation in
//! a `form` over a [`socket`]; the socket reads with `reader`, writes from `outbox` and ends as `close` says.

pub mod close;
mod form;
mod handshake;
mod outbox;
mod reader;
mod session;
pub mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::{Error, Gate, Kind, Pipeline, Presented};
use http_body_util::Full;
use hyper::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wire::departure::Departure;
use wire::message::Limits;
use wire::site::Site;

use crate::handshake::{Opening, Refused};

pub use crate::outbox::{Draft, Outbox};
pub use crate::reader::Message;

/// The door's name in logs, metrics and origins.
pub const NAME: &str = "websocket";
/// Where clients find it.
pub const PATH: &str = "/ws";
/// When a client that was turned away may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What can be configured of the door.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which names are answered, and the pages of which origins.
    pub site: Site,
    /// Connections at once.
    pub connections_max: usize,
    /// Requests of one connection in flight; at this many, reading from it stops. 1 to 4096.
    pub in_flight_max: usize,
    /// Subscriptions of one connection.
    pub streams_max: usize,
    /// Bytes for one connection that are not written yet; at this many, reading from it stops.
    pub write_queue_bytes_max: usize,
    /// The bounds of one socket.
    pub bounds: Arc<socket::Bounds>,
}

/// The door. Cloning shares it.
#[derive(Debug)]
pub struct WebSocketDoor<P>(Arc<Door<P>>);

impl<P> Clone for WebSocketDoor<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
pub(crate) struct Door<P> {
    gate: Gate<P>,
    settings: Settings,
    limits: Arc<Limits>,
    places: Arc<Semaphore>,
}

impl<P: Pipeline> WebSocketDoor<P> {
    /// A door to this gate.
    pub fn new(settings: Settings, gate: Gate<P>) -> Self {
        let limits = Arc::new(Limits {
            message_bytes_max: settings.bounds.message_bytes_max,
            in_flight_max: settings.in_flight_max,
            streams_max: settings.streams_max,
            timeout_max: gate.timeouts.max,
        });
        let places = Arc::new(Semaphore::new(settings.connections_max.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Door { gate, settings, limits, places }))
    }

    /// Answers a request for [`PATH`] by a peer at `address`, whose leaving `departure` tells: opens a WebSocket, or
    /// says why not. What is in `held` lives as long as the connection does.
    pub fn open<B>(
        &self,
        request: Request<B>,
        address: SocketAddr,
        departure: Departure,
        held: impl Send + 'static,
    ) -> Response<Full<Bytes>> {
        let (mut request, _) = request.into_parts();
        let opened = Opening::read(&request, &self.0.settings.site).and_then(|opening| {
            let (place, origin) = self.admit(address)?;
            Ok((opening, place, origin))
        });
        let (opening, place, origin) = match opened {
            Ok(opened) => opened,
            Err(refused) => return self.refuse(address, &refused),
        };
        let Some(upgrade) = request.extensions.remove::<hyper::upgrade::OnUpgrade>() else {
            let error = Error::new(Kind::Internal, "this connection cannot be upgraded");
            return self.refuse(address, &error.into());
        };
        let (door, form) = (Arc::clone(&self.0), opening.form);
        let meters = Arc::clone(&door.gate.meters);
        meters.connections_total.increment();
        meters.connections.add(1);
        let open = Open { _place: place, meters };
        self.0.gate.drain.track(async move {
            // Given back also when the session panics.
            let _held = (open, held);
            session::serve(upgrade, departure, door, origin, form).await;
        });
        opening.respond()
    }

    fn admit(&self, address: SocketAddr) -> Result<(OwnedSemaphorePermit, Arc<contract::Origin>), Refused> {
        let gate = &self.0.gate;
        if gate.drain.is_draining() {
            let error = Error::new(Kind::Draining, "the gateway is stopping; connect again");
            return Err(error.with_retry_after(gate.drain.retry_after()).into());
        }
        // Its head is here already: it is no longer one of those that have not said what they want.
        gate.check_memory()?;
        let place = Arc::clone(&self.0.places).try_acquire_owned().map_err(|_| {
            Error::new(Kind::Overloaded, "too many connections; try again later")
                .with_retry_after(RETRY_AFTER)
        })?;
        let origin = gate.admit(NAME, &Presented::Anonymous(address))?;
        Ok((place, origin))
    }

    fn refuse(&self, address: SocketAddr, refused: &Refused) -> Response<Full<Bytes>> {
        self.0.gate.meters.connections_refused_total.increment();
        tracing::debug!(door = NAME, %address, error = %refused.error(), "a handshake was refused");
        refused.respond()
    }
}

/// Counts a connection until it is dropped.
struct Open {
    _place: OwnedSemaphorePermit,
    meters: Arc<contract::DoorMeters>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.meters.connections.add(-1);
    }
}
