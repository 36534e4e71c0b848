//! What is executed under a key, who is told how it ended, and what happens when somebody goes away.

use std::sync::atomic::{AtomicUsize, Ordering};

use contract::{DeliveryStream, Message, Outcome, Pattern, Subject, Target};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::shared::tests::{Memory, SETTINGS};
use super::*;
use crate::policies::backpressure::Backpressure;
use crate::policies::concurrency::Concurrency;
use crate::policy::Enforce;
use crate::pressure::News;
use crate::route::RouteSettings;
use crate::testing;

const ROUTE_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls of one route, whose rules they share, and what executes them.
struct Scene {
    template: Call,
    executed: Arc<AtomicUsize>,
    /// An execution ends when there is a permit.
    ends: Arc<Semaphore>,
}

impl Scene {
    fn new() -> Self {
        Self::on(|_| ())
    }

    fn on(change: impl FnOnce(&mut RouteSettings)) -> Self {
        let mut route = testing::route_settings("r", &[">"]);
        route.timeout = ROUTE_TIMEOUT;
        route.idempotency =
            Some(IdempotencySettings { window: Duration::from_mins(10), default_tenant: "tenant".into() });
        change(&mut route);
        let target = Target::Request(Subject::from_static("a"));
        let template = testing::call_with(vec![route], testing::limits(), target);
        Self { template, executed: Arc::default(), ends: Arc::new(Semaphore::new(0)) }
    }

    /// A call under `key` with ten seconds to go.
    fn call(&self, key: &'static str) -> Call {
        let mut call = self.template.clone();
        call.request.headers.append(HEADER, key).unwrap();
        call.request.received = Instant::now();
        call.request.deadline = call.request.received + Duration::from_secs(10);
        call
    }

    /// Sends a call, which is executed by `execution`. Polled once, as every door does.
    fn send(
        &self,
        call: Call,
        execution: impl FnOnce(Call) -> Result<Reply, Error> + Clone + Send + 'static,
    ) -> Sent {
        polled(IdempotencyLayer.layer(self.inner(execution)).call(call))
    }

    /// The same behind the rules that count requests.
    fn send_counted(&self, call: Call) -> Sent {
        let service = IdempotencyLayer.layer(self.inner(answer));
        polled(Enforce(Backpressure).layer(Enforce(Concurrency).layer(service)).call(call))
    }

    /// What the route, the gateway and the responder have at once, and the bytes that are held.
    fn used(&self) -> [usize; 4] {
        let Call { route, rules, .. } = &self.template;
        [route.calls.used(), rules.calls.used(), route.pressure.calls(), rules.load.memory.used()]
    }

    fn inner(
        &self,
        execution: impl FnOnce(Call) -> Result<Reply, Error> + Clone + Send + 'static,
    ) -> impl Service<Call, Response = Reply, Error = Error, Future: Send + 'static> + Clone + Send + 'static
    {
        let (executed, ends) = (Arc::clone(&self.executed), Arc::clone(&self.ends));
        let mut execution = Some(execution);
        tower::service_fn(move |call: Call| {
            executed.fetch_add(1, Ordering::Relaxed);
            let (ends, execution) = (Arc::clone(&ends), execution.take().unwrap());
            async move {
                ends.acquire().await.unwrap().forget();
                execution(call)
            }
        })
    }

    fn executed(&self) -> usize {
        self.executed.load(Ordering::Relaxed)
    }

    fn meters(&self) -> &Meters {
        &self.template.rules.idempotency.meters
    }
}

type Sent = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

fn polled(call: impl Future<Output = Result<Reply, Error>> + Send + 'static) -> Sent {
    let mut sent: Sent = Box::pin(call);
    let mut context = Context::from_waker(std::task::Waker::noop());
    match sent.as_mut().poll(&mut context) {
        Poll::Ready(outcome) => Box::pin(std::future::ready(outcome)),
        Poll::Pending => sent,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "an execution can fail")]
fn answer(call: Call) -> Result<Reply, Error> {
    Ok(Reply::Message(Message { payload: call.request.payload, ..Message::default() }))
}

fn payload(outcome: Result<Reply, Error>) -> bytes::Bytes {
    let Ok(Reply::Message(message)) = outcome else { panic!("{outcome:?}") };
    message.payload
}

fn never(_: Call) -> Result<Reply, Error> {
    panic!("it is not executed again")
}

#[tokio::test(start_paused = true)]
async fn a_hundred_twins_are_one_execution_and_all_have_its_answer() {
    let scene = Scene::new();
    let sent: Vec<_> = (0..100).map(|_| scene.send(scene.call("k"), answer)).collect();
    assert_eq!((scene.executed(), scene.meters().waiting.get()), (1, 99));
    scene.ends.add_permits(1);
    for sent in sent {
        assert_eq!(payload(sent.await), "{}");
    }
    // And who comes later.
    assert_eq!(payload(scene.send(scene.call("k"), never).await), "{}");
    assert_eq!((scene.executed(), scene.meters().waiting.get()), (1, 0));
    // Another key is another execution.
    scene.ends.add_permits(1);
    assert_eq!(payload(scene.send(scene.call("other"), answer).await), "{}");
    assert_eq!(scene.executed(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_key_with_another_request_is_a_conflict() {
    let scene = Scene::new();
    let first = scene.send(scene.call("k"), answer);
    let mut other = scene.call("k");
    other.request.payload = "[]".into();
    let error = scene.send(other.clone(), never).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Conflict, Outcome::NotSent));
    scene.ends.add_permits(1);
    first.await.unwrap();
    assert_eq!(scene.send(other, never).await.unwrap_err().kind(), Kind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_went_away_finds_the_answer_when_it_comes_back() {
    let scene = Scene::new();
    drop(scene.send(scene.call("k"), answer));
    let twin = scene.send(scene.call("k"), never);
    scene.ends.add_permits(1);
    assert_eq!(payload(twin.await), "{}");
    assert_eq!(payload(scene.send(scene.call("k"), never).await), "{}");
    assert_eq!(scene.executed(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_execution_has_all_the_time_of_its_route_and_each_waits_for_its_own() {
    let scene = Scene::new();
    let mut hurried = scene.call("k");
    hurried.request.deadline = hurried.request.received + Duration::from_millis(1);
    let begin = Instant::now();
    let first = scene.send(hurried, move |call| {
        assert!(call.has_full_time() && call.request.deadline == begin + ROUTE_TIMEOUT);
        answer(call)
    });
    let twin = scene.send(scene.call("k"), never);
    let error = first.await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::TimedOut, Outcome::Unknown));
    assert_eq!(begin.elapsed(), Duration::from_millis(1));
    // The twin's time is over too, and a third one gets the answer.
    assert_eq!(twin.await.unwrap_err().kind(), Kind::TimedOut);
    assert_eq!((begin.elapsed(), scene.meters().waiting.get()), (Duration::from_secs(10), 0));
    scene.ends.add_permits(1);
    assert_eq!(payload(scene.send(scene.call("k"), never).await), "{}");
}

#[tokio::test(start_paused = true)]
async fn what_had_no_time_from_the_start_is_not_executed_under_its_key() {
    let scene = Scene::new();
    let mut late = scene.call("k");
    late.request.deadline = late.request.received;
    scene.ends.add_permits(2);
    // The deadline rule refuses it, as it does everything.
    let refused = |_| Err(Error::new(Kind::TimedOut, "").with_outcome(Outcome::NotSent));
    assert!(scene.send(late, refused).await.is_err());
    assert_eq!(payload(scene.send(scene.call("k"), answer).await), "{}");
}

#[tokio::test(start_paused = true)]
async fn only_what_was_not_sent_is_executed_again() {
    for row in contract::error::TABLE {
        for outcome in [Outcome::NotSent, Outcome::Unknown, Outcome::Done] {
            let scene = Scene::new();
            scene.ends.add_permits(2);
            let fails = move |_| Err(Error::new(row.kind, "why").with_outcome(outcome));
            let first = scene.send(scene.call("k"), fails).await.unwrap_err();
            let second = scene.send(scene.call("k"), answer).await;
            assert_eq!(first.outcome(), outcome);
            if outcome == Outcome::NotSent {
                assert!(second.is_ok() && scene.executed() == 2, "{}", row.code);
            } else {
                let second = second.unwrap_err();
                let told = (second.kind(), second.outcome(), second.text(), scene.executed());
                assert_eq!(told, (row.kind, outcome, "why", 1));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_execution_and_nothing_is_done_again() {
    let scene = Scene::new();
    scene.ends.add_permits(1);
    let first = scene.send(scene.call("k"), |_| panic!("as a test demands"));
    let twin = scene.send(scene.call("k"), never);
    for sent in [first, twin, scene.send(scene.call("k"), never)] {
        let error = sent.await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Internal, Outcome::Unknown));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_to_the_first_and_is_not_given_twice() {
    let scene = Scene::new();
    scene.ends.add_permits(1);
    let stream = |_| Ok(Reply::Stream(DeliveryStream::new(futures_util::stream::empty())));
    let first = scene.send(scene.call("k"), stream);
    assert!(matches!(first.await, Ok(Reply::Stream(_))));
    let error = scene.send(scene.call("k"), never).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Conflict, Outcome::Done));
    assert_eq!(scene.meters().not_kept.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_key_or_a_route_that_looks_at_it_each_is_executed() {
    let scene = Scene::new();
    scene.ends.add_permits(10);
    let without = || scene.template.clone();
    let subscription = || {
        let mut call = scene.call("k");
        call.request.target = Target::Subscribe(Pattern::from_static("a"));
        call
    };
    for call in [without(), without(), subscription(), subscription()] {
        scene.send(call, answer).await.unwrap();
    }
    assert_eq!((scene.executed(), scene.meters().executed.get()), (4, 0));
    let off = Scene::on(|route| route.idempotency = None);
    off.ends.add_permits(2);
    for _ in 0..2 {
        off.send(off.call("k"), answer).await.unwrap();
    }
    assert_eq!(off.executed(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_read_is_refused() {
    let scene = Scene::new();
    let mut twice = scene.call("one");
    twice.request.headers.append(HEADER, "another").unwrap();
    for call in [scene.call(""), twice] {
        let error = scene.send(call, never).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome(), scene.executed()), (Kind::Invalid, Outcome::NotSent, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_header_goes_on_only_where_the_route_passes_it() {
    for (headers, goes_on) in [(vec![], false), (vec!["*".to_owned()], true)] {
        let scene = Scene::on(|route| route.headers = headers);
        scene.ends.add_permits(1);
        let sent = scene.send(scene.call("k"), move |call| {
            assert_eq!(call.request.headers.get(HEADER).is_some(), goes_on);
            assert!(call.sent_once);
            answer(call)
        });
        sent.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_publish_is_accepted_once() {
    let scene = Scene::new();
    scene.ends.add_permits(1);
    let publish = || {
        let mut call = scene.call("k");
        call.request.target = Target::Publish(Subject::from_static("a"));
        call
    };
    for _ in 0..2 {
        let accepted = scene.send(publish(), |_| Ok(Reply::Accepted)).await;
        assert!(matches!(accepted, Ok(Reply::Accepted)));
    }
    assert_eq!(scene.executed(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_room_it_is_refused_before_it_is_executed() {
    let scene = Scene::new();
    let bounds = Bounds { entries_max: 1, bytes_max: 10_000 };
    scene.template.rules.idempotency.set_bounds(bounds);
    let first = scene.send(scene.call("one"), answer);
    let error = scene.send(scene.call("two"), never).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Overloaded, Outcome::NotSent));
    assert!(error.retry_after().is_some());
    scene.ends.add_permits(2);
    first.await.unwrap();
    scene.send(scene.call("two"), answer).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_comes_through_a_clone_of_the_service_is_a_twin_too() {
    let scene = Scene::new();
    let echo = IdempotencyLayer.layer(tower::service_fn(|call: Call| std::future::ready(answer(call))));
    for _ in 0..2 {
        echo.clone().oneshot(scene.call("k")).await.unwrap();
    }
    assert_eq!((scene.meters().executed.get(), scene.meters().replayed.get()), (1, 1));
}

/// Sends three requests with keys to a route for three, whose clients leave in `leave`: what they had stays counted
/// until the executions end.
async fn leaves_as_many_as_there_may_be(scene: &Scene, leave: impl AsyncFn([Sent; 3])) {
    let bytes = scene.template.request.payload.len();
    let sent = ["one", "two", "three"].map(|key| scene.send_counted(scene.call(key)));
    assert_eq!(scene.used(), [3, 3, 3, 0]);
    leave(sent).await;
    assert_eq!((scene.used(), scene.executed()), ([3, 3, 3, 3 * bytes], 3));
    let refused = scene.send_counted(scene.call("four")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.outcome()), (Kind::Overloaded, Outcome::NotSent));
    scene.ends.add_permits(4);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!((scene.used(), scene.executed()), ([0; 4], 3));
    assert_eq!(payload(scene.send_counted(scene.call("four")).await), "{}");
    assert_eq!((scene.used(), scene.executed()), ([0; 4], 4));
}

fn for_three() -> Scene {
    Scene::on(|route| {
        route.calls_max = Some(3);
        route.pressure = Some(testing::pressure_settings());
    })
}

async fn by_their_deadlines(sent: [Sent; 3]) {
    for sent in sent {
        assert_eq!(sent.await.unwrap_err().kind(), Kind::TimedOut);
    }
}

#[tokio::test(start_paused = true)]
async fn an_execution_counts_until_its_end_when_its_client_has_left() {
    leaves_as_many_as_there_may_be(&for_three(), by_their_deadlines).await;
    leaves_as_many_as_there_may_be(&for_three(), async |sent| drop(sent)).await;
    let shares = for_three();
    shares.template.rules.idempotency.share(Shared::new(Arc::<Memory>::default(), SETTINGS));
    leaves_as_many_as_there_may_be(&shares, by_their_deadlines).await;
}

#[tokio::test(start_paused = true)]
async fn a_responder_under_pressure_gets_no_more_for_clients_that_leave() {
    let scene = Scene::on(|route| route.pressure = Some(testing::pressure_settings()));
    let Call { route, .. } = &scene.template;
    // A share of one request.
    route.calls.set_limit(2);
    route.pressure.hear(route.settings.pressure.as_ref().unwrap(), Instant::now(), News::Warning);
    drop(scene.send_counted(scene.call("one")));
    let refused = scene.send_counted(scene.call("two")).await.unwrap_err();
    assert_eq!((refused.kind(), scene.executed()), (Kind::Overloaded, 1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_after_its_client_left_gives_everything_back() {
    let scene = Scene::new();
    drop(scene.send(scene.call("k"), |_| panic!("as a test demands")));
    assert_eq!(scene.used()[..2], [1, 1]);
    scene.ends.add_permits(1);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(scene.used(), [0; 4]);
}

/// Two gateways that share a bucket.
fn two(when_unavailable: WhenUnavailable) -> (Arc<Memory>, [Scene; 2]) {
    let memory = Arc::<Memory>::default();
    let scenes = [Scene::new(), Scene::new()];
    for scene in &scenes {
        let settings = SharedSettings { when_unavailable, ..SETTINGS };
        scene.template.rules.idempotency.share(Shared::new(Arc::<Memory>::clone(&memory), settings));
    }
    (memory, scenes)
}

#[tokio::test(start_paused = true)]
async fn two_gateways_execute_once() {
    let (_, [one, other]) = two(WhenUnavailable::Refuse);
    let first = one.send(one.call("k"), answer);
    tokio::task::yield_now().await;
    let mut sent: Vec<_> = (0..10).map(|_| other.send(other.call("k"), never)).collect();
    sent.push(first);
    one.ends.add_permits(1);
    for sent in sent {
        assert_eq!(payload(sent.await), "{}");
    }
    assert_eq!((one.executed(), other.executed()), (1, 0));
    assert_eq!((one.meters().executed.get(), other.meters().shared.get()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_not_repeated_by_another_gateway() {
    let (_, [one, other]) = two(WhenUnavailable::Refuse);
    one.ends.add_permits(1);
    for (scene, execution) in [(&one, (|_| panic!("as a test demands")) as fn(Call) -> _), (&other, never)] {
        let error = scene.send(scene.call("k"), execution).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Internal, Outcome::Unknown));
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_gateway_leaves_nothing_behind_when_it_goes() {
    let (_, [one, other]) = two(WhenUnavailable::Refuse);
    let first = one.send(one.call("k"), answer);
    tokio::task::yield_now().await;
    let (waits, twin) = (other.send(other.call("k"), never), other.send(other.call("k"), never));
    drop(waits);
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The twin is still there.
    assert_eq!(other.template.rules.idempotency.used().0, 1);
    drop(twin);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(other.template.rules.idempotency.used().0, 0);
    one.ends.add_permits(1);
    first.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_the_bucket_it_is_as_configured() {
    for (setting, executed) in [(WhenUnavailable::Refuse, 0), (WhenUnavailable::Execute, 1)] {
        let (memory, [one, _]) = two(setting);
        memory.hangs.store(true, Ordering::Relaxed);
        one.ends.add_permits(1);
        let outcome = one.send(one.call("k"), answer).await;
        assert_eq!((outcome.is_ok(), one.executed()), (executed == 1, executed));
        if let Err(error) = outcome {
            let told = (error.kind(), error.outcome(), error.retry_after().is_some());
            assert_eq!(told, (Kind::Unavailable, Outcome::NotSent, true));
        }
        // Refused is not kept; executed is, in this gateway.
        memory.hangs.store(false, Ordering::Relaxed);
        one.ends.add_permits(1);
        assert_eq!(payload(one.send(one.call("k"), answer).await), "{}");
        assert_eq!((one.executed(), one.meters().store_failures.get()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_bucket_does_not_take_is_known_here() {
    let (memory, [one, _]) = two(WhenUnavailable::Refuse);
    let first = one.send(one.call("k"), answer);
    tokio::time::sleep(Duration::from_millis(1)).await;
    memory.hangs.store(true, Ordering::Relaxed);
    one.ends.add_permits(1);
    assert_eq!(payload(first.await), "{}");
    assert_eq!(payload(one.send(one.call("k"), never).await), "{}");
    assert_eq!(one.meters().store_failures.get(), 1);
}
