//! What happens when memory is short: new work is refused first, what is under way goes on, and it ends by itself.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::client::{JsonClient, frame, kind};
use crate::gateway::{Gateway, PATIENCE, Start};

/// 4 MiB for messages: half of what is left beside the process itself, and beside what the next two may keep.
const MEMORY: [&str; 3] =
    ["limits.memory_bytes_max=33558576", "idempotency.bytes_max=4096", "limits.peers_max=1"];
const LOW: &str = "limits.memory_low_percent=84";
/// All of them together are below this, and the high mark of 85 % is near.
const HEAVY_BYTES: [usize; 3] = [1_250_000, 1_250_000, 980_000];
/// As many small ones as pass it.
const SMALL: (usize, usize) = (40, 4000);

fn small() -> Start {
    let start = Gateway::with().tasks_to("demo.silent");
    MEMORY.into_iter().fold(start, Start::set).set(LOW).set("limits.payload_bytes_max=2097152")
}

fn ask(client: &mut JsonClient, document: &Value) -> Value {
    serde_json::from_str(&client.ask(document.to_string())).unwrap()
}

/// The answer to a small request.
fn echo(client: &mut JsonClient) -> Value {
    ask(client, &json!({"op": "request", "id": "e", "subject": "demo.echo", "payload": 1}))
}

/// What the HTTP door answers to whoever comes.
fn come_to_http(gateway: &Gateway) -> String {
    let mut stream = TcpStream::connect(gateway.http()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be refused before it has said anything.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn near_the_limit_new_work_is_refused_and_what_is_under_way_goes_on() {
    let gateway = small().set("embedded.tick_ms=20").set("limits.slow_start_ms=0").gateway();
    let before = gateway.metrics().held();
    let mut listener = gateway.json();
    assert_eq!(
        ask(&mut listener, &json!({"op": "subscribe", "id": 1, "subject": "demo.tick"}))["op"],
        "accepted"
    );
    let mut other = gateway.json();
    assert_eq!(ask(&mut other, &json!({"op": "subscribe", "id": 1, "subject": "quiet"}))["op"], "accepted");
    other.write(json!({"op": "request", "id": 2, "subject": "demo.silent"}).to_string());
    gateway.until("ipc_gateway_calls", 1.0);

    let task = |bytes| format!("\"{}\"", "x".repeat(bytes));
    let mut heavy = Vec::from(HEAVY_BYTES.map(|bytes| {
        assert_eq!(echo(&mut other)["op"], "reply");
        let calls = gateway.metrics().of("ipc_gateway_calls");
        let mut client = gateway.client();
        client.send(kind::TASK_SUBMIT, task(bytes));
        gateway.until("ipc_gateway_calls", calls + 1.0);
        client
    }));
    let mut many = gateway.client();
    many.write(&frame(kind::TASK_SUBMIT, task(SMALL.1)).repeat(SMALL.0));
    gateway.until("ipc_gateway_overloaded", 1.0);
    // From now on new work and new connections are refused, at once and with a time to come again.
    let refused = echo(&mut other);
    assert_eq!(
        (&refused["error"]["kind"], &refused["error"]["outcome"]),
        (&json!("overloaded"), &json!("not_sent")),
        "{refused}"
    );
    assert!(refused["error"]["retry_after_ms"].as_u64().unwrap() > 0);
    let answer = come_to_http(&gateway);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
    let metrics = gateway.metrics();
    assert_eq!(metrics.of("ipc_gateway_overloaded"), 1.0);
    assert!(metrics.of("ipc_gateway_overload_refused_total") > 1.0);
    assert_eq!(metrics.of("ipc_gateway_connections_shed_total{reason=\"memory\"}"), 1.0);
    let bytes = |name| metrics.of(&format!("ipc_gateway_memory_{name}_bytes"));
    // What connections cost is not there for messages.
    let gone = |name| bytes(name) + bytes("connections");
    assert!(gone("used") > bytes("low") && gone("peak") >= bytes("high") && gone("peak") < bytes("max"));
    // What is under way goes on, and what takes work back is heard.
    for _ in 0..3 {
        let tick: Value = serde_json::from_str(&listener.line()).unwrap();
        assert_eq!(tick["op"], "delivery", "{tick}");
    }
    assert_eq!(ask(&mut other, &json!({"op": "unsubscribe", "id": 1}))["op"], "end");
    assert_eq!(ask(&mut other, &json!({"op": "cancel", "id": 2}))["error"]["kind"], "cancelled");

    // With one of them gone it is below the low mark.
    drop(heavy.remove(0));
    gateway.until("ipc_gateway_overloaded", 0.0);
    assert_eq!(echo(&mut other)["op"], "reply");
    drop((listener, other, heavy, many));
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn connections_that_say_nothing_are_bounded_and_make_room_when_they_speak() {
    let gateway = Gateway::with().set("limits.handshakes_max=3").gateway();
    let connect = || TcpStream::connect(gateway.http()).unwrap();
    let mut silent = [connect(), connect(), connect()];
    gateway.until("ipc_gateway_handshakes", 3.0);
    let answer = come_to_http(&gateway);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
    // Whose peer is known keeps nobody waiting, and is not kept out.
    assert_eq!(echo(&mut gateway.json())["op"], "reply");
    assert_eq!(gateway.metrics().of("ipc_gateway_connections_shed_total{reason=\"handshakes\"}"), 1.0);
    // One says what it wants, and stays.
    silent[0].set_read_timeout(Some(PATIENCE)).unwrap();
    silent[0].write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(silent[0].read(&mut [0; 64]).unwrap() > 0);
    gateway.until("ipc_gateway_handshakes", 2.0);
    assert!(come_to_http(&gateway).starts_with("HTTP/1.1 200 "));
    drop(silent);
    gateway.until("ipc_gateway_handshakes", 0.0);
    gateway.stop();
}
