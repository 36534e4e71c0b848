//! Backpressure: the router says how much it can take, and the gateway keeps to it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use contract::{Kind, Outcome};
use ipc_gateway::client::Failure;
use ipc_gateway::demo_router::BACKPRESSURE;
use serde_json::{Value, json};

use crate::gateway::eventually;
use crate::ground::{Ground, RETRY_AFTER, UNGUARDED, task, told};
use crate::outside::{DECIDE, Outside};
use crate::peer::Answer;
use crate::ways::Way;

/// Requests that the route lets to the router at once, when nothing is said.
const CALLS_MAX: usize = 20;
/// What the metric of the state says: everything passes, a share does, nothing does.
const FREE: f64 = 0.0;
const SLOWED: f64 = 2.0;
const REFUSING: f64 = 3.0;

/// A router that says how much it can take, asked often.
fn watched(way: &'static Way, settings: &[&str]) -> Ground {
    let own = [
        "backpressure.interval_ms=50",
        "backpressure.absent_interval_ms=50",
        "backpressure.recovery_ms=0",
        "routes.decide.calls_max=20",
    ];
    let mut ground = Ground::without_router(way, &[&own, settings].concat());
    ground.start_watched_router();
    ground
}

/// Waits until the gateway is in this state.
fn until(ground: &Ground, state: f64) {
    ground.gateway.until("ipc_gateway_backpressure_state{route=\"decide\"}", state);
}

/// A metric of the route's backpressure.
fn of(ground: &Ground, name: &str) -> f64 {
    ground.metrics().of(&format!("ipc_gateway_backpressure_{name}{{route=\"decide\"}}"))
}

/// Questions that were answered so.
fn asked(ground: &Ground, answer: &str) -> f64 {
    let labels = format!("route=\"decide\",answer=\"{answer}\"");
    ground.metrics().of(&format!("ipc_gateway_backpressure_asks_total{{{labels}}}"))
}

/// Requests that were refused at this status.
fn refused(ground: &Ground, status: &str) -> f64 {
    let labels = format!("route=\"decide\",status=\"{status}\"");
    ground.metrics().of(&format!("ipc_gateway_backpressure_refusals_total{{{labels}}}"))
}

/// Sees that this is the refusal of a router under pressure, which nothing was sent to.
fn expect_refusal(answer: Answer) -> Failure {
    let failure = answer.expect_failure(Kind::Overloaded, Outcome::NotSent);
    assert!(failure.retry_after.is_some_and(|wait| !wait.is_zero()), "{failure:?}");
    failure
}

pub(crate) fn pressure_1_the_subject_is_asked_and_understood(way: &'static Way) -> String {
    let mut ground = watched(way, &[]);
    // Of one that does not offer it, most routers.
    ground.start_router(&["default_tenant"]);
    eventually("it is known not to be offered", || asked(&ground, "absent") > 0.0);
    ground.peer().ask(&task("t")).decision();
    ground.start_watched_router();
    let outside = Outside::of(&ground.server);
    let question = outside.listen(BACKPRESSURE).next();
    assert_eq!(serde_json::from_slice::<Value>(&question.payload).unwrap()["subject"], DECIDE);
    eventually("it is known to be offered", || asked(&ground, "inactive") > 0.0);
    ground.press("active");
    until(&ground, REFUSING);
    ground.close();
    format!("`{BACKPRESSURE}` is asked about `{DECIDE}`; absent, inactive and active are told apart")
}

pub(crate) fn pressure_2_it_slows_down(way: &'static Way) -> String {
    let ground =
        watched(way, &["backpressure.warning_percent=50", "routes.decide.timeout_ms=1000", UNGUARDED]);
    let outside = Outside::of(&ground.server);
    let mut tap = outside.listen(DECIDE);
    ground.press("warning");
    until(&ground, SLOWED);
    let mut peer = ground.peer();
    let mut due: BTreeSet<_> =
        (0..CALLS_MAX).map(|_| peer.say(&told("t", json!({"mode": "silent"})))).collect();
    let (mut sent, mut refused) = (0, 0);
    while !due.is_empty() {
        let (id, answer) = peer.hears();
        assert!(due.remove(&id), "each is answered once");
        let failure = answer.failure();
        match failure.kind {
            Kind::TimedOut => sent += 1,
            Kind::Overloaded => refused += 1,
            _ => panic!("{failure}"),
        }
    }
    assert_eq!((sent, refused), (CALLS_MAX / 2, CALLS_MAX / 2));
    for _ in 0..sent {
        tap.next();
    }
    drop(peer);
    ground.close();
    format!(
        "at `warning` {sent} of {CALLS_MAX} at once go to the router, the half that the settings allow; the others are refused"
    )
}

pub(crate) fn pressure_3_it_goes_on_when_the_pressure_is_over(way: &'static Way) -> String {
    let ground = watched(way, &["backpressure.recovery_ms=300"]);
    let mut peer = ground.peer();
    for _ in 0..3 {
        ground.press("active");
        until(&ground, REFUSING);
        expect_refusal(peer.ask(&task("t")));
        ground.press("inactive");
        until(&ground, FREE);
        peer.ask(&task("t")).decision();
    }
    assert_eq!(of(&ground, "calls_max"), 20.0, "the whole of the route's bound");
    drop(peer);
    ground.close();
    "three times refused at `active`, and served with the whole bound after `inactive`".to_owned()
}

pub(crate) fn pressure_4_the_breaker_counts_faults_and_no_pressure(way: &'static Way) -> String {
    let ground = watched(way, &["breaker.consecutive_max=5", "breaker.open_ms=60000"]);
    let mut peer = ground.peer();
    ground.press("active");
    until(&ground, REFUSING);
    for _ in 0..50 {
        expect_refusal(peer.ask(&task("t")));
    }
    assert_eq!(ground.metrics().of("ipc_gateway_breaker_state{route=\"decide\"}"), 0.0, "closed");
    ground.press("inactive");
    until(&ground, FREE);
    peer.ask(&task("t")).decision();
    // What is the router's illness opens it.
    for _ in 0..5 {
        peer.ask(&told("t", json!({"mode": "fail", "code": "internal"}))).refusal();
    }
    let failure = peer.ask(&task("t")).expect_failure(Kind::CircuitOpen, Outcome::NotSent);
    assert!(failure.retry_after.is_some(), "{failure:?}");
    drop(peer);
    ground.close();
    "50 refusals leave the circuit closed; five answers `internal` open it".to_owned()
}

pub(crate) fn pressure_5_no_request_goes_without_an_answer(way: &'static Way) -> String {
    const REQUESTS: usize = 600;
    const AT_ONCE: usize = 15;
    let ground = watched(way, &[]);
    let done = AtomicBool::new(false);
    let (mut decisions, mut refusals) = (0_usize, 0_usize);
    thread::scope(|scope| {
        scope.spawn(|| {
            for status in ["active", "inactive", "warning", "active", "inactive"].iter().cycle() {
                ground.press(status);
                thread::sleep(Duration::from_millis(40));
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let mut peer = ground.peer();
        let mut due = BTreeSet::new();
        // As long as it takes to see both, too.
        while decisions + refusals < REQUESTS || decisions == 0 || refusals == 0 {
            while due.len() < AT_ONCE {
                due.insert(peer.say(&told("t", json!({"mode": "slow", "wait_ms": 5}))));
            }
            let (id, answer) = peer.hears();
            assert!(due.remove(&id), "{id} is answered twice");
            match answer {
                Answer::Decision { .. } => decisions += 1,
                answer => {
                    expect_refusal(answer);
                    refusals += 1;
                    // A client that is refused waits a little, if not so long as it is told.
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        while !due.is_empty() {
            let (id, _) = peer.hears();
            assert!(due.remove(&id), "{id} is answered twice");
        }
        peer.expect_nothing_more();
        done.store(true, Ordering::Relaxed);
    });
    ground.gateway.until("ipc_gateway_calls", 0.0);
    ground.close();
    format!("{REQUESTS} and more while the status changes each 40 ms: each is decided or refused, once")
}

pub(crate) fn pressure_6_refusals_are_of_the_503_class_and_say_when(way: &'static Way) -> String {
    let ground = watched(way, &[]);
    ground.press("active");
    until(&ground, REFUSING);
    let failure = expect_refusal(ground.peer().ask(&task("t")));
    assert_eq!(failure.retry_after, Some(RETRY_AFTER));
    if way.door == "grpc" {
        assert_eq!(ground.unary(&task("t")).0, 14);
    }
    ground.close();
    format!("`overloaded`, not sent, with the {} s that the router said", RETRY_AFTER.as_secs())
}

pub(crate) fn pressure_7_metrics_show_it(way: &'static Way) -> String {
    const REFUSED: u8 = 10;
    let ground = watched(way, &[]);
    let mut peer = ground.peer();
    ground.press("active");
    until(&ground, REFUSING);
    for _ in 0..REFUSED {
        expect_refusal(peer.ask(&task("t")));
    }
    assert_eq!(refused(&ground, "active"), f64::from(REFUSED));
    assert_eq!(of(&ground, "calls_max"), 0.0);
    assert!(asked(&ground, "active") > 0.0);
    ground.press("inactive");
    until(&ground, FREE);
    assert_eq!((of(&ground, "calls"), of(&ground, "calls_max")), (0.0, 20.0));
    drop(peer);
    ground.close();
    "state, requests allowed, questions by answer, and each of ten refusals".to_owned()
}
