//! What the tests share: a peer of the gateway, and an outside party that speaks to the server itself.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use contract::{
    DeliveryStream, Error, Event, Headers, Identity, Kind, Method, Origin, Outcome, Pattern, PeerAddress,
    Reply, Request, Subject, Target, TraceContext,
};
use futures_util::StreamExt;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::nats::{Nats, Settings};
use tokio::time::{Instant, timeout};

use crate::nats_server::NatsServer;

/// No test takes longer: a hang is a failure with a name.
const LIMIT: Duration = Duration::from_mins(1);

/// Runs a test within its limit.
pub(crate) async fn within<T>(test: impl Future<Output = T>) -> T {
    timeout(LIMIT, test).await.expect("the test ends within its time limit")
}

/// Settings for a server, quick enough for tests.
pub(crate) fn settings(server: &NatsServer) -> Settings {
    Settings {
        servers: vec![server.url().parse().unwrap()],
        reconnect_delay_max: Duration::from_millis(100),
        connect_timeout: Duration::from_secs(2),
        ..Settings::default()
    }
}

/// A backend that is reachable with every member it keeps.
pub(crate) async fn open(settings: Settings) -> Nats {
    let size = settings.pool_min as u64;
    let nats = Nats::open(settings).unwrap();
    all_connected(&nats, size).await;
    nats
}

/// Waits until as many members are connected.
pub(crate) async fn all_connected(nats: &Nats, size: u64) {
    eventually(|| connections(nats, "connected") == size).await;
}

/// Closes the backend; nothing of it may be left.
pub(crate) async fn close(nats: Nats) {
    nats.close().await;
    assert_eq!(reading(&nats, "tasks"), 0);
    assert_eq!(reading(&nats, "inbox_slots"), 0);
}

/// Waits until `reached`: for what a task of its own does. The test's time limit ends it.
pub(crate) async fn eventually(reached: impl Fn() -> bool) {
    while !reached() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The value of a metric, summed over its labels.
pub(crate) fn reading(nats: &Nats, name: &str) -> u64 {
    sum(nats, name, |_| true)
}

/// Connections of the pool in a state.
pub(crate) fn connections(nats: &Nats, state: &str) -> u64 {
    sum(nats, "connections", |labels| labels.iter().any(|(_, value)| value == state))
}

fn sum(nats: &Nats, name: &str, wanted: impl Fn(&[(&'static str, String)]) -> bool) -> u64 {
    let name = format!("ipc_gateway_nats_{name}");
    let readings: Vec<_> = nats.readings().into_iter().filter(|reading| reading.name == name).collect();
    assert!(!readings.is_empty(), "{name}");
    let values = readings.iter().filter(|reading| wanted(&reading.labels));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    values.map(|reading| reading.value as u64).sum()
}

/// A client's connection.
pub(crate) fn origin(connection: u64) -> Arc<Origin> {
    let identity = Identity::new("uid:1", Method::Local);
    Arc::new(Origin { door: "test", identity, address: PeerAddress::Unix, connection })
}

/// A request of a client.
pub(crate) fn request_of(origin: &Arc<Origin>, target: Target, payload: impl Into<Bytes>) -> Request {
    let received = Instant::now();
    Request {
        target,
        headers: Headers::new(),
        payload: payload.into(),
        received,
        deadline: received + LIMIT,
        idempotent: false,
        ordered: false,
        parts: true,
        queue: None,
        trace: TraceContext::start(),
        origin: origin.clone(),
    }
}

/// A request for an answer.
pub(crate) fn request(subject: &'static str, payload: impl Into<Bytes>) -> Request {
    request_of(&origin(1), Target::Request(Subject::from_static(subject)), payload)
}

/// A publish.
pub(crate) fn publish(subject: &'static str, payload: impl Into<Bytes>) -> Request {
    request_of(&origin(1), Target::Publish(Subject::from_static(subject)), payload)
}

/// Asks, and gives the payload of the answer.
pub(crate) async fn ask(
    nats: &Nats,
    subject: &'static str,
    payload: impl Into<Bytes>,
) -> Result<Bytes, Error> {
    match nats.call(request(subject, payload)).await? {
        Reply::Message(message) => Ok(message.payload),
        other => panic!("a message was expected, and came {other:?}"),
    }
}

/// Subscribes.
pub(crate) async fn subscribe(nats: &Nats, pattern: &'static str) -> Result<DeliveryStream, Error> {
    let target = Target::Subscribe(Pattern::from_static(pattern));
    match nats.call(request_of(&origin(1), target, "")).await? {
        Reply::Stream(stream) => Ok(stream),
        other => panic!("a stream was expected, and came {other:?}"),
    }
}

/// The next event: the payload of a delivery, or `gap`.
pub(crate) async fn next(stream: &mut DeliveryStream) -> String {
    match stream.next().await {
        Some(Ok(Event::Delivery(delivery))) => String::from_utf8(delivery.payload.to_vec()).unwrap(),
        Some(Ok(Event::Gap { lost: None })) => "gap".to_owned(),
        other => panic!("a delivery or a gap was expected, and came {other:?}"),
    }
}

/// That a request was refused at once because there is no connection.
pub(crate) async fn assert_unavailable_at_once(nats: &Nats) {
    let started = Instant::now();
    for refused in [request("any.subject", "x"), publish("any.subject", "x")] {
        let error = nats.call(refused).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::NotSent));
        assert!(error.retry_after().is_some());
    }
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
}

/// The outside party.
pub(crate) async fn outside(server: &NatsServer) -> Client {
    async_nats::connect(server.url()).await.unwrap()
}

/// Listens from outside, in force when this returns.
pub(crate) async fn listen(client: &Client, pattern: &'static str) -> Subscriber {
    let subscriber = client.subscribe(pattern).await.unwrap();
    round_trip(client).await;
    subscriber
}

/// Answers from outside with the request's payload, in force when this returns. Ends with its client.
pub(crate) async fn echo(client: &Client, pattern: &'static str) {
    let mut requests = listen(client, pattern).await;
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(Message { reply, payload, .. }) = requests.next().await {
            if let Some(reply) = reply {
                client.publish(reply, payload).await.unwrap();
            }
        }
    });
}

/// Sends a message to itself: when it is back, the server has read all that went before.
pub(crate) async fn round_trip(client: &Client) {
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, Bytes::new()).await.unwrap();
    back.next().await.unwrap();
}
