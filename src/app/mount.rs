//! WebSockets on the port of the HTTP door, which knows nothing of them but that something is mounted.

use std::convert::Infallible;
use std::sync::Arc;

use contract::{DoorMeters, Gate, Pipeline};
use http_door::{Entry, Mount, Peer, Router};
use hyper::Request;
use tower::service_fn;
use websocket::WebSocketDoor;

/// The WebSocket door's settings, and what it counts apart from the HTTP door.
pub(super) struct WebSockets {
    pub(super) settings: websocket::Settings,
    pub(super) meters: Arc<DoorMeters>,
}

impl Mount for WebSockets {
    const ENTRIES: &'static [Entry] = &[Entry {
        method: "GET",
        path: websocket::PATH,
        summary: "A WebSocket for many requests and subscriptions at once.",
    }];

    fn router<P: Pipeline>(self, gate: Gate<P>) -> Router {
        let door = WebSocketDoor::new(self.settings, Gate { meters: self.meters, ..gate });
        let service = service_fn(move |request: Request<_>| {
            let peer = request.extensions().get::<Peer>().cloned().expect("every request has a peer");
            // The peer is the connection's place under the HTTP door's cap, too.
            let response = door.open(request, peer.address, peer.departure.clone(), peer);
            std::future::ready(Ok::<_, Infallible>(response))
        });
        Router::new().route_service(websocket::PATH, service)
    }
}
