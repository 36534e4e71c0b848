//! Reconnect: the server between gateway and router goes and comes back.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener};

use contract::{Kind, Outcome};
use serde_json::json;

use crate::gateway::eventually;
use crate::ground::{Ground, UNGUARDED, task, told};
use crate::outside::{DECIDE, Outside};
use crate::peer::{Answer, Peer};
use crate::ways::Way;

/// Connections that the gateway keeps.
const CONNECTIONS: f64 = 2.0;
/// Requests in flight when a server dies, where a check is not about them.
const IN_FLIGHT: usize = 10;

/// Sees that requests are answered.
fn expect_served(peer: &mut Peer, count: u32) {
    for number in 0..count {
        let id = format!("served-{number}");
        assert_eq!(peer.ask(&task(&id)).decision()["context"]["request_id"], *id);
    }
}

/// Kills the server with requests in flight, sees that each is told of it, and brings it back.
fn cycle(ground: &mut Ground, peer: &mut Peer) {
    let outside = Outside::of(&ground.server);
    let mut tap = outside.listen(DECIDE);
    for _ in 0..IN_FLIGHT {
        peer.say(&told("t", json!({"mode": "silent"})));
    }
    for _ in 0..IN_FLIGHT {
        tap.next();
    }
    ground.kill();
    for _ in 0..IN_FLIGHT {
        peer.hears().1.expect_failure(Kind::Unavailable, Outcome::Unknown);
    }
    peer.expect_nothing_more();
    ground.revive();
}

pub(crate) fn reconnect_1_one_disconnect(way: &'static Way) -> String {
    let mut ground = Ground::open(way, &[UNGUARDED]);
    let mut peer = ground.peer();
    expect_served(&mut peer, 1);
    ground.kill();
    eventually("the loss is known", || ground.gateway.ready().0 == 503);
    let failure = peer.ask(&task("away")).expect_failure(Kind::Unavailable, Outcome::NotSent);
    assert!(failure.retry_after.is_some(), "{failure:?}");
    ground.revive();
    expect_served(&mut peer, 1);
    assert_eq!(ground.gateway.ready().0, 200);
    assert_eq!(ground.nats("reconnects_total"), CONNECTIONS);
    drop(peer);
    ground.close();
    "away: `/ready` is 503 and a request is `unavailable`, not sent, with a time to come back; back: served"
        .to_owned()
}

pub(crate) fn reconnect_2_each_request_in_flight_is_answered_once(way: &'static Way) -> String {
    const TASKS: usize = 100;
    let mut ground = Ground::open(way, &[UNGUARDED]);
    let mut peer = ground.peer();
    let outside = Outside::of(&ground.server);
    let mut tap = outside.listen(DECIDE);
    let mut due = BTreeSet::new();
    for number in 0..TASKS {
        // Version 1 answers in order, so there the first ones have their answers and the rest have not.
        let is_answered = if way.is_version_1 { number < TASKS / 2 } else { number % 2 == 0 };
        let mode = if is_answered { "answer" } else { "silent" };
        due.insert(peer.say(&told("t", json!({"mode": mode}))));
    }
    for _ in 0..TASKS {
        tap.next();
    }
    ground.kill();
    let (mut decisions, mut errors) = (0, 0);
    for _ in 0..TASKS {
        let (id, answer) = peer.hears();
        assert!(due.remove(&id), "{id} is answered twice");
        match answer {
            Answer::Decision { .. } => decisions += 1,
            answer => {
                answer.expect_failure(Kind::Unavailable, Outcome::Unknown);
                errors += 1;
            }
        }
    }
    peer.expect_nothing_more();
    assert!(errors >= TASKS / 2 && decisions <= TASKS / 2, "{decisions} decisions and {errors} errors");
    assert!(due.is_empty());
    ground.gateway.until("ipc_gateway_nats_inbox_slots", 0.0);
    drop(peer);
    ground.close();
    format!(
        "{TASKS} in flight at the kill: each has one decision or one `unavailable` with the outcome `unknown`"
    )
}

pub(crate) fn reconnect_3_ten_rapid_cycles(way: &'static Way) -> String {
    let mut ground = Ground::open(way, &[UNGUARDED]);
    let mut peer = ground.peer();
    for _ in 0..10 {
        cycle(&mut ground, &mut peer);
    }
    expect_served(&mut peer, 10);
    assert_eq!(ground.nats("reconnects_total"), 10.0 * CONNECTIONS);
    drop(peer);
    ground.close();
    format!("ten kills with {IN_FLIGHT} requests in flight: each told once, both connections back each time")
}

pub(crate) fn reconnect_4_no_connection_is_leaked(way: &'static Way) -> String {
    let mut ground = Ground::open(way, &[UNGUARDED]);
    let mut peer = ground.peer();
    // The first one brings what a kill takes.
    cycle(&mut ground, &mut peer);
    let before = ground.held();
    for _ in 0..3 {
        cycle(&mut ground, &mut peer);
    }
    ground.until_held(&before);
    // The gateway's two and the router's.
    eventually("the server counts three connections", || ground.connections_at_the_server() == 3);
    drop(peer);
    ground.close();
    "after three more cycles descriptors and tasks are as before, and the server counts the gateway's two connections"
        .to_owned()
}

pub(crate) fn reconnect_5_the_pool_is_back_at_its_size(way: &'static Way) -> String {
    let mut ground = Ground::open(way, &[UNGUARDED]);
    let mut peer = ground.peer();
    let of = |ground: &Ground, state: &str| ground.nats(&format!("connections{{state=\"{state}\"}}"));
    let size = ground.nats("pool_size");
    assert_eq!((size, of(&ground, "connected")), (CONNECTIONS, CONNECTIONS));
    ground.kill();
    eventually("no connection is there", || of(&ground, "connected") == 0.0);
    assert_eq!(ground.nats("pool_size"), size, "none is added for one that is away");
    ground.revive();
    assert_eq!(ground.nats("pool_size"), size);
    for state in ["connecting", "retiring", "given_up"] {
        assert_eq!(of(&ground, state), 0.0, "{state}");
    }
    expect_served(&mut peer, 10);
    drop(peer);
    ground.close();
    "two connections before, none while the server is away, two after; none retiring or given up".to_owned()
}

pub(crate) fn reconnect_6_failed_attempts_never_crash(way: &'static Way) -> String {
    const ATTEMPTS: f64 = 20.0;
    let mut ground = Ground::open(way, &[UNGUARDED]);
    let mut peer = ground.peer();
    let failures = |ground: &Ground| ground.nats("connect_failures_total");
    ground.kill();
    eventually("attempts are refused", || failures(&ground) >= ATTEMPTS);
    // And then something answers there that is no NATS: it hangs up, or says something else first.
    let before = failures(&ground);
    let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, ground.server.port())).unwrap();
    for number in 0..6 {
        let (mut stream, _) = stranger.accept().unwrap();
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap(),
            _ => stream.write_all(b"INFO {\"max_payload\": \"none\"}\r\n").unwrap(),
        }
        stream.shutdown(Shutdown::Write).unwrap();
        // Until it has hung up, too: what it said meanwhile, if anything, is of no interest.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    drop(stranger);
    eventually("those failed as well", || failures(&ground) >= before + 6.0);
    assert_eq!(ground.gateway.page("/health").0, 200);
    peer.ask(&task("away")).expect_failure(Kind::Unavailable, Outcome::NotSent);
    ground.revive();
    expect_served(&mut peer, 1);
    drop(peer);
    ground.close();
    "20 attempts that are refused and 6 that meet a server of another protocol; then NATS comes back, and so does it"
        .to_owned()
}

pub(crate) fn reconnect_7_requests_go_on_afterwards(way: &'static Way) -> String {
    let mut ground = Ground::open(way, &[]);
    let (mut old, before) = (ground.peer(), 20);
    expect_served(&mut old, before);
    ground.kill();
    ground.revive();
    expect_served(&mut old, 100);
    let mut new = ground.peer();
    expect_served(&mut new, 100);
    drop((old, new));
    ground.close();
    "100 requests on the client's old connection and 100 on a new one, with the breaker at work".to_owned()
}
