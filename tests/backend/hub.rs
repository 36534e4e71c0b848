//! The hub in front of the embedded backend: what stands in front of a backend must be one itself.

use std::time::Duration;

use bytes::Bytes;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::embedded::{Embedded, Subscription};
use ipc_gateway::config::Config;
use ipc_gateway::hub::{Hub, Settings};
use ipc_gateway::metrics::{self, Registry, RouteMeters};
use ipc_gateway::rules::{Handle, Limits, Rules};

use crate::embedded::{CAPACITY, Inside, Task, reading};
use crate::suite::{self, Behaviour, Rig};

suite::conformance!(Fanned);

/// The rig of the embedded backend, seen through a hub.
struct Fanned {
    inside: Inside,
    hub: Hub<Embedded>,
}

/// The built-in routes, with queues as long as the broker's.
fn handle() -> Handle {
    let Config { mut routes, limits, idempotency, .. } = Config::default();
    for route in &mut routes {
        route.queue.messages_max = CAPACITY;
    }
    let limits = Limits {
        rate: limits.rate,
        peer_rate: limits.peer_rate,
        peer_rate_local: limits.peer_rate_local,
        peers_max: limits.peers_max,
        calls_max: limits.calls_max,
        streams_max: limits.streams_max,
        inbox_prefix: "_INBOX".to_owned(),
        load: limits.load,
        idempotency: idempotency.bounds,
    };
    let (registry, kinds) = (Registry::new(false), metrics::kinds());
    Handle::new(Rules::new(routes, limits, None, |route| RouteMeters::new(&registry, route, &kinds)))
}

impl Rig for Fanned {
    type Backend = Hub<Embedded>;
    type Listener = Subscription;
    type Responder = Task;

    async fn open() -> Self {
        let inside = Inside::open().await;
        // A short linger, since one case waits for the end of the backend's own subscription.
        let settings = Settings { linger: Duration::from_millis(1), ..Settings::default() };
        let hub = Hub::new(inside.backend().clone(), settings, handle());
        Self { inside, hub }
    }

    fn backend(&self) -> &Hub<Embedded> {
        &self.hub
    }

    fn payload_bytes_fits(&self) -> usize {
        self.inside.payload_bytes_fits()
    }

    fn payload_bytes_refused(&self) -> usize {
        self.inside.payload_bytes_refused()
    }

    fn subscription_capacity(&self) -> usize {
        self.inside.subscription_capacity()
    }

    fn waiting(&self) -> u64 {
        self.inside.waiting()
    }

    /// Those of peers: to the hub, they are its listeners.
    fn subscriptions(&self) -> u64 {
        reading(&self.hub, "ipc_gateway_hub_listeners")
    }

    async fn respond(&self, pattern: &str, queue: Option<&str>, behaviour: Behaviour) -> Task {
        self.inside.respond(pattern, queue, behaviour).await
    }

    async fn listen(&self, pattern: &str, queue: Option<&str>) -> Subscription {
        self.inside.listen(pattern, queue).await
    }

    async fn publish(&self, subject: &str, headers: &[(&str, &str)], payload: Bytes) {
        self.inside.publish(subject, headers, payload).await;
    }

    async fn close(self) {
        self.hub.close().await;
    }
}
