//! What is tried again, how often, and when it is given up.

use std::sync::atomic::{AtomicUsize, Ordering};

use contract::Subject;
use tower::ServiceExt;

use super::*;
use crate::route::RouteSettings;
use crate::testing;

pub(super) const SETTINGS: RetrySettings = RetrySettings {
    attempts_max: 2,
    attempt_timeout: None,
    backoff: Duration::from_millis(50),
    backoff_max: Duration::from_secs(1),
    budget_percent: 20,
    budget_max: 10,
};

/// An idempotent request with ten seconds to go, on a route with a timeout of thirty.
fn call(settings: RetrySettings) -> Call {
    call_on(|route| route.retry = Some(settings))
}

fn call_on(change: impl FnOnce(&mut RouteSettings)) -> Call {
    let mut route = testing::route_settings("r", &[">"]);
    change(&mut route);
    let target = Target::Request(Subject::from_static("a"));
    let mut call = testing::call_with(vec![route], testing::limits(), target);
    call.request.idempotent = true;
    call
}

/// Ends each attempt as `outcome` says, which gets its number, from 1. Returns how it ended and how many there were.
async fn attempts(
    call: Call,
    outcome: impl Fn(usize) -> Result<Reply, Error> + Clone + Send + 'static,
) -> (Result<Reply, Error>, usize) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let inner = tower::service_fn(move |_: Call| {
        let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
        std::future::ready(outcome(number))
    });
    let ended = RetryLayer.layer(inner).oneshot(call).await;
    (ended, count.load(Ordering::Relaxed))
}

fn error(kind: Kind) -> Error {
    Error::new(kind, "")
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_backend_is_tried_again_until_it_answers() {
    let call = call(SETTINGS);
    let route = Arc::clone(&call.route);
    let answers_the_third =
        |number| if number < 3 { Err(error(Kind::Unavailable)) } else { Ok(Reply::Accepted) };
    let (ended, attempts) = attempts(call, answers_the_third).await;
    assert!(ended.is_ok() && attempts == 3);
    assert_eq!((route.retries.ok_total(), route.retries.failed_total()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn it_is_given_up_after_the_last_attempt() {
    let (ended, attempts) = attempts(call(SETTINGS), |_| Err(error(Kind::Unavailable))).await;
    assert_eq!((ended.unwrap_err().kind(), attempts), (Kind::Unavailable, 3));
}

#[tokio::test(start_paused = true)]
async fn what_may_not_happen_twice_is_sent_once() {
    type Change = (&'static str, fn(&mut Call));
    let changes: [Change; 3] = [
        ("not idempotent", |call| call.request.idempotent = false),
        ("in order", |call| call.request.ordered = true),
        ("a stream", |call| call.request.target = Target::Subscribe(contract::Pattern::from_static("a"))),
    ];
    for (name, change) in changes {
        let mut call = call(SETTINGS);
        change(&mut call);
        let (ended, attempts) = attempts(call, |_| Err(error(Kind::Unavailable))).await;
        assert!(ended.is_err() && attempts == 1, "{name}");
    }
    let (_, attempts) =
        attempts(call_on(|route| route.retry = None), |_| Err(error(Kind::Unavailable))).await;
    assert_eq!(attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn only_what_may_pass_by_itself_is_tried_again() {
    for row in contract::error::TABLE {
        let (_, attempts) = attempts(call(SETTINGS), |_| Err(error(row.kind))).await;
        let again = matches!(row.kind, Kind::Unavailable | Kind::TimedOut);
        assert_eq!(attempts, if again { 3 } else { 1 }, "{}", row.code);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_not_sent_does_not_hide_one_that_was() {
    let outcomes = |number| Err(error(if number == 1 { Kind::TimedOut } else { Kind::CircuitOpen }));
    let (ended, attempts) = attempts(call(SETTINGS), outcomes).await;
    let ended = ended.unwrap_err();
    assert_eq!((ended.kind(), ended.outcome(), attempts), (Kind::CircuitOpen, Outcome::Unknown, 2));
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_deadline() {
    let settings = RetrySettings {
        attempts_max: 20,
        backoff: Duration::from_secs(4),
        backoff_max: Duration::from_secs(4),
        budget_max: 100,
        ..SETTINGS
    };
    for _ in 0..5_000 {
        let call = call(settings);
        let deadline = call.request.deadline;
        let (ended, attempts) = attempts(call, |_| Err(error(Kind::Unavailable))).await;
        assert!(ended.is_err() && Instant::now() < deadline);
        assert!(attempts < 21, "twenty pauses of two seconds do not fit into ten");
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_own_time_and_the_last_one_the_rest() {
    let settings = RetrySettings { attempt_timeout: Some(Duration::from_secs(1)), ..SETTINGS };
    let call = call(settings);
    let (deadline, begin) = (call.request.deadline, Instant::now());
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let silent = tower::service_fn(move |call: Call| {
        sender.send((call.request.deadline, Instant::now(), call.has_full_time())).unwrap();
        async move {
            tokio::time::sleep_until(call.request.deadline).await;
            Err::<Reply, _>(error(Kind::TimedOut))
        }
    });
    let ended = RetryLayer.layer(silent).oneshot(call).await;
    assert_eq!((ended.unwrap_err().kind(), Instant::now()), (Kind::TimedOut, deadline));
    for attempt in 1..=3 {
        let (due, started, has_full_time) = seen.recv().await.unwrap();
        let expected = if attempt == 3 { deadline } else { started + Duration::from_secs(1) };
        assert_eq!((due, has_full_time), (expected, true), "{attempt}");
        assert!(attempt > 1 || started == begin);
    }
    assert!(seen.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_no_more_than_the_budget() {
    let template = call(SETTINGS);
    let mut sent = 0;
    for _ in 0..100 {
        sent += attempts(template.clone(), |_| Err(error(Kind::Unavailable))).await.1;
    }
    // A hundred requests, the ten that were saved, and the twenty that a hundred earn; those of the first requests
    // had no room.
    assert!((120..=130).contains(&sent), "{sent}");
    assert!(template.route.retries.exhausted_total() > 0);
}

#[test]
fn pauses_double_up_to_their_bound() {
    let bounds: Vec<_> = [1, 2, 3, 5, 6, 40].map(|attempts| SETTINGS.pause_max(attempts).as_millis()).into();
    assert_eq!(bounds, [50, 100, 200, 800, 1000, 1000]);
}

#[tokio::test(start_paused = true)]
async fn those_who_failed_together_come_back_at_different_times() {
    let settings =
        RetrySettings { attempts_max: 1, backoff: Duration::from_millis(800), budget_max: 100, ..SETTINGS };
    let mut pauses = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let began = Instant::now();
        attempts(call(settings), |_| Err(error(Kind::Unavailable))).await.0.unwrap_err();
        pauses.insert(began.elapsed().as_millis());
    }
    // Fifty pauses out of eight hundred that are as likely: that so many are the same does not happen.
    assert!(
        pauses.len() > 20 && *pauses.first().unwrap() < 400 && *pauses.last().unwrap() > 400,
        "{pauses:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn dropped_in_a_pause_it_sends_nothing_more() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let inner = tower::service_fn(move |_: Call| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Err::<Reply, _>(error(Kind::Unavailable)))
    });
    let mut service = RetryLayer.layer(inner);
    let mut future = Box::pin(service.call(call(SETTINGS)));
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
    drop(future);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn what_has_an_idempotency_key_is_sent_again_only_if_it_was_not_sent() {
    let ends = async |outcome| {
        let mut call = call(SETTINGS);
        call.sent_once = true;
        attempts(call, move |_| Err(error(Kind::Unavailable).with_outcome(outcome))).await.1
    };
    assert_eq!((ends(Outcome::NotSent).await, ends(Outcome::Unknown).await), (3, 1));
}
