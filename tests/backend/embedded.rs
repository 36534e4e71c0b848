//! The embedded backend: the suite's rig, and what only this backend has (responders in line, the demo).

use std::time::Duration;

use bytes::Bytes;
use contract::{
    Event, Headers, Identity, Kind, Message, Method, Origin, Pattern, PeerAddress, Reply, Request, Subject,
    Target, TraceContext,
};
use futures_util::{FutureExt, StreamExt};
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::embedded::{Attached, Embedded, Settings, Subscription, demo};
use serde_json::Value;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::suite::{self, Behaviour, Heard, Listener, Rig};

suite::conformance!(Inside);

/// The embedded broker, its outside party attached in process.
pub(crate) struct Inside(Embedded);

/// Small, so that a case can fill a queue; above what a case lets wait unread, which is a thousand requests
/// when its responders get no turn meanwhile.
pub(crate) const CAPACITY: usize = 1024;

impl Rig for Inside {
    type Backend = Embedded;
    type Listener = Subscription;
    type Responder = Task;

    async fn open() -> Self {
        let settings = Settings { demo: false, subscription_messages_max: CAPACITY, ..Settings::default() };
        Self(Embedded::open(settings))
    }

    fn backend(&self) -> &Embedded {
        &self.0
    }

    fn payload_bytes_fits(&self) -> usize {
        Settings::default().payload_bytes_max
    }

    fn payload_bytes_refused(&self) -> usize {
        Settings::default().payload_bytes_max + 1
    }

    fn subscription_capacity(&self) -> usize {
        CAPACITY
    }

    fn waiting(&self) -> u64 {
        reading(&self.0, "ipc_gateway_embedded_requests_waiting")
    }

    fn subscriptions(&self) -> u64 {
        reading(&self.0, "ipc_gateway_embedded_subscriptions")
    }

    async fn respond(&self, pattern: &str, queue: Option<&str>, behaviour: Behaviour) -> Task {
        let mut subscription = self.0.listen(Pattern::parse(pattern).unwrap(), queue);
        let task = tokio::spawn(async move {
            while let Some(incoming) = subscription.next().await {
                tokio::time::sleep(behaviour.delay).await;
                let payload = incoming.payload().clone();
                let Some(reply) = incoming.reply else { continue };
                for (pairs, payload) in behaviour.answers(&payload) {
                    // Not all are taken: that is what some cases are about.
                    let _ = reply.send(Message { headers: headers(&pairs), payload });
                }
            }
        });
        Task(task.abort_handle())
    }

    async fn listen(&self, pattern: &str, queue: Option<&str>) -> Subscription {
        self.0.listen(Pattern::parse(pattern).unwrap(), queue)
    }

    async fn publish(&self, subject: &str, pairs: &[(&str, &str)], payload: Bytes) {
        self.0.publish(&Subject::parse(subject).unwrap(), &headers(pairs), &payload).unwrap();
    }

    async fn close(self) {
        self.0.close().await;
    }
}

/// A responder of the outside party.
pub(crate) struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener for Subscription {
    async fn hear(&mut self) -> Heard {
        let incoming = StreamExt::next(self).await.expect("the broker is open");
        Heard {
            subject: incoming.subject().to_string(),
            headers: incoming
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            payload: incoming.payload().clone(),
        }
    }
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        headers.append(*name, *value).unwrap();
    }
    headers
}

/// A count among the readings.
pub(crate) fn reading(backend: &impl Backend, name: &str) -> u64 {
    let readings = backend.readings();
    let value = readings.iter().find(|reading| reading.name == name).expect("the reading exists").value;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let count = value as u64;
    count
}

fn request(subject: &'static str, payload: impl Into<Bytes>) -> Request {
    let received = Instant::now();
    let identity = Identity::new("uid:1", Method::Local);
    Request {
        target: Target::Request(Subject::from_static(subject)),
        headers: Headers::new(),
        payload: payload.into(),
        received,
        deadline: received + Duration::from_secs(5),
        idempotent: false,
        ordered: false,
        parts: false,
        queue: None,
        trace: TraceContext::start(),
        origin: Origin { door: "test", identity, address: PeerAddress::Unix, connection: 1 }.into(),
    }
}

fn demo_backend() -> Embedded {
    Embedded::open(Settings { tick: Duration::from_millis(5), ..Settings::default() })
}

async fn answer(backend: &Embedded, subject: &'static str, payload: impl Into<Bytes>) -> Message {
    match backend.call(request(subject, payload)).await.unwrap() {
        Reply::Message(message) => message,
        other => panic!("a message was expected, and came {other:?}"),
    }
}

fn attach(
    backend: &Embedded,
    subject: &'static str,
    answer: impl Fn() -> Option<Message> + Send + Sync + 'static,
) -> Attached {
    backend.respond(Pattern::from_static(subject), None, move |_| answer())
}

#[tokio::test]
async fn a_responder_in_line_answers_within_the_call() {
    let backend = Embedded::open(Settings { demo: false, ..Settings::default() });
    let attached = backend.respond(Pattern::from_static("a.*"), None, |posted| {
        assert_eq!(posted.headers().get("Ipc-Gateway-Identity").unwrap(), "uid:1");
        Some(Message { payload: posted.payload().clone(), ..Message::default() })
    });
    let answer = backend.call(request("a.b", "x")).now_or_never().expect("the answer is there").unwrap();
    assert!(matches!(answer, Reply::Message(message) if message.payload == "x"));
    drop(attached);
    assert_eq!(backend.call(request("a.b", "x")).await.unwrap_err().kind(), Kind::NoResponders);
    assert_eq!(reading(&backend, "ipc_gateway_embedded_subscriptions"), 0);
}

#[tokio::test]
async fn a_panic_in_line_is_that_requests_internal() {
    let backend = Embedded::open(Settings { demo: false, ..Settings::default() });
    let _attached = attach(&backend, "a", || panic!("on purpose"));
    for _ in 0..2 {
        let error = backend.call(request("a", "x")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal);
        assert_eq!(error.cause().unwrap().to_string(), "on purpose");
    }
}

#[tokio::test]
async fn an_answer_in_line_is_bounded_too() {
    let settings = Settings { demo: false, payload_bytes_max: 4, ..Settings::default() };
    let backend = Embedded::open(settings);
    let large = Message { payload: Bytes::from_static(b"12345"), ..Message::default() };
    let _attached = attach(&backend, "a", move || Some(large.clone()));
    assert_eq!(backend.call(request("a", "1234")).await.unwrap_err().kind(), Kind::Internal);
}

#[tokio::test]
async fn reserved_patterns_are_denied_to_peers() {
    let backend = Embedded::open(Settings { demo: false, ..Settings::default() });
    let mut peer = request("a", "");
    peer.target = Target::Subscribe(Pattern::from_static("_INBOX.>"));
    assert_eq!(backend.call(peer).await.unwrap_err().kind(), Kind::Denied);
}

#[tokio::test]
async fn every_reply_of_the_demo_says_so() {
    let backend = demo_backend();
    let echo = answer(&backend, "demo.echo", "\0anything").await;
    assert_eq!(echo.payload, "\0anything");
    assert_eq!(echo.headers.get(demo::HEADER).unwrap(), "true");
    for (subject, payload) in [
        ("demo.time", ""),
        ("demo.slow", "1"),
        ("beamline.router.v1.decide", r#"{"task_id":"test1","payload":"hello"}"#),
    ] {
        let message = answer(&backend, subject, payload).await;
        assert_eq!(message.headers.get(demo::HEADER).unwrap(), "true", "{subject}");
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(body["demo"], true, "{subject}");
        if subject.starts_with("beamline") {
            assert_eq!(body["context"]["request_id"], "test1");
            assert_eq!(body["decision"]["provider_id"], "demo");
        }
    }
    for (subject, payload, code) in
        [("demo.fail", "", "demo_failure"), ("demo.slow", "60001", "invalid_request")]
    {
        let error = backend.call(request(subject, payload)).await.unwrap_err();
        let failed = error.as_failed().unwrap();
        assert_eq!(failed.code, code);
        let body: Value = serde_json::from_slice(&failed.body).unwrap();
        assert_eq!((&body["demo"], &body["error"]["code"]), (&Value::Bool(true), &Value::from(code)));
    }
    let health = backend.health();
    assert!(health.reasons[0].contains("no NATS is configured"), "{health:?}");
    assert_eq!(health.facts["demo"], true);
}

#[tokio::test]
async fn silence_and_slowness_hold_nothing_once_given_up() {
    let backend = demo_backend();
    let waiting = || reading(&backend, "ipc_gateway_embedded_requests_waiting");
    let calls = [backend.call(request("demo.silent", "")), backend.call(request("demo.slow", "60000"))];
    assert_eq!(waiting(), 2);
    drop(calls);
    assert_eq!(waiting(), 0);
}

#[tokio::test]
async fn the_ticker_ticks_while_somebody_listens() {
    let backend = demo_backend();
    let published = || reading(&backend, "ipc_gateway_embedded_messages_published_total");
    // Nobody listens: after the time of many ticks there was none.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(published(), 0);
    let mut peer = request("demo.tick", "");
    peer.target = Target::Subscribe(Pattern::from_static("demo.*"));
    let Ok(Reply::Stream(mut stream)) = backend.call(peer).await else { panic!("a stream was expected") };
    for tick in 1..=3 {
        let Some(Ok(Event::Delivery(delivery))) = stream.next().await else { panic!("a tick was expected") };
        let body: Value = serde_json::from_slice(&delivery.payload).unwrap();
        assert_eq!((&body["demo"], &body["tick"]), (&Value::Bool(true), &Value::from(tick)));
    }
    backend.close().await;
    assert!(stream.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn coming_and_going_costs_no_request_its_answer() {
    let backend = Embedded::open(Settings { demo: false, ..Settings::default() });
    let respond = |backend: &Embedded, pattern| {
        backend.respond(Pattern::from_static(pattern), Some("workers"), |posted| {
            Some(Message { payload: posted.payload().clone(), ..Message::default() })
        })
    };
    let steady = respond(&backend, "churn.*");
    let mut tasks = Vec::new();
    for pattern in ["churn.a", "churn.>"] {
        let backend = backend.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..2000 {
                let (_responder, _listener) =
                    (respond(&backend, pattern), backend.listen(Pattern::from_static(pattern), None));
                tokio::task::yield_now().await;
            }
        }));
    }
    for asker in 0..2 {
        let backend = backend.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..2000 {
                let payload = format!("{asker}.{number}");
                assert_eq!(answer(&backend, "churn.a", payload.clone()).await.payload, payload);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    drop(steady);
    for gauge in ["ipc_gateway_embedded_subscriptions", "ipc_gateway_embedded_requests_waiting"] {
        assert_eq!(reading(&backend, gauge), 0, "{gauge}");
    }
    assert_eq!(backend.call(request("churn.a", "x")).await.unwrap_err().kind(), Kind::NoResponders);
}
