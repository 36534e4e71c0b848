//! Much at once, and peers that misbehave under it: everything is answered, and afterwards the gateway holds what
//! it held before.

use crate::client::{Client, Frame, error_of, frame, kind};
use crate::gateway::{Gateway, eventually};

/// A task that can be told from the others, of about `bytes` bytes.
fn numbered(number: usize, bytes: usize) -> String {
    format!("{{\"n\":{number},\"pad\":\"{}\"}}", "x".repeat(bytes))
}

/// What a frame of the mix is answered.
enum Expected {
    Frame(Frame),
    Error(u64),
}

#[test]
fn six_hundred_mixed_frames_written_at_once_come_back_in_order() {
    let gateway = Gateway::with().tasks_to("demo.echo").gateway();
    let mut client = gateway.client();
    let capabilities = client.ask(kind::CAPABILITIES, "");
    let ok = |payload: &str| Expected::Frame(Frame { kind: kind::RESPONSE_OK, payload: payload.into() });
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for number in 0..600 {
        let task = numbered(number, number * 7);
        let (kind, payload, answer) = match number % 10 {
            0 | 5 => (kind::TASK_SUBMIT, task.as_str(), ok(&task)),
            1 => (kind::TASK_QUERY, task.as_str(), ok(&task)),
            2 => (kind::TASK_CANCEL, task.as_str(), ok(&task)),
            3 => (kind::PING, "", Expected::Frame(Frame { kind: kind::PONG, payload: Vec::new() })),
            4 => {
                (kind::PING, task.as_str(), Expected::Frame(Frame { kind: kind::PONG, payload: Vec::new() }))
            }
            6 => (kind::CAPABILITIES, "", Expected::Frame(capabilities.clone())),
            7 => (0x42, task.as_str(), Expected::Error(2)),
            8 => (kind::TASK_SUBMIT, "", ok("{}")),
            _ => (kind::TASK_SUBMIT, "{bad", Expected::Error(4)),
        };
        bytes.extend(frame(kind, payload));
        expected.push(answer);
    }
    let before = gateway.metrics().held();
    std::thread::scope(|scope| {
        client.write_aside(scope, bytes);
        for (number, expected) in expected.iter().enumerate() {
            let reply = client.receive();
            match expected {
                Expected::Frame(frame) => assert!(reply == *frame, "{number}: {reply:?}"),
                Expected::Error(code) => assert_eq!(reply.error().0, *code, "{number}"),
            }
        }
    });
    client.ping();
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn a_peer_that_vanishes_with_100_requests_in_flight_has_them_cancelled_and_nobody_else_notices() {
    let gateway = Gateway::with().tasks_to("demo.silent").gateway();
    let mut other = gateway.client();
    other.ping();
    let before = gateway.metrics().held();
    let mut client = gateway.client();
    // Half a frame at the end is held, too.
    let tasks: Vec<u8> =
        (0..100).flat_map(|number| frame(kind::TASK_SUBMIT, numbered(number, 5000))).collect();
    client.write(&[&tasks[..], &frame(kind::TASK_SUBMIT, vec![b' '; 3000])[..1000]].concat());
    gateway.until("ipc_gateway_calls", 100.0);
    gateway.until("ipc_gateway_door_in_flight{door=\"unix\"}", 100.0);
    assert!(gateway.metrics().of("ipc_gateway_memory_used_bytes") >= 500_000.0);
    drop(client);
    gateway.until_held(&before);
    let metrics = gateway.metrics();
    assert_eq!(metrics.door("vanished_total"), 1.0);
    let ended = |outcome: &str| {
        let labels = format!("operation=\"request\",outcome=\"{outcome}\",route=\"decide\"");
        metrics.of(&format!("ipc_gateway_requests_total{{{labels}}}"))
    };
    assert_eq!((ended("cancelled"), ended("ok"), ended("timed_out")), (100.0, 0.0, 0.0));
    let in_flight = "ipc_gateway_requests_in_flight{operation=\"request\",route=\"decide\"}";
    assert_eq!(metrics.of(in_flight), 0.0);
    other.ping();
    gateway.stop();
}

#[test]
fn a_peer_that_vanishes_while_it_is_not_read_from_is_noticed_too() {
    let gateway = Gateway::with().tasks_to("demo.silent").set("ipc.in_flight_max=10").gateway();
    let before = gateway.metrics().held();
    let mut client = gateway.client();
    for number in 0..20 {
        client.send(kind::TASK_SUBMIT, numbered(number, 100));
    }
    gateway.until("ipc_gateway_calls", 10.0);
    drop(client);
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn a_peer_that_does_not_read_costs_bounded_memory_and_loses_nothing() {
    const TASKS: usize = 2000;
    const TASK_BYTES: usize = 16 * 1024;
    let gateway = Gateway::with()
        .tasks_to("demo.echo")
        .set("ipc.write_queue_bytes_max=1048576")
        .set("ipc.in_flight_max=64")
        .gateway();
    let before = gateway.metrics().held();
    let (mut client, mut other) = (gateway.client(), gateway.client());
    let tasks: Vec<u8> =
        (0..TASKS).flat_map(|number| frame(kind::TASK_SUBMIT, numbered(number, TASK_BYTES))).collect();
    let sent = tasks.len();
    std::thread::scope(|scope| {
        client.write_aside(scope, tasks);
        let mut received = 0.0;
        let mut still = 0;
        // It has stopped reading when twenty looks in a row see the same; a gateway that never stops reads all.
        eventually("reading stops", || {
            other.ping();
            let metrics = gateway.metrics();
            let used = metrics.of("ipc_gateway_memory_used_bytes");
            assert!(used <= 3.0 * 1024.0 * 1024.0, "{used} bytes are held for a peer that does not read");
            let now = metrics.door("received_bytes_total") - 6.0;
            still = if now - received < 100.0 { still + 1 } else { 0 };
            received = now;
            still >= 20
        });
        assert!(received < sent as f64 / 2.0, "{received} of {sent} bytes were read");
        for number in 0..TASKS {
            let reply = client.receive();
            let whole = reply.payload == numbered(number, TASK_BYTES).as_bytes();
            assert!(reply.kind == kind::RESPONSE_OK && whole, "{number}: {reply:?}");
        }
    });
    client.ping();
    drop((client, other));
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_and_its_memory_is_for_others() {
    const TASKS: usize = 64;
    const TASK_BYTES: usize = 256 * 1024;
    let gateway = Gateway::with()
        .tasks_to("demo.echo")
        .set("ipc.write_timeout_ms=100")
        .set("limits.memory_bytes_max=41947184")
        .set("idempotency.bytes_max=4096")
        .set("limits.peers_max=1")
        .gateway();
    let mut client = gateway.client();
    let tasks = frame(kind::TASK_SUBMIT, numbered(1, TASK_BYTES)).repeat(TASKS);
    assert!(!client.try_write(&tasks), "it is closed on before it has said all");
    gateway.until("ipc_gateway_door_connections{door=\"unix\"}", 0.0);
    for gauge in ["calls", "memory_used_bytes", "overloaded"] {
        gateway.until(&format!("ipc_gateway_{gauge}"), 0.0);
    }
    gateway.client().ping();
    gateway.stop();
}

#[test]
fn a_peer_that_does_not_read_does_not_hold_the_replies_of_others() {
    let gateway = Gateway::with().tasks_to("demo.echo").gateway();
    let mut deaf = gateway.client();
    let task = numbered(1, 3_000_000);
    std::thread::scope(|scope| {
        deaf.write_aside(scope, frame(kind::TASK_SUBMIT, &task));
        gateway
            .until("ipc_gateway_requests_total{operation=\"request\",outcome=\"ok\",route=\"decide\"}", 1.0);
        let mut other = gateway.client();
        for number in 0..100 {
            assert_eq!(other.ask(kind::TASK_SUBMIT, numbered(number, 100)).text(), numbered(number, 100));
        }
        assert!(deaf.receive().payload == task.as_bytes());
    });
    gateway.stop();
}

#[test]
fn a_thousand_connections_at_once_are_all_answered_and_their_descriptors_come_back() {
    let gateway = Gateway::with().tasks_to("demo.echo").gateway();
    let before = gateway.metrics().held();
    let mut clients: Vec<Client> = (0..1000).map(|_| gateway.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(kind::TASK_SUBMIT, numbered(number, 50));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.receive().text(), numbered(number, 50));
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.door("connections"), 1000.0);
    assert!(metrics.of("process_open_fds") > 1000.0);
    // An idle connection holds no buffer. One that has just answered looks once more whether there is something.
    gateway.until("ipc_gateway_door_buffers_lent{door=\"unix\"}", 0.0);
    drop(clients);
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn a_connection_over_the_cap_is_told_and_closed_and_its_place_comes_back() {
    let gateway = Gateway::with().set("ipc.connections_max=2").gateway();
    let (mut first, mut second) = (gateway.client(), gateway.client());
    first.ping();
    second.ping();
    let mut third = gateway.client();
    let (code, message, word) = third.receive().error();
    assert_eq!(
        (code, message.as_str(), word.as_str()),
        (99, "too many connections; try again later", "overloaded")
    );
    third.expect_closed();
    first.ping();
    assert_eq!(gateway.metrics().door("connections_refused_total"), 1.0);
    drop(second);
    gateway.until("ipc_gateway_door_connections{door=\"unix\"}", 1.0);
    gateway.client().ping();
    gateway.stop();
}

#[test]
fn over_the_permits_is_refused_at_once_and_never_queued() {
    let gateway = Gateway::with().tasks_to("demo.slow").set("limits.calls_max=3").gateway();
    let mut client = gateway.client();
    let tasks: Vec<u8> =
        ["400", "400", "400", "0", "0"].iter().flat_map(|wait| frame(kind::TASK_SUBMIT, wait)).collect();
    client.write(&tasks);
    for _ in 0..3 {
        assert_eq!(client.receive().json()["waited_ms"], 400);
    }
    for _ in 0..2 {
        let reply = client.receive();
        let (code, _, word) = error_of(&reply.json());
        assert_eq!((code, word.as_str()), (99, "overloaded"));
        assert_eq!(reply.json()["error"]["outcome"], "not_sent");
    }
    gateway.until("ipc_gateway_calls", 0.0);
    gateway.stop();
}

#[test]
fn payloads_over_the_memory_budget_are_refused_and_the_connection_stays() {
    let gateway = Gateway::with()
        .tasks_to("demo.silent")
        // Half of what is above 24 MiB, and beside the next two.
        .set("limits.memory_bytes_max=27267120")
        .set("idempotency.bytes_max=4096")
        .set("limits.peers_max=1")
        .set("limits.payload_bytes_max=1048576")
        .gateway();
    let before = gateway.metrics().held();
    let mut client = gateway.client();
    client.send(kind::TASK_SUBMIT, numbered(1, 700_000));
    gateway.until("ipc_gateway_calls", 1.0);
    let mut other = gateway.client();
    let (code, _, word) = other.ask(kind::TASK_SUBMIT, numbered(2, 700_000)).error();
    assert_eq!((code, word.as_str()), (99, "overloaded"));
    other.ping();
    drop((client, other));
    gateway.until_held(&before);
    gateway.stop();
}
