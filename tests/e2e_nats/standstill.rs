//! A server that stands still: connections stay open, and nobody reads.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{error_of, frame, kind};
use crate::nats_server::NatsServer;
use crate::outside::{DECIDE, Outside, in_front_of, until_connected};

#[test]
fn deadlines_hold_and_work_goes_on_when_the_server_does() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    outside.respond(DECIDE, |task| task);
    let gateway =
        in_front_of(&server).set("breaker.enabled=false").set("routes.decide.timeout_ms=300").gateway();
    until_connected(&gateway);
    let (mut client, mut json) = (gateway.client(), gateway.json());
    assert_eq!(client.ask(kind::TASK_SUBMIT, "{}").text(), "{}");
    server.halt();
    for _ in 0..3 {
        let started = Instant::now();
        let (code, _, word) = client.ask(kind::TASK_SUBMIT, "{}").error();
        assert_eq!((code, word.as_str()), (5, "timed_out"));
        let (code, _, _) = error_of(&serde_json::from_str(&json.ask("{}")).unwrap());
        assert_eq!(code, 5);
        let taken = started.elapsed();
        assert!((Duration::from_millis(600)..Duration::from_secs(5)).contains(&taken), "{taken:?}");
    }
    assert_eq!(gateway.metrics().of("ipc_gateway_nats_inbox_slots"), 0.0);
    server.go_on();
    crate::gateway::eventually("work goes on", || {
        client.ask(kind::TASK_SUBMIT, "{}").kind == kind::RESPONSE_OK
    });
    assert_eq!(json.ask("{}"), "{}");
    gateway.stop();
}

#[test]
fn large_tasks_do_not_pile_up_behind_their_deadlines() {
    const CLIENTS: usize = 4;
    const EACH: usize = 60;
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    outside.respond(DECIDE, |task| task);
    let gateway =
        in_front_of(&server).set("breaker.enabled=false").set("routes.decide.timeout_ms=200").gateway();
    until_connected(&gateway);
    let mut other = gateway.client();
    other.ping();
    let before = gateway.metrics();
    server.halt();
    let task = format!("{{\"pad\":\"{}\"}}", "x".repeat(1_000_000));
    let mut refused = 0;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = gateway.client();
                    let mut refused = 0;
                    for _ in 0..EACH {
                        client.write(&frame(kind::TASK_SUBMIT, &task));
                        let (code, _, word) = client.receive().error();
                        match (code, word.as_str()) {
                            (5, "timed_out") => {}
                            (99, "overloaded") => refused += 1,
                            other => panic!("{other:?}"),
                        }
                    }
                    refused
                })
            })
            .collect();
        for client in clients {
            refused += client.join().unwrap();
        }
    });
    // 240 MB were sent; two connections keep 16 MiB each, and the system some for each.
    assert!(refused > CLIENTS * EACH / 2, "{refused}");
    let during = gateway.metrics();
    let bound = 2.0 * during.of("ipc_gateway_nats_queued_bytes_max");
    let queued = during.of("ipc_gateway_nats_queued_bytes");
    assert!(queued > 0.0 && queued <= bound, "{queued} of {bound}");
    let grown = during.of("process_resident_memory_bytes") - before.of("process_resident_memory_bytes");
    assert!(grown < bound + 48_000_000.0, "{grown} bytes more");
    server.go_on();
    gateway.until("ipc_gateway_nats_queued_bytes", 0.0);
    crate::gateway::eventually("work goes on", || {
        other.ask(kind::TASK_SUBMIT, &task).kind == kind::RESPONSE_OK
    });
    gateway.until_held(&before.held());
    gateway.stop();
}

/// What the client is told of each publish is what the listener sees of it afterwards.
#[test]
fn a_publish_that_found_no_room_in_time_is_not_sent() {
    const COUNT: usize = 60;
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut heard = outside.listen("large.one");
    let gateway = in_front_of(&server).set("nats.publish_queue_bytes_max=1000000").gateway();
    until_connected(&gateway);
    let before = gateway.metrics().held();
    let mut line = gateway.json();
    server.halt();
    let pad = "x".repeat(900_000);
    let mut accepted = Vec::new();
    for id in 0..COUNT {
        let payload = format!("{{\"id\":{id},\"pad\":\"{pad}\"}}");
        let said = format!(
            "{{\"op\":\"publish\",\"id\":\"{id}\",\"subject\":\"large.one\",\"timeout_ms\":50,\"payload\":{payload}}}\n"
        );
        line.write(said);
        let told: Value = serde_json::from_str(&line.line()).unwrap();
        assert_eq!(told["id"], id.to_string(), "{told}");
        if told["op"] == "accepted" {
            accepted.push(id);
        } else {
            let error = &told["error"];
            assert_eq!(
                (&error["kind"], &error["outcome"]),
                (&json!("timed_out"), &json!("not_sent")),
                "{told}"
            );
        }
    }
    // Fewer than the listener's queue holds, and more than none.
    assert!((1..COUNT).contains(&accepted.len()), "{accepted:?}");
    server.go_on();
    line.write("{\"op\":\"publish\",\"id\":\"last\",\"subject\":\"large.one\",\"payload\":{\"id\":-1}}\n");
    let mut seen = Vec::new();
    loop {
        let message: Value = serde_json::from_slice(&heard.next().payload).unwrap();
        match usize::try_from(message["id"].as_i64().unwrap()) {
            Ok(id) => seen.push(id),
            Err(_) => break,
        }
    }
    assert_eq!(seen, accepted);
    drop(line);
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn stopping_takes_no_second() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    outside.respond(DECIDE, |task| task);
    let gateway = in_front_of(&server).set("breaker.enabled=false").gateway();
    until_connected(&gateway);
    let mut client = gateway.client();
    assert_eq!(client.ask(kind::TASK_SUBMIT, "{}").text(), "{}");
    server.halt();
    let started = Instant::now();
    gateway.stop();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    server.go_on();
}
