//! The rules cost no heap allocation a request: counted, over many requests, with every limit switched on.
//!
//! Counted is what this thread allocates between a request that is built and an answer that is there: the
//! pipeline's own work. Building the request is the door's, answering it the backend's.

use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use contract::{
    Error, Headers, Identity, Kind, Message, Method, Operation, Origin, Pattern, PeerAddress, Pipeline,
    QueueBounds, QueuePolicy, Reply, Request, Subject, Target, TraceContext, UnixPeer,
};
use ipc_gateway::adaptive::AdaptiveSettings;
use ipc_gateway::backend::cancel::Manner;
use ipc_gateway::backend::{Backend, Health, Reading};
use ipc_gateway::circuit::CircuitSettings;
use ipc_gateway::load::LoadSettings;
use ipc_gateway::metrics::{Registry, RouteMeters, kinds};
use ipc_gateway::pipeline::pipeline;
use ipc_gateway::pressure::{News, PressureSettings};
use ipc_gateway::profiles::Profile;
use ipc_gateway::route::{Principal, Rate, RouteSettings};
use ipc_gateway::rules::{Handle, Limits, Rules};
use ipc_gateway::services::idempotency::{Bounds, IdempotencySettings};
use ipc_gateway::services::retry::RetrySettings;
use tokio::time::Instant;

/// Requests counted: enough that an allocation in a thousand requests would show.
const REQUESTS: usize = 10_000;
/// Requests before that: meters make their series at the first use, tables their first room.
const WARM_UP: usize = 100;

/// Answers at once, from memory that is there already.
#[derive(Clone, Copy, Debug)]
struct Immediate;

impl Backend for Immediate {
    type Answer = Ready<Result<Reply, Error>>;

    fn call_as(&self, request: Request, _: Manner) -> Self::Answer {
        ready(match request.target {
            Target::Publish(_) => Ok(Reply::Accepted),
            Target::Request(_) => {
                Ok(Reply::Message(Message { payload: request.payload, ..Message::default() }))
            }
            Target::Subscribe(_) | Target::Task(_) => Err(Error::new(Kind::Unsupported, "not here")),
        })
    }

    fn health(&self) -> Health {
        Health { kind: "test", reachable: true, reasons: Vec::new(), facts: serde_json::Value::Null }
    }

    fn readings(&self) -> Vec<Reading> {
        Vec::new()
    }

    async fn close(&self) {}
}

/// Refuses at once.
#[derive(Clone, Copy, Debug)]
struct Unavailable;

impl Backend for Unavailable {
    type Answer = Ready<Result<Reply, Error>>;

    fn call_as(&self, _: Request, _: Manner) -> Self::Answer {
        ready(Err(Error::new(Kind::Unavailable, "no connection")))
    }

    fn health(&self) -> Health {
        Immediate.health()
    }

    fn readings(&self) -> Vec<Reading> {
        Vec::new()
    }

    async fn close(&self) {}
}

const PLENTY: Rate = Rate { per_second: 1e7, burst: 10_000_000 };
/// One, and then none for eleven days.
const ONE: Rate = Rate { per_second: 1e-6, burst: 1 };

fn route(name: &str, pattern: &'static str) -> RouteSettings {
    RouteSettings {
        name: name.to_owned(),
        patterns: vec![Pattern::from_static(pattern)],
        message_types: Vec::new(),
        subject: None,
        cancel_subject: None,
        refuse: None,
        operations: vec![Operation::Request, Operation::Publish],
        allow: vec![Principal::Local],
        timeout: Duration::from_secs(5),
        payload_bytes_min: 1,
        payload_bytes_max: 1 << 20,
        rate: Some(PLENTY),
        calls_max: Some(100),
        streams_max: Some(100),
        queue: QueueBounds { policy: QueuePolicy::DropOldest, messages_max: 100, bytes_max: 1 << 20 },
        headers: vec!["X-Tenant".to_owned()],
        replies: None,
        profile: Profile::Raw,
        breaker: Some(CircuitSettings {
            window: Duration::from_secs(10),
            volume_min: u32::MAX,
            error_percent: 50,
            consecutive_max: 0,
            slow: Some(Duration::from_secs(5)),
            slow_percent: 80,
            open: Duration::from_secs(5),
            probes: 3,
        }),
        idempotency: Some(IdempotencySettings {
            window: Duration::from_mins(10),
            default_tenant: "default_tenant".into(),
        }),
        retry: Some(RetrySettings {
            attempts_max: 2,
            attempt_timeout: Some(Duration::from_secs(1)),
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            budget_percent: 20,
            budget_max: 10,
        }),
        adaptive: Some(AdaptiveSettings {
            calls_min: 100,
            calls_max: 100,
            calls_start: 100,
            tolerance_percent: 150,
            window: Duration::from_millis(10),
        }),
        pressure: Some(PressureSettings {
            subject: Subject::from_static("status"),
            interval: Duration::from_secs(1),
            absent_interval: Duration::from_mins(1),
            timeout: Duration::from_secs(1),
            believed: Duration::from_hours(1),
            warning_percent: 50,
            retry_after_max: Duration::from_mins(1),
            recovery: Duration::from_secs(1),
        }),
    }
}

/// Every limit there is, each wide enough.
fn limits() -> Limits {
    Limits {
        rate: Some(PLENTY),
        peer_rate: Some(PLENTY),
        peer_rate_local: true,
        peers_max: 100,
        calls_max: 100,
        streams_max: 100,
        inbox_prefix: "_INBOX".to_owned(),
        load: LoadSettings::default(),
        idempotency: Bounds { entries_max: 1024, bytes_max: 1 << 20 },
    }
}

fn handle(routes: Vec<RouteSettings>, limits: Limits) -> Handle {
    let registry = Registry::new(true);
    let kinds = kinds();
    Handle::new(Rules::new(routes, limits, None, |name| RouteMeters::new(&registry, name, &kinds)))
}

fn origin() -> Arc<Origin> {
    let mut identity = Identity::new("uid:1000", Method::Local);
    identity.unix = Some(UnixPeer { uid: 1000, gid: 1000, pid: Some(1) });
    Arc::new(Origin { door: "unix", identity, address: PeerAddress::Unix, connection: 1 })
}

fn request(target: &Target, origin: &Arc<Origin>, payload: &'static [u8]) -> Request {
    let received = Instant::now();
    Request {
        target: target.clone(),
        headers: Headers::new(),
        payload: bytes::Bytes::from_static(payload),
        received,
        deadline: received + Duration::from_secs(30),
        idempotent: false,
        ordered: false,
        parts: true,
        queue: None,
        trace: TraceContext::start(),
        origin: Arc::clone(origin),
    }
}

/// Sends one request through the pipeline; returns how it ended, and the heap allocations that it cost.
fn send(pipeline: &mut impl Pipeline, request: Request) -> (Option<Kind>, u64) {
    let mut ended = None;
    let counted = allocation_counter::measure(|| {
        let mut future = pin!(pipeline.call(request));
        let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("everything here is ready at once");
        };
        ended = outcome.err().map(|error| error.kind());
    });
    (ended, counted.count_total)
}

/// Sends many requests of one kind; sees that each ends as `expected` (`None` is well), and returns the heap
/// allocations of all that are counted.
fn allocations(
    pipeline: &mut impl Pipeline,
    target: &Target,
    payload: &'static [u8],
    expected: Option<Kind>,
) -> u64 {
    let origin = origin();
    let mut once = || {
        let (ended, allocations) = send(pipeline, request(target, &origin, payload));
        assert_eq!(ended, expected);
        allocations
    };
    for _ in 0..WARM_UP {
        once();
    }
    (0..REQUESTS).map(|_| once()).sum()
}

fn ask(subject: &'static str) -> Target {
    Target::Request(Subject::from_static(subject))
}

#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new([0_u8; 100]))));
    assert_eq!((counted.count_total, counted.count_current), (1, 0));
}

#[test]
fn a_request_and_a_publish_pass_all_rules_without_an_allocation() {
    let mut pipeline = pipeline(handle(vec![route("orders", "orders.>")], limits()), Immediate);
    let (request, publish) = (ask("orders.new"), Target::Publish(Subject::from_static("orders.new")));
    for target in [request, publish] {
        assert_eq!(allocations(&mut pipeline, &target, b"{}", None), 0, "{target:?}");
    }
}

#[test]
fn a_rewritten_task_passes_all_rules_without_an_allocation() {
    let mut settings = route("decide", "decide");
    settings.message_types = vec![contract::MessageType("task_submit")];
    settings.subject = Some(Subject::from_static("beamline.router.v1.decide"));
    let mut pipeline = pipeline(handle(vec![settings], limits()), Immediate);
    let task = Target::Task(contract::MessageType("task_submit"));
    assert_eq!(allocations(&mut pipeline, &task, b"{}", None), 0);
}

#[test]
fn an_idempotent_request_that_is_answered_costs_no_allocation_either() {
    let mut pipeline = pipeline(handle(vec![route("orders", "orders.>")], limits()), Immediate);
    let origin = origin();
    let mut once = || {
        let mut request = request(&ask("orders.new"), &origin, b"{}");
        request.idempotent = true;
        send(&mut pipeline, request)
    };
    for _ in 0..WARM_UP {
        once();
    }
    assert!((0..REQUESTS).all(|_| once() == (None, 0)));
}

#[test]
fn an_open_circuit_refuses_without_an_allocation() {
    let mut settings = route("orders", "orders.>");
    let breaker = settings.breaker.as_mut().unwrap();
    (breaker.consecutive_max, breaker.open) = (1, Duration::from_hours(1));
    let mut pipeline = pipeline(handle(vec![settings], limits()), Unavailable);
    send(&mut pipeline, request(&ask("orders.new"), &origin(), b"{}"));
    let kind = Some(Kind::CircuitOpen);
    assert_eq!(allocations(&mut pipeline, &ask("orders.new"), b"{}", kind), 0);
}

#[test]
fn a_responder_under_pressure_costs_no_allocation() {
    let handle = handle(vec![route("orders", "orders.>")], limits());
    let hear = |news| {
        let rules = handle.load();
        let route = rules.routes.iter().next().unwrap();
        route.pressure.hear(route.settings.pressure.as_ref().unwrap(), Instant::now(), news);
    };
    let mut pipeline = pipeline(handle.clone(), Immediate);
    let active = News::Active { retry_after: Duration::from_secs(1) };
    for (news, expected) in [(News::Warning, None), (active, Some(Kind::Overloaded))] {
        hear(news);
        assert_eq!(allocations(&mut pipeline, &ask("orders.new"), b"{}", expected), 0, "{news:?}");
    }
}

#[test]
fn a_failure_of_the_backend_is_carried_back_without_an_allocation() {
    let mut pipeline = pipeline(handle(vec![route("orders", "orders.>")], limits()), Unavailable);
    let kind = Some(Kind::Unavailable);
    assert_eq!(allocations(&mut pipeline, &ask("orders.new"), b"{}", kind), 0);
}

#[test]
fn refusals_allocate_nothing() {
    let orders = |change: fn(&mut RouteSettings)| {
        let mut settings = route("orders", "orders.>");
        change(&mut settings);
        vec![settings]
    };
    let with = |change: fn(&mut Limits)| {
        let mut limits = limits();
        change(&mut limits);
        limits
    };
    let same = || orders(|_| ());
    let cases = [
        ("no route", same(), limits(), "other", Kind::NotFound),
        ("reserved", same(), limits(), "_INBOX.x", Kind::Denied),
        (
            "not for this peer",
            orders(|r| r.allow = vec![Principal::Uid(7)]),
            limits(),
            "orders.a",
            Kind::Denied,
        ),
        (
            "not this operation",
            orders(|r| r.operations = vec![Operation::Subscribe]),
            limits(),
            "orders.a",
            Kind::Denied,
        ),
        ("too large", orders(|r| r.payload_bytes_max = 1), limits(), "orders.a", Kind::TooLarge),
        ("too small", orders(|r| r.payload_bytes_min = 3), limits(), "orders.a", Kind::Invalid),
        (
            "no permit of the route",
            orders(|r| (r.calls_max, r.adaptive) = (Some(0), None)),
            limits(),
            "orders.a",
            Kind::Overloaded,
        ),
        ("no permit at all", same(), with(|l| l.calls_max = 0), "orders.a", Kind::Overloaded),
    ];
    for (name, routes, limits, subject, kind) in cases {
        let mut pipeline = pipeline(handle(routes, limits), Immediate);
        assert_eq!(allocations(&mut pipeline, &ask(subject), b"{}", Some(kind)), 0, "{name}");
    }
}

#[test]
fn a_refusal_by_any_of_the_three_rates_allocates_nothing() {
    let mut slow_route = route("orders", "orders.>");
    slow_route.rate = Some(ONE);
    let peer = Limits { peer_rate: Some(ONE), ..limits() };
    let total = Limits { rate: Some(ONE), ..limits() };
    let cases = [
        ("peer", vec![route("orders", "orders.>")], peer),
        ("route", vec![slow_route], limits()),
        ("total", vec![route("orders", "orders.>")], total),
    ];
    for (name, routes, limits) in cases {
        let mut pipeline = pipeline(handle(routes, limits), Immediate);
        // The one that there is.
        send(&mut pipeline, request(&ask("orders.a"), &origin(), b"{}"));
        let kind = Some(Kind::RateLimited);
        assert_eq!(allocations(&mut pipeline, &ask("orders.a"), b"{}", kind), 0, "{name}");
    }
}
