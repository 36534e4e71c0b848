//! Time: what comes in time passes, what does not is told and costs nothing further.

use std::time::{Duration, Instant};

use contract::{Kind, Outcome};
use serde_json::json;

use crate::gateway::eventually;
use crate::ground::{Ground, SHORT, UNGUARDED, task, told};
use crate::peer::Peer;
use crate::ways::Way;

/// Requests at once, ten times of which are a thousand. A connection may have 256 in flight.
const AT_ONCE: usize = 100;

/// The route's own bound is lower: it is not what is looked at here.
const UNBOUNDED: &str = "routes.decide.calls_max=0";

/// Has the router wait so long with each of these, all at once; returns how long all took.
fn slow(peer: &mut Peer, waits_ms: &[u64]) -> Duration {
    let started = Instant::now();
    let mut due: Vec<_> = waits_ms
        .iter()
        .map(|wait| (peer.say(&told(&wait.to_string(), json!({"mode": "slow", "wait_ms": wait}))), wait))
        .collect();
    while !due.is_empty() {
        let (id, answer) = peer.hears();
        let place = due.iter().position(|(said, _)| *said == id).expect("each is answered once");
        let (_, wait) = due.swap_remove(place);
        assert_eq!(answer.decision()["context"]["request_id"], wait.to_string());
    }
    peer.expect_nothing_more();
    started.elapsed()
}

/// Says this task so often, and sees that each is over its deadline.
fn time_out(peer: &mut Peer, count: usize, behaviour: &serde_json::Value) {
    let mut due: Vec<_> = (0..count).map(|_| peer.say(&told("t", behaviour.clone()))).collect();
    while !due.is_empty() {
        let (id, answer) = peer.hears();
        answer.expect_failure(Kind::TimedOut, Outcome::Unknown);
        let place = due.iter().position(|said| *said == id).expect("each is told once");
        due.swap_remove(place);
    }
}

pub(crate) fn time_1_replies_under_5_s_pass(way: &'static Way) -> String {
    let ground = Ground::open(way, &[]);
    let waits = [0, 1, 10, 100, 300, 700, 1000];
    let mut peer = ground.peer();
    let took = slow(&mut peer, &waits);
    assert!(took >= Duration::from_secs(1), "{took:?}");
    drop(peer);
    ground.close();
    "replies after 0 ms to 1 s, asked at once".to_owned()
}

pub(crate) fn time_2_replies_at_4_to_5_s_pass(way: &'static Way) -> String {
    let ground = Ground::open(way, &[]);
    let mut peer = ground.peer();
    let took = slow(&mut peer, &[4000, 4200, 4400, 4500]);
    assert!(took >= Duration::from_millis(4500), "{took:?}");
    drop(peer);
    ground.close();
    "replies after 4.0, 4.2, 4.4 and 4.5 s, within the default of 5 s".to_owned()
}

pub(crate) fn time_3_over_the_deadline_is_told_and_cleaned_up(way: &'static Way) -> String {
    let ground = Ground::open(way, &[SHORT, UNGUARDED]);
    let mut peer = ground.peer();
    peer.ask(&task("first")).decision();
    let before = ground.held();
    let started = Instant::now();
    time_out(&mut peer, 20, &json!({"mode": "silent"}));
    assert!(started.elapsed() >= Duration::from_millis(300));
    ground.until_held(&before);
    ground.gateway.until("ipc_gateway_nats_inbox_slots", 0.0);
    drop(peer);
    ground.close();
    "20 requests that nobody answers are `timed_out` with the outcome `unknown`; their slots are free"
        .to_owned()
}

pub(crate) fn time_4_a_late_reply_leaks_nothing(way: &'static Way) -> String {
    let ground = Ground::open(way, &[SHORT, UNGUARDED, UNBOUNDED]);
    let mut peer = ground.peer();
    peer.ask(&task("first")).decision();
    let before = ground.held();
    for _ in 0..10 {
        time_out(&mut peer, AT_ONCE, &json!({"mode": "late", "wait_ms": 1000}));
    }
    ground.gateway.until("ipc_gateway_nats_late_replies_total", 1000.0);
    ground.until_held(&before);
    ground.gateway.until("ipc_gateway_nats_inbox_slots", 0.0);
    assert_eq!(ground.nats("foreign_replies_total"), 0.0);
    drop(peer);
    ground.close();
    "1,000 late replies are counted and dropped; calls, slots, buffers and descriptors are as before"
        .to_owned()
}

pub(crate) fn time_5_a_late_or_second_reply_answers_nobody_twice(way: &'static Way) -> String {
    const EACH: u16 = 20;
    let ground = Ground::open(way, &[SHORT, UNGUARDED]);
    let mut peer = ground.peer();
    time_out(&mut peer, EACH.into(), &json!({"mode": "late", "wait_ms": 1000}));
    for _ in 0..EACH {
        peer.ask(&told("t", json!({"mode": "double"}))).decision();
    }
    eventually("all that came too late is counted", || {
        ground.nats("late_replies_total") + ground.nats("double_replies_total") == f64::from(2 * EACH)
    });
    peer.expect_nothing_more();
    let next = peer.ask(&task("next")).decision();
    assert_eq!(next["context"]["request_id"], "next");
    drop(peer);
    ground.close();
    format!(
        "{EACH} late and {EACH} second replies: each request was answered once, the next one with its own answer"
    )
}

pub(crate) fn time_6_a_late_reply_hangs_nothing(way: &'static Way) -> String {
    let ground = Ground::open(way, &[SHORT, UNGUARDED]);
    let mut peer = ground.peer();
    let late = json!({"mode": "late", "wait_ms": 2000});
    time_out(&mut peer, 10, &late);
    // The replies are on their way for two seconds more: nothing waits for them.
    assert_eq!(ground.nats("late_replies_total"), 0.0);
    for number in 0..20 {
        let id = number.to_string();
        assert_eq!(peer.ask(&task(&id)).decision()["context"]["request_id"], *id);
    }
    ground.gateway.until("ipc_gateway_calls", 0.0);
    drop(peer);
    let started = Instant::now();
    ground.close();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(20), "the gateway waited to stop: {took:?}");
    "with ten replies still to come, 20 requests are served on the same connection, and the gateway stops in order"
        .to_owned()
}

pub(crate) fn time_7_a_thousand_timeouts_leave_memory_and_slots(way: &'static Way) -> String {
    /// 512 bytes for each of a thousand.
    const GROWTH_MAX: f64 = 512_000.0;
    /// What is leaked is leaked by each thousand. What an allocator keeps for no reason is not: one thousand of so
    /// many without growth says that there is no leak.
    const THOUSANDS_MAX: u8 = 5;
    let ground = Ground::open(way, &["routes.decide.timeout_ms=100", UNGUARDED, UNBOUNDED]);
    let mut peer = ground.peer();
    let silent = json!({"mode": "silent"});
    let resident = || ground.metrics().of("process_resident_memory_bytes");
    let mut thousand = || {
        for _ in 0..10 {
            time_out(&mut peer, AT_ONCE, &silent);
        }
        peer.expect_nothing_more();
    };
    // The first one brings memory to what a thousand take.
    thousand();
    let held = ground.held();
    let mut grown = Vec::new();
    loop {
        let before = resident();
        thousand();
        ground.until_held(&held);
        grown.push(resident() - before);
        if grown.last().is_some_and(|grown| *grown < GROWTH_MAX) {
            break;
        }
        assert!(
            grown.len() < THOUSANDS_MAX.into(),
            "each thousand takes memory and keeps it: {grown:?} bytes"
        );
    }
    ground.gateway.until("ipc_gateway_nats_inbox_slots", 0.0);
    peer.ask(&task("next")).decision();
    drop(peer);
    ground.close();
    "1,000 timeouts add less than 512 bytes each to the process; no slot, call or descriptor is held"
        .to_owned()
}
