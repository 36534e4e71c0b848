//! What the rules cost: the whole pipeline with every limit switched on, in front of a backend that answers at
//! once. Time and heap allocations a request, the building of the request apart.

use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use contract::{
    Error, Headers, Identity, Message, Method, Operation, Origin, Pattern, PeerAddress, Pipeline,
    QueueBounds, QueuePolicy, Reply, Request, Subject, Target, TraceContext, UnixPeer,
};
use divan::{AllocProfiler, Bencher, black_box};
use ipc_gateway::adaptive::AdaptiveSettings;
use ipc_gateway::backend::cancel::Manner;
use ipc_gateway::backend::{Backend, Health, Reading};
use ipc_gateway::circuit::CircuitSettings;
use ipc_gateway::load::LoadSettings;
use ipc_gateway::metrics::{Registry, RouteMeters, kinds};
use ipc_gateway::pipeline::pipeline;
use ipc_gateway::profiles::Profile;
use ipc_gateway::route::{Principal, Rate, RouteSettings};
use ipc_gateway::rules::{Handle, Limits, Rules};
use ipc_gateway::services::idempotency::{Bounds, IdempotencySettings};
use ipc_gateway::services::retry::RetrySettings;
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Answers with the payload.
#[derive(Clone, Copy, Debug)]
struct Immediate;

impl Backend for Immediate {
    type Answer = Ready<Result<Reply, Error>>;

    fn call_as(&self, request: Request, _: Manner) -> Self::Answer {
        ready(Ok(Reply::Message(Message { payload: request.payload, ..Message::default() })))
    }

    fn health(&self) -> Health {
        Health { kind: "bench", reachable: true, reasons: Vec::new(), facts: serde_json::Value::Null }
    }

    fn readings(&self) -> Vec<Reading> {
        Vec::new()
    }

    async fn close(&self) {}
}

/// More than any benchmark asks for.
const PLENTY: Rate = Rate { per_second: 1e12, burst: u32::MAX };

fn handle() -> Handle {
    let route = RouteSettings {
        name: "bench".to_owned(),
        patterns: vec![Pattern::from_static("bench.>")],
        message_types: Vec::new(),
        subject: None,
        cancel_subject: None,
        refuse: None,
        operations: vec![Operation::Request],
        allow: vec![Principal::Local],
        timeout: Duration::from_secs(5),
        payload_bytes_min: 0,
        payload_bytes_max: 1 << 20,
        rate: Some(PLENTY),
        calls_max: Some(100),
        streams_max: Some(100),
        queue: QueueBounds { policy: QueuePolicy::DropOldest, messages_max: 100, bytes_max: 1 << 20 },
        headers: vec!["*".to_owned()],
        breaker: Some(CircuitSettings {
            window: Duration::from_secs(10),
            volume_min: 20,
            error_percent: 50,
            consecutive_max: 10,
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
        replies: None,
        pressure: None,
        profile: Profile::Raw,
        adaptive: Some(AdaptiveSettings {
            calls_min: 100,
            calls_max: 100,
            calls_start: 100,
            tolerance_percent: 150,
            window: Duration::from_millis(10),
        }),
    };
    let limits = Limits {
        rate: Some(PLENTY),
        peer_rate: Some(PLENTY),
        peer_rate_local: true,
        peers_max: 100,
        calls_max: 100,
        streams_max: 100,
        inbox_prefix: "_INBOX".to_owned(),
        load: LoadSettings::default(),
        idempotency: Bounds { entries_max: 1024, bytes_max: 1 << 20 },
    };
    let (registry, kinds) = (Registry::new(false), kinds());
    Handle::new(Rules::new(vec![route], limits, None, |name| RouteMeters::new(&registry, name, &kinds)))
}

fn origin() -> Arc<Origin> {
    let mut identity = Identity::new("uid:1000", Method::Local);
    identity.unix = Some(UnixPeer { uid: 1000, gid: 1000, pid: Some(1) });
    Arc::new(Origin { door: "unix", identity, address: PeerAddress::Unix, connection: 1 })
}

fn request(origin: &Arc<Origin>, payload: &bytes::Bytes) -> Request {
    let received = Instant::now();
    Request {
        target: Target::Request(Subject::from_static("bench.echo")),
        headers: Headers::new(),
        payload: payload.clone(),
        received,
        deadline: received + Duration::from_secs(5),
        idempotent: false,
        ordered: false,
        parts: true,
        queue: None,
        trace: TraceContext::start(),
        origin: Arc::clone(origin),
    }
}

fn send(pipeline: &mut impl Pipeline, request: Request) -> Result<Reply, Error> {
    match pin!(pipeline.call(request)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => unreachable!("everything here is ready at once"),
    }
}

/// A request through all rules.
#[divan::bench]
fn all_rules(bencher: Bencher<'_, '_>) {
    let (origin, payload) = (origin(), bytes::Bytes::from(vec![b'x'; 1024]));
    let mut pipeline = pipeline(handle(), Immediate);
    assert!(send(&mut pipeline, request(&origin, &payload)).is_ok(), "nothing is refused here");
    bencher
        .with_inputs(|| request(&origin, &payload))
        .bench_local_values(|request| black_box(send(&mut pipeline, request)));
}

/// The building of a request, which is the door's part.
#[divan::bench]
fn building_a_request(bencher: Bencher<'_, '_>) {
    let (origin, payload) = (origin(), bytes::Bytes::from(vec![b'x'; 1024]));
    bencher.bench_local(|| black_box(request(&origin, &payload)));
}
