//! Ready-made requests, routes and calls for the unit tests of rules.

use std::sync::Arc;
use std::time::Duration;

use contract::{
    Headers, Identity, Method, Operation, Origin, Pattern, PeerAddress, QueueBounds, QueuePolicy, Request,
    Subject, Target, TraceContext, UnixPeer,
};
use tokio::time::Instant;

use crate::load::LoadSettings;
use crate::metrics::{Registry, RouteMeters};
use crate::pressure::PressureSettings;
use crate::route::{Call, Principal, RouteSettings};
use crate::rules::{Limits, Rules};
use crate::services::idempotency::Bounds;

/// The origin of an identity, by the Unix-socket door.
pub(crate) fn origin(identity: Identity) -> Arc<Origin> {
    Arc::new(Origin { door: "unix", identity, address: PeerAddress::Unix, connection: 1 })
}

/// A request of a local peer with ten seconds to go.
pub(crate) fn request(target: Target) -> Request {
    let mut identity = Identity::new("uid:1000", Method::Local);
    identity.unix = Some(UnixPeer { uid: 1000, gid: 1000, pid: Some(1) });
    let received = Instant::now();
    Request {
        target,
        headers: Headers::new(),
        payload: bytes::Bytes::from_static(b"{}"),
        received,
        deadline: received + Duration::from_secs(10),
        idempotent: false,
        ordered: false,
        parts: true,
        queue: None,
        trace: TraceContext::start(),
        origin: origin(identity),
    }
}

/// A route that offers everything to local peers.
pub(crate) fn route_settings(name: &str, patterns: &[&'static str]) -> RouteSettings {
    RouteSettings {
        name: name.to_owned(),
        patterns: patterns.iter().copied().map(Pattern::from_static).collect(),
        message_types: Vec::new(),
        subject: None,
        cancel_subject: None,
        refuse: None,
        operations: Operation::ALL.to_vec(),
        allow: vec![Principal::Local],
        timeout: Duration::from_secs(30),
        payload_bytes_min: 0,
        payload_bytes_max: 1 << 20,
        rate: None,
        calls_max: None,
        streams_max: None,
        queue: QueueBounds { policy: QueuePolicy::DropOldest, messages_max: 1024, bytes_max: 8 << 20 },
        replies: None,
        headers: vec!["*".to_owned()],
        breaker: None,
        retry: None,
        idempotency: None,
        adaptive: None,
        pressure: None,
        profile: crate::profiles::Profile::Raw,
    }
}

/// A responder that is asked every two seconds and believed for ten.
pub(crate) fn pressure_settings() -> PressureSettings {
    PressureSettings {
        subject: Subject::from_static("status"),
        interval: Duration::from_secs(2),
        absent_interval: Duration::from_mins(1),
        timeout: Duration::from_secs(1),
        believed: Duration::from_secs(10),
        warning_percent: 50,
        retry_after_max: Duration::from_mins(1),
        recovery: Duration::from_secs(4),
    }
}

/// Limits that refuse nothing.
pub(crate) fn limits() -> Limits {
    Limits {
        rate: None,
        peer_rate: None,
        peer_rate_local: false,
        peers_max: 1024,
        calls_max: 1024,
        streams_max: 1024,
        inbox_prefix: "_INBOX".to_owned(),
        load: LoadSettings::default(),
        idempotency: Bounds { entries_max: 1024, bytes_max: 1 << 20 },
    }
}

/// A call under these routes and limits.
pub(crate) fn call_with(routes: Vec<RouteSettings>, limits: Limits, target: Target) -> Call {
    let rules = Arc::new(Rules::new(routes, limits, None, meters));
    let mut request = request(target);
    let route = rules.routes.resolve(&mut request);
    Call { request, route, rules, attempt_due: None, sent_once: false }
}

/// A call on a route that offers everything.
pub(crate) fn call(target: Target) -> Call {
    call_with(vec![route_settings("all", &[">"])], limits(), target)
}

/// Meters that nobody reads.
pub(crate) fn meters(route: &str) -> RouteMeters {
    meters_of(&registry(), route)
}

/// A call like [`call`], and the registry it is counted in.
pub(crate) fn measured_call(target: Target) -> (Registry, Call) {
    let registry = registry();
    let routes = vec![route_settings("all", &[">"])];
    let rules = Arc::new(Rules::new(routes, limits(), None, |route| meters_of(&registry, route)));
    let mut request = request(target);
    let route = rules.routes.resolve(&mut request);
    (registry, Call { request, route, rules, attempt_due: None, sent_once: false })
}

fn registry() -> Registry {
    Registry::new(false)
}

fn meters_of(registry: &Registry, route: &str) -> RouteMeters {
    RouteMeters::new(registry, route, &crate::metrics::kinds())
}
