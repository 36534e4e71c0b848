//! Servers that are not there, that die, and that come back.

use std::time::{Duration, Instant};

use crate::client::{Client, Frame, kind};
use crate::gateway::{Gateway, Start};
use crate::nats_server::NatsServer;
use crate::outside::{DECIDE, Outside, in_front_of, until_connected};

/// A gateway without breakers: what stands behind them is looked at here.
fn unguarded(server: &NatsServer) -> Start {
    in_front_of(server).set("breaker.enabled=false")
}

/// A task that says who asks, and what number it is.
fn task(client: usize, number: usize) -> String {
    format!("{{\"client\":{client},\"number\":{number}}}")
}

/// An error that says what became of the request.
fn outcome(frame: &Frame) -> (String, String) {
    let (code, _, word) = frame.error();
    assert_eq!(code, 99, "{frame:?}");
    (word, frame.json()["error"]["outcome"].as_str().unwrap().to_owned())
}

/// Sees that work is refused at once, and is told when to come again.
fn assert_unavailable_at_once(client: &mut Client) {
    let started = Instant::now();
    for _ in 0..20 {
        let refused = client.ask(kind::TASK_SUBMIT, "{}");
        assert_eq!(outcome(&refused), ("unavailable".into(), "not_sent".into()));
        assert!(refused.json()["error"]["retry_after_ms"].as_u64().unwrap() > 0);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn an_unreachable_server_leaves_the_gateway_alive_and_it_comes_up_by_itself() {
    let mut server = NatsServer::start("");
    server.kill();
    let gateway = unguarded(&server).gateway();
    assert_eq!(gateway.page("/health").0, 200);
    crate::gateway::eventually("the reason is told", || {
        let (status, body) = gateway.ready();
        assert_eq!((status, &body["backend"]["kind"]), (503, &"nats".into()));
        body["reasons"]
            .as_array()
            .unwrap()
            .iter()
            .any(|reason| reason.as_str().unwrap().contains(&server.url()))
    });
    let mut client = gateway.client();
    assert_unavailable_at_once(&mut client);
    client.ping();
    server.restart();
    until_connected(&gateway);
    let (status, body) = gateway.ready();
    assert_eq!((status, &body["reasons"]), (200, &serde_json::json!([])));
    let outside = Outside::of(&server);
    outside.respond(DECIDE, |task| task);
    assert_eq!(client.ask(kind::TASK_SUBMIT, task(1, 1)).text(), task(1, 1));
    gateway.stop();
}

#[test]
fn killed_with_a_thousand_in_flight_each_request_has_exactly_one_answer() {
    const CLIENTS: usize = 4;
    const EACH: usize = 250;
    let mut server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut requests = outside.listen(DECIDE);
    let gateway = unguarded(&server).set("ipc.in_flight_max=500").gateway();
    until_connected(&gateway);
    let before = gateway.metrics().held();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| gateway.client()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        for number in 0..EACH {
            client.send(kind::TASK_SUBMIT, task(index, number));
        }
    }
    let asked: Vec<_> = (0..CLIENTS * EACH).map(|_| requests.next()).collect();
    assert_eq!(gateway.metrics().of("ipc_gateway_nats_inbox_slots"), 1000.0);
    for message in asked.iter().step_by(3) {
        requests.answer(message, message.payload.clone());
    }
    server.kill();
    let mut answered = 0;
    for (index, client) in clients.iter_mut().enumerate() {
        for number in 0..EACH {
            let frame = client.receive();
            if frame.kind == kind::RESPONSE_OK {
                assert_eq!(frame.text(), task(index, number));
                answered += 1;
            } else {
                assert_eq!(outcome(&frame), ("unavailable".into(), "unknown".into()));
            }
        }
        // And that was all.
        client.ping();
    }
    // How many of the answers came through in time, nobody can say; the others had none.
    assert!(answered <= asked.len().div_ceil(3), "{answered}");
    assert_unavailable_at_once(&mut clients[0]);
    drop(outside);
    server.restart();
    until_connected(&gateway);
    let outside = Outside::of(&server);
    outside.respond(DECIDE, |task| task);
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask(kind::TASK_SUBMIT, task(index, 0)).text(), task(index, 0));
    }
    drop(clients);
    gateway.until_held(&before);
    assert_eq!(gateway.metrics().of("ipc_gateway_nats_inbox_slots"), 0.0);
    gateway.stop();
}

#[test]
fn after_an_outage_the_limit_of_requests_grows_instead_of_being_there_at_once() {
    let mut server = NatsServer::start("");
    let slow = unguarded(&server).set("limits.calls_max=10").set("limits.slow_start_ms=300000").gateway();
    let quick = unguarded(&server).set("limits.calls_max=10").set("limits.slow_start_ms=50").gateway();
    for gateway in [&slow, &quick] {
        until_connected(gateway);
        // The first connection ends no outage.
        let metrics = gateway.metrics();
        assert_eq!(metrics.of("ipc_gateway_calls_admitted_max"), 10.0);
        assert_eq!(metrics.of("ipc_gateway_slow_starts_total"), 0.0);
    }
    server.kill();
    slow.until("ipc_gateway_calls_admitted_max", 1.0);
    quick.until("ipc_gateway_calls_admitted_max", 1.0);
    server.restart();
    for gateway in [&slow, &quick] {
        until_connected(gateway);
        gateway.until("ipc_gateway_slow_starts_total", 1.0);
    }
    quick.until("ipc_gateway_calls_admitted_max", 10.0);
    let outside = Outside::of(&server);
    let mut requests = outside.listen(DECIDE);
    let mut client = slow.client();
    for number in 0..3 {
        client.send(kind::TASK_SUBMIT, task(1, number));
    }
    let first = requests.next();
    slow.until("ipc_gateway_slow_start_refused_total", 2.0);
    requests.answer(&first, first.payload.clone());
    assert_eq!(client.receive().text(), task(1, 0));
    for _ in 0..2 {
        assert_eq!(outcome(&client.receive()), ("overloaded".into(), "not_sent".into()));
    }
    slow.stop();
    quick.stop();
}

#[test]
fn ten_kills_in_a_row_leave_nothing_behind() {
    let mut server = NatsServer::start("");
    let gateway = unguarded(&server).gateway();
    let mut client = gateway.client();
    let mut kill = |server: &mut NatsServer, gateway: &Gateway| {
        let outside = Outside::of(server);
        let mut requests = outside.listen(DECIDE);
        for number in 0..100 {
            client.send(kind::TASK_SUBMIT, task(0, number));
        }
        for _ in 0..100 {
            requests.next();
        }
        server.kill();
        for _ in 0..100 {
            assert_eq!(outcome(&client.receive()), ("unavailable".into(), "unknown".into()));
        }
        drop(outside);
        server.restart();
        until_connected(gateway);
    };
    until_connected(&gateway);
    // The first one brings memory to what a kill takes.
    kill(&mut server, &gateway);
    let before = gateway.metrics();
    for _ in 0..10 {
        kill(&mut server, &gateway);
    }
    gateway.until_held(&before.held());
    let after = gateway.metrics();
    assert_eq!(after.of("ipc_gateway_nats_reconnects_total"), 22.0);
    for series in ["inbox_slots", "in_flight", "tasks", "pins"] {
        let series = format!("ipc_gateway_nats_{series}");
        assert!(after.of(&series) <= before.of(&series), "{series}: {}", after.of(&series));
    }
    let grown = after.of("process_resident_memory_bytes") - before.of("process_resident_memory_bytes");
    // A connection's buffers and its inbox are some hundred kilobytes: twenty dead ones would show.
    assert!(grown < 8_000_000.0, "{grown} bytes more");
    gateway.stop();
}
