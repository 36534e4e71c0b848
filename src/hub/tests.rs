//! The hub in front of the embedded broker, and of a backend that does what a script says.

mod access;
mod life;
mod queues;
mod script;
mod short;

use bytes::Bytes;
use contract::{DeliveryStream, Event, Headers, Identity, Method, QueuePolicy, QueueWish, Subject, UnixPeer};
use futures_util::{FutureExt, StreamExt};

use super::*;
use crate::backend::embedded::{self, Embedded};
use crate::route::RouteSettings;
use crate::rules::Rules;
use crate::testing;

/// A hub in front of an embedded broker, with what a test looks at.
struct Bench {
    broker: Embedded,
    hub: Hub<Embedded>,
    handle: Handle,
}

/// Rules of these routes and no other limits.
fn rules(routes: Vec<RouteSettings>) -> Rules {
    Rules::new(routes, testing::limits(), None, testing::meters)
}

/// One route for everything, its queue changed by `change`.
fn open_route(change: impl FnOnce(&mut RouteSettings)) -> Vec<RouteSettings> {
    let mut route = testing::route_settings("all", &[">"]);
    change(&mut route);
    vec![route]
}

impl Bench {
    fn new(routes: Vec<RouteSettings>, settings: Settings) -> Self {
        let broker = Embedded::open(embedded::Settings { demo: false, ..embedded::Settings::default() });
        let handle = Handle::new(rules(routes));
        let hub = Hub::new(broker.clone(), settings, handle.clone());
        Self { broker, hub, handle }
    }

    async fn subscribe(&self, pattern: &'static str) -> DeliveryStream {
        subscribe(&self.hub, pattern, 1000, None).await.unwrap()
    }

    fn publish(&self, subject: &'static str, payload: impl Into<Bytes>) {
        let subject = Subject::from_static(subject);
        self.broker.publish(&subject, &Headers::new(), &payload.into()).unwrap();
    }

    /// Subscriptions of the broker now.
    fn subscriptions(&self) -> u64 {
        reading(&self.broker, "ipc_gateway_embedded_subscriptions")
    }
}

/// The request of a local user to subscribe.
fn subscription(pattern: &'static str, uid: u32, queue: Option<QueueWish>) -> Request {
    let mut request = testing::request(Target::Subscribe(Pattern::from_static(pattern)));
    let mut identity = Identity::new(format!("uid:{uid}"), Method::Local);
    identity.unix = Some(UnixPeer { uid, gid: uid, pid: None });
    request.origin = testing::origin(identity);
    request.queue = queue;
    request
}

async fn subscribe<B: Backend>(
    hub: &Hub<B>,
    pattern: &'static str,
    uid: u32,
    queue: Option<QueueWish>,
) -> Result<DeliveryStream, Error> {
    match hub.call(subscription(pattern, uid, queue)).await? {
        Reply::Stream(stream) => Ok(stream),
        other => panic!("a subscription is answered by a stream, not by {other:?}"),
    }
}

/// The sum of a reading over its labels.
fn reading(backend: &impl Backend, name: &str) -> u64 {
    let readings = backend.readings();
    let values: Vec<f64> =
        readings.iter().filter(|reading| reading.name == name).map(|reading| reading.value).collect();
    assert!(!values.is_empty(), "{name} is no reading");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let sum = values.iter().sum::<f64>() as u64;
    sum
}

/// What a stream yielded, in short.
#[derive(Clone, Debug, PartialEq)]
enum Saw {
    Message(String),
    Gap(Option<u64>),
    Failure(Kind, String),
    End,
}

fn told(text: &str) -> Saw {
    Saw::Message(text.to_owned())
}

fn seen(event: Option<Result<Event, Error>>) -> Saw {
    match event {
        None => Saw::End,
        Some(Err(error)) => Saw::Failure(error.kind(), error.text().to_owned()),
        Some(Ok(Event::Gap { lost })) => Saw::Gap(lost.map(std::num::NonZeroU64::get)),
        Some(Ok(Event::Delivery(delivery))) => {
            Saw::Message(String::from_utf8(delivery.payload.to_vec()).unwrap())
        }
    }
}

async fn next(stream: &mut DeliveryStream) -> Saw {
    seen(stream.next().await)
}

/// Whether there is nothing to read now.
fn is_silent(stream: &mut DeliveryStream) -> bool {
    stream.next().now_or_never().is_none()
}

/// Waits until `reached`: for what tasks of other threads do. A test that waits too long fails by its name.
async fn eventually(reached: impl Fn() -> bool) {
    let whole = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), whole).await.expect("it is reached in time");
}

#[tokio::test]
async fn publishes_and_requests_pass_to_the_backend_within_the_call() {
    let bench = Bench::new(open_route(|_| ()), Settings::default());
    let _echo = bench.broker.respond(Pattern::from_static("echo"), None, |posted| {
        Some(contract::Message { payload: posted.payload().clone(), ..contract::Message::default() })
    });
    let call = |target| bench.hub.call(testing::request(target)).now_or_never();
    let subject = Subject::from_static("echo");
    assert!(matches!(call(Target::Publish(subject.clone())), Some(Ok(Reply::Accepted))));
    assert!(
        matches!(call(Target::Request(subject)), Some(Ok(Reply::Message(answer))) if answer.payload == "{}")
    );
    assert_eq!(bench.hub.health().kind, "embedded");
}

#[tokio::test]
async fn two_listeners_of_one_pattern_share_one_subscription_and_each_message() {
    let bench = Bench::new(open_route(|_| ()), Settings::default());
    let mut one = bench.subscribe("a.*").await;
    let mut two = bench.subscribe("a.*").await;
    let mut other = bench.subscribe("a.>").await;
    assert_eq!(bench.subscriptions(), 2);
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_patterns"), 2);
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_listeners"), 3);
    bench.publish("a.b", "x");
    let mut deliveries = Vec::new();
    for stream in [&mut one, &mut two] {
        let Some(Ok(Event::Delivery(delivery))) = stream.next().await else { panic!("a delivery") };
        deliveries.push(delivery);
    }
    assert!(Arc::ptr_eq(&deliveries[0], &deliveries[1]));
    assert_eq!(next(&mut other).await, told("x"));
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_deliveries_total"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_listeners_that_come_and_go_leaves_nothing_behind() {
    let settings = Settings { linger: Duration::ZERO, ..Settings::default() };
    let bench = Arc::new(Bench::new(open_route(|_| ()), settings));
    let mut tasks = Vec::new();
    for task in 0..6 {
        let bench = Arc::clone(&bench);
        tasks.push(tokio::spawn(async move {
            for round in 0..300 {
                let pattern = ["storm.a", "storm.*", "storm.>"][(task + round) % 3];
                match round % 4 {
                    // Gone before it was ever polled.
                    0 => drop(bench.hub.call(subscription(pattern, 1000, None))),
                    1 => drop(bench.subscribe(pattern).await),
                    _ => {
                        let mut stream = bench.subscribe(pattern).await;
                        bench.publish("storm.a", "x");
                        assert_eq!(next(&mut stream).await, told("x"));
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    eventually(|| bench.subscriptions() == 0 && bench.hub.0.pumps.is_empty()).await;
    for gauge in ["patterns", "listeners", "unread_messages"] {
        assert_eq!(reading(&bench.hub, &format!("ipc_gateway_hub_{gauge}")), 0, "{gauge}");
    }
    assert!(reading(&bench.hub, "ipc_gateway_hub_opened_total") > 0);
}
