//! What services on NATS answer, and in which order they are asked.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::{Frame, kind};
use crate::gateway::PATIENCE;
use crate::nats_server::NatsServer;
use crate::outside::{DECIDE, Outside, in_front_of, until_connected};

/// With its headers just below the 1 MiB that a server takes by default.
const LARGE_BYTES: usize = 1_040_000;

/// Bytes of every value, of no encoding.
fn binary(bytes: usize) -> Vec<u8> {
    (0..=u8::MAX).rev().cycle().take(bytes).collect()
}

#[test]
fn clients_of_version_1_and_of_raw_json_get_the_responders_bytes_unchanged() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    // The answer is named by the task; what is not named comes back as it went.
    outside.respond(DECIDE, |task| match &task[..] {
        br#"{"want":"nothing"}"# => "".into(),
        br#"{"want":"binary"}"# => binary(1000).into(),
        br#"{"want":"much"}"# => binary(LARGE_BYTES).into(),
        br#"{"want":"odd"}"# => r#" {"b" : 1.0,"a":"\u00e9", "a":null}"#.into(),
        _ => task,
    });
    let gateway = in_front_of(&server).gateway();
    until_connected(&gateway);
    let mut client = gateway.client();
    let much = format!("{{\"pad\":\"{}\"}}", "x".repeat(LARGE_BYTES - 10));
    let cases: [(&str, Vec<u8>); 6] = [
        (r#"{"want":"nothing"}"#, Vec::new()),
        (r#"{"want":"binary"}"#, binary(1000)),
        (r#"{"want":"much"}"#, binary(LARGE_BYTES)),
        (r#"{"want":"odd"}"#, br#" {"b" : 1.0,"a":"\u00e9", "a":null}"#.to_vec()),
        ("", b"{}".to_vec()),
        (&much, much.clone().into_bytes()),
    ];
    for (task, payload) in cases {
        let reply = client.ask(kind::TASK_SUBMIT, task);
        assert!(reply == Frame { kind: kind::RESPONSE_OK, payload }, "{:?}: {reply:?}", task.get(..40));
    }
    let mut client = gateway.json();
    assert_eq!(client.ask(r#"{"want":"odd"}"#), r#" {"b" : 1.0,"a":"\u00e9", "a":null}"#);
    assert!(client.ask(&much) == much);
    for (task, bytes) in [(r#"{"want":"binary"}"#, 1000), (r#"{"want":"much"}"#, LARGE_BYTES)] {
        let reply: Value = serde_json::from_str(&client.ask(task)).unwrap();
        assert!(reply == json!({"ok": true, "payload_base64": STANDARD.encode(binary(bytes))}), "{task}");
    }
    gateway.stop();
}

#[test]
fn where_nobody_listens_the_answer_comes_at_once() {
    let server = NatsServer::start("");
    let gateway = in_front_of(&server).set("breaker.enabled=false").gateway();
    until_connected(&gateway);
    let mut client = gateway.client();
    let started = Instant::now();
    for _ in 0..100 {
        let (code, _, word) = client.ask(kind::TASK_SUBMIT, "{}").error();
        assert_eq!((code, word.as_str()), (99, "no_responders"));
    }
    // The deadline is thirty seconds; a hundred round trips are not one.
    assert!(started.elapsed() < PATIENCE / 3, "{:?}", started.elapsed());
    gateway.stop();
}

#[test]
fn ten_thousand_publishes_of_one_client_arrive_in_order() {
    const PUBLISHES: usize = 10_000;
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut heard = outside.listen("ordered");
    let gateway = in_front_of(&server).gateway();
    until_connected(&gateway);
    let (mut writer, before) = (gateway.json(), gateway.metrics().held());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..PUBLISHES {
                let publish = json!({"op": "publish", "id": number.to_string(), "subject": "ordered", "payload": number});
                writer.write(publish.to_string() + "\n");
            }
            for _ in 0..PUBLISHES {
                let reply: Value = serde_json::from_str(&writer.line()).unwrap();
                assert_eq!(reply["op"], "accepted", "{reply}");
            }
        });
        for due in 0..PUBLISHES {
            assert_eq!(heard.next().payload, due.to_string());
        }
    });
    assert_eq!(gateway.metrics().of("ipc_gateway_nats_published_total"), 10_000.0);
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn a_thousand_late_replies_are_counted_and_nobody_is_answered_twice() {
    const CLIENTS: usize = 4;
    const EACH: usize = 250;
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut requests = outside.listen(DECIDE);
    let gateway = in_front_of(&server).set("routes.decide.timeout_ms=1000").gateway();
    until_connected(&gateway);
    let before = gateway.metrics().held();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| gateway.client()).collect();
    for client in &mut clients {
        for number in 0..EACH {
            client.send(kind::TASK_SUBMIT, number.to_string());
        }
    }
    for client in &mut clients {
        for _ in 0..EACH {
            let (code, _, word) = client.receive().error();
            assert_eq!((code, word.as_str()), (5, "timed_out"));
        }
    }
    assert_eq!(gateway.metrics().of("ipc_gateway_nats_inbox_slots"), 0.0);
    for _ in 0..CLIENTS * EACH {
        let request = requests.next();
        requests.answer(&request, "late");
    }
    requests.flush();
    gateway.until("ipc_gateway_nats_late_replies_total", 1000.0);
    // The next thing that each client hears is the answer to what it asks next.
    clients.iter_mut().for_each(crate::client::Client::ping);
    let metrics = gateway.metrics();
    for none in ["inbox_slots", "in_flight", "double_replies_total", "foreign_replies_total"] {
        assert_eq!(metrics.of(&format!("ipc_gateway_nats_{none}")), 0.0, "{none}");
    }
    drop(clients);
    gateway.until_held(&before);
    gateway.stop();
}
