//! Version 1 over a real socket: every sentence and every row of the protocol's document is a test named after
//! it, with the exact numbers and messages.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, FRAME_BYTES_MAX, Frame, HEADER_BYTES, frame, kind};
use crate::gateway::Gateway;

/// A gateway whose tasks come back as they are.
fn echoing() -> Gateway {
    Gateway::with().tasks_to("demo.echo").gateway()
}

/// The error that a client gets for these bytes, after which the gateway closes.
fn last_words(gateway: &Gateway, bytes: &[u8]) -> (u64, String, String) {
    let mut client = gateway.client();
    client.write(bytes);
    let error = client.receive().error();
    client.expect_closed();
    error
}

fn owned(code: u64, message: &str, kind: &str) -> (u64, String, String) {
    (code, message.to_owned(), kind.to_owned())
}

// The behaviour list.

#[test]
fn replies_leave_in_the_order_of_the_requests_though_worked_on_at_the_same_time() {
    let gateway = Gateway::with().tasks_to("demo.slow").gateway();
    let mut client = gateway.client();
    // Later requests are done first; one after the other they would take 12 seconds.
    let waits: Vec<u64> = (1..=20).rev().map(|step| step * 57).collect();
    let began = Instant::now();
    let bytes: Vec<u8> = waits.iter().flat_map(|wait| frame(kind::TASK_SUBMIT, wait.to_string())).collect();
    client.write(&bytes);
    for wait in &waits {
        assert_eq!(client.receive().json(), json!({"demo": true, "waited_ms": wait}));
    }
    let one_after_the_other = Duration::from_millis(waits.iter().sum());
    assert!(began.elapsed() < one_after_the_other, "{:?}", began.elapsed());
    gateway.stop();
}

#[test]
fn a_ping_is_answered_by_six_bytes_in_one_piece() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    for _ in 0..500 {
        client.send(kind::PING, "");
        assert_eq!(client.read_once(), [0, 0, 0, 6, 1, 0xF1]);
    }
    gateway.stop();
}

#[test]
fn a_ping_involves_no_backend() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    client.ping();
    let text = gateway.page("/metrics").1;
    assert!(!text.lines().any(|line| line.starts_with("ipc_gateway_requests_total{")), "{text}");
    gateway.stop();
}

#[test]
fn a_ping_may_have_any_payload_of_any_legal_size() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    client.ping();
    let before = gateway.metrics().held();
    let every_byte: Vec<u8> = (0..=255).collect();
    let largest = vec![0xFF; FRAME_BYTES_MAX - HEADER_BYTES];
    for payload in [&b"\xC3\x28 not UTF-8"[..], b"{not JSON", &every_byte, &largest, &largest[1..]] {
        std::thread::scope(|scope| {
            client.write_aside(scope, frame(kind::PING, payload));
            assert_eq!(client.receive(), Frame { kind: kind::PONG, payload: Vec::new() });
        });
    }
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn capabilities_are_json_and_name_every_type_that_works() {
    let gateway = Gateway::with().set("embedded.tick_ms=20").gateway();
    let mut client = gateway.client();
    let reply = client.ask(kind::CAPABILITIES, "");
    assert_eq!(reply.kind, kind::RESPONSE_OK);
    let body = reply.json();
    assert_eq!(body["protocol_version"], "1.0");
    assert_eq!(body["supported_versions"], json!([1, 2]));
    assert_eq!(body["max_payload_size"], 4_194_298);
    assert!(body["features"].as_array().unwrap().iter().all(Value::is_string), "{body}");
    let types: Vec<u64> = body["supported_message_types"]
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_u64().expect("types are decimal numbers"))
        .collect();
    assert_eq!(types, [1, 2, 3, 4, 5, 6, 7, 16, 17, 240, 241, 242]);
    // Each that a client may send is not answered "unknown type".
    for (kind, payload) in [
        (kind::TASK_SUBMIT, "{}"),
        (kind::TASK_QUERY, "{}"),
        (kind::TASK_CANCEL, "{}"),
        (kind::STREAM_SUBSCRIBE, r#"{"subject":"nobody.publishes.here"}"#),
    ] {
        assert_eq!(client.ask(kind, payload).kind, kind::RESPONSE_OK, "{kind:#04x}");
    }
    gateway.stop();
}

#[test]
fn each_old_task_type_goes_to_the_route_of_that_type() {
    let start = Gateway::with()
        .set("routes.decide.message_types=task_submit")
        .set("routes.ask.message_types=task_query")
        .set("routes.ask.subject=demo.echo")
        .set("routes.stop.message_types=task_cancel")
        .set("routes.stop.subject=demo.fail");
    let gateway = start.gateway();
    let mut client = gateway.client();
    let task = r#"{"task_id":"t7"}"#;
    assert_eq!(client.ask(kind::TASK_SUBMIT, task).json()["context"]["request_id"], "t7");
    assert_eq!(client.ask(kind::TASK_QUERY, task).text(), task);
    assert_eq!(client.ask(kind::TASK_CANCEL, task).json()["error"]["code"], "demo_failure");
    gateway.stop();
}

#[test]
fn the_reply_of_the_backend_comes_byte_for_byte() {
    let gateway = echoing();
    let mut client = gateway.client();
    for body in ["{ \"b\" : 1.0e+2 ,\n\t\"a\":\"\\u00e4ä\", \"b\":null}\r\n", "[ 1,2 ]", "7", "\"text\""] {
        let reply = client.ask(kind::TASK_SUBMIT, body);
        assert_eq!((reply.kind, reply.text()), (kind::RESPONSE_OK, body));
    }
    gateway.stop();
}

#[test]
fn a_reply_that_says_no_is_ok_byte_for_byte_unless_a_setting_makes_it_an_error() {
    let no = r#"{"ok":false,"demo":true,"error":{"code":"demo_failure","message":"demo.fail always fails"}}"#;
    let start = Gateway::with().tasks_to("demo.fail");
    let gateway = start.clone().gateway();
    let reply = gateway.client().ask(kind::TASK_SUBMIT, "{}");
    assert_eq!((reply.kind, reply.text()), (kind::RESPONSE_OK, no));
    gateway.stop();

    let gateway = start.set("ipc.failed_as_error=true").gateway();
    let reply = gateway.client().ask(kind::TASK_SUBMIT, "{}");
    let (code, _, word) = reply.error();
    assert_eq!((code, word.as_str()), (99, "failed"));
    assert_eq!(reply.json()["error"]["body"], serde_json::from_str::<Value>(no).unwrap());
    gateway.stop();
}

#[test]
fn no_field_of_the_json_is_required_by_the_door() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    for task in ["{}", "[]", "null", "0", r#"{"unexpected":[{}]}"#] {
        let reply = client.ask(kind::TASK_SUBMIT, task);
        assert_eq!((reply.kind, &reply.json()["ok"]), (kind::RESPONSE_OK, &Value::Bool(true)), "{task}");
    }
    gateway.stop();
}

#[test]
fn the_largest_task_comes_back_whole() {
    let gateway = echoing();
    let mut client = gateway.client();
    client.ping();
    let before = gateway.metrics().held();
    let payload = format!("\"{}\"", "x".repeat(FRAME_BYTES_MAX - HEADER_BYTES - 2));
    std::thread::scope(|scope| {
        client.write_aside(scope, frame(kind::TASK_SUBMIT, &payload));
        let reply = client.receive();
        assert!(reply.kind == kind::RESPONSE_OK && reply.payload == payload.as_bytes(), "{reply:?}");
    });
    gateway.until_held(&before);
    gateway.stop();
}

// The table, a row a test.

#[test]
fn a_length_over_4_mib_is_error_3_then_close_and_nothing_is_allocated_for_it() {
    let gateway = Gateway::start();
    for length in [4_194_305_u32, 0x00FF_FFFF, 0x0100_0000, 0x7FFF_FFFF, 0xFFFF_FFFF] {
        let header = [&length.to_be_bytes()[..], &[1, kind::TASK_SUBMIT]].concat();
        let (code, message, word) = last_words(&gateway, &header);
        assert_eq!((code, word.as_str()), (3, "too_large"), "{length}");
        assert!(message.starts_with("Frame too large"), "{message}");
    }
    gateway.until("ipc_gateway_memory_used_bytes", 0.0);
    let resident = gateway.metrics().of("process_resident_memory_bytes");
    assert!(resident < 256.0 * 1024.0 * 1024.0, "{resident}");
    gateway.stop();
}

#[test]
fn the_length_alone_is_judged_before_the_rest_of_the_header_comes() {
    let gateway = Gateway::start();
    assert_eq!(last_words(&gateway, &4_194_305_u32.to_be_bytes()).0, 3);
    assert_eq!(last_words(&gateway, &5_u32.to_be_bytes()).0, 4);
    gateway.stop();
}

#[test]
fn a_length_of_0_to_5_is_error_4_then_close() {
    let gateway = Gateway::start();
    for length in 0..6 {
        let error = last_words(&gateway, &[0, 0, 0, length, 1, kind::PING]);
        assert_eq!(error, owned(4, "Invalid payload", "malformed"), "{length}");
    }
    gateway.stop();
}

#[test]
fn a_version_not_supported_is_error_1_then_close() {
    let gateway = Gateway::start();
    for version in [0, 3, 0x7F, 0xFF] {
        let error = last_words(&gateway, &[0, 0, 0, 6, version, kind::PING]);
        assert_eq!(error, owned(1, "Unsupported protocol version", "unsupported"), "{version}");
    }
    // The first frame fixes the version; another later is as bad.
    let mut client = gateway.client();
    client.ping();
    client.write(&[0, 0, 0, 6, 2, kind::PING]);
    assert_eq!(client.receive().error().0, 1);
    client.expect_closed();
    gateway.stop();
}

#[test]
fn what_came_before_a_broken_frame_is_answered_first() {
    let gateway = Gateway::with().tasks_to("demo.slow").gateway();
    let mut client = gateway.client();
    client
        .write(&[&frame(kind::TASK_SUBMIT, "50")[..], &[0, 0, 0, 0, 1, 1], &frame(kind::PING, "")].concat());
    assert_eq!(client.receive().json()["waited_ms"], 50);
    assert_eq!(client.receive().error().0, 4);
    client.expect_closed();
    gateway.stop();
}

#[test]
fn an_unknown_type_or_a_reply_type_is_error_2_and_the_connection_stays_open() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    for kind in [0x00, 0x05, 0x06, 0x07, 0x08, 0x0F, 0x10, 0x11, 0x12, 0x7F, 0xEF, 0xF1, 0xF3, 0xFF] {
        for payload in ["", "{}"] {
            let error = client.ask(kind, payload).error();
            assert_eq!(error, owned(2, "Unknown message type", "unsupported"), "{kind:#04x}");
        }
    }
    client.ping();
    gateway.stop();
}

#[test]
fn a_task_whose_payload_is_not_json_or_not_utf_8_is_error_4_and_the_connection_stays_open() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    for kind in [kind::TASK_SUBMIT, kind::TASK_QUERY, kind::TASK_CANCEL] {
        for bad in [
            &b"{"[..],
            b"hello",
            b"{\"a\":1}}",
            b"{\"a\":1} {\"b\":2}",
            b"{'a':1}",
            b"{\"a\":\"\xC3\x28\"}",
            b"\xFF\xFE",
            b"\0",
            b" ",
        ] {
            let (code, message, word) = client.ask(kind, bad).error();
            assert_eq!((code, word.as_str()), (4, "malformed"), "{bad:?}");
            assert!(message.starts_with("Invalid payload"), "{message}");
        }
    }
    client.ping();
    gateway.stop();
}

#[test]
fn a_task_with_empty_payload_is_as_an_empty_object() {
    let gateway = echoing();
    let mut client = gateway.client();
    for kind in [kind::TASK_SUBMIT, kind::TASK_QUERY, kind::TASK_CANCEL] {
        assert_eq!(client.ask(kind, "").text(), "{}");
    }
    gateway.stop();
}

#[test]
fn no_answer_within_the_deadline_is_error_5() {
    let gateway = Gateway::with().tasks_to("demo.silent").set("routes.decide.timeout_ms=100").gateway();
    let mut client = gateway.client();
    let reply = client.ask(kind::TASK_SUBMIT, "{}");
    assert_eq!(reply.error(), owned(5, "no answer within the deadline", "timed_out"));
    // It was sent: nobody knows whether it happened.
    assert_eq!(reply.json()["error"]["outcome"], "unknown");
    client.ping();
    gateway.until("ipc_gateway_calls", 0.0);
    gateway.stop();
}

#[test]
fn a_subject_that_nobody_answers_is_error_99_at_once() {
    let gateway = Gateway::with().tasks_to("nobody.listens.here").gateway();
    let reply = gateway.client().ask(kind::TASK_SUBMIT, "{}");
    let (code, _, word) = reply.error();
    assert_eq!((code, word.as_str()), (99, "no_responders"));
    assert_eq!(reply.json()["error"]["outcome"], "not_sent");
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_unreachable_is_error_99_and_not_ready() {
    use ipc_gateway::app::Gateway;
    use ipc_gateway::backend::Backend as _;
    use ipc_gateway::backend::embedded::{Embedded, Settings};

    // A backend that is closed is unreachable for ever, without a server to stop.
    let place = tempfile::tempdir().unwrap();
    let mut config = ipc_gateway::config::Config::default();
    config.ipc.path = place.path().join("s");
    config.admin.address.set_port(0);
    let backend = Embedded::open(Settings::default());
    backend.close().await;
    let gateway = Gateway::start_with(config.clone(), backend).await.unwrap();
    let asked = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(&config.ipc.path);
        let reply = client.ask(kind::TASK_SUBMIT, "{}");
        client.ping();
        reply
    });
    let reply = asked.await.unwrap();
    let (code, _, word) = reply.error();
    assert_eq!((code, word.as_str()), (99, "unavailable"));
    assert_eq!(reply.json()["error"]["outcome"], "not_sent");
    assert_eq!(gateway.stop(Duration::from_secs(5)).await, 0);
}

#[test]
fn half_a_frame_then_silence_is_closed_after_the_read_deadline_and_the_slot_is_free_again() {
    let deadlines = Gateway::with().set("ipc.header_timeout_ms=100").set("ipc.body_timeout_ms=100");
    let gateway = deadlines.set("ipc.connections_max=1").gateway();
    let whole = frame(kind::TASK_SUBMIT, vec![b' '; 10_000]);
    // Within the header, after it, within a body that fits the read buffer and within one that does not.
    for half in [1, 3, 5, 6, 7, 500, 5000, 9_999] {
        let mut client = gateway.client();
        let before = Instant::now();
        client.write(&whole[..half]);
        let (code, _, word) = client.receive().error();
        assert_eq!((code, word.as_str()), (5, "timed_out"), "{half}");
        assert!(before.elapsed() >= Duration::from_millis(100), "{:?}", before.elapsed());
        client.expect_closed();
        gateway.until("ipc_gateway_door_connections{door=\"unix\"}", 0.0);
        gateway.client().ping();
        gateway.until("ipc_gateway_door_connections{door=\"unix\"}", 0.0);
    }
    gateway.stop();
}

#[test]
fn a_header_that_comes_byte_by_byte_does_not_win_more_time_and_others_are_unaffected() {
    let gateway = Gateway::with().set("ipc.header_timeout_ms=300").gateway();
    let (mut slow, mut other) = (gateway.client(), gateway.client());
    // The slowness is what is tested: each byte comes in time, the header does not.
    for byte in [0, 0, 0, 6, 1] {
        if !slow.try_write(&[byte]) {
            break;
        }
        other.ping();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(slow.receive().error().2, "timed_out");
    slow.expect_closed();
    other.ping();
    gateway.stop();
}

#[test]
fn a_body_that_never_comes_is_charged_for_what_came_and_closed() {
    let gateway = Gateway::with().set("ipc.body_timeout_ms=1000").gateway();
    let mut client = gateway.client();
    let header = [&4_194_304_u32.to_be_bytes()[..], &[1, kind::TASK_SUBMIT]].concat();
    client.write(&[&header[..], &[b' '; 1000]].concat());
    gateway.until("ipc_gateway_door_received_bytes_total{door=\"unix\"}", 1006.0);
    let used = gateway.metrics().of("ipc_gateway_memory_used_bytes");
    assert!(used <= 128.0 * 1024.0, "{used} bytes are charged for 1,000");
    assert_eq!(client.receive().error().2, "timed_out");
    client.expect_closed();
    gateway.until("ipc_gateway_memory_used_bytes", 0.0);
    gateway.stop();
}

#[test]
fn a_frame_split_at_every_byte_is_understood_as_a_whole_one() {
    let gateway = echoing();
    let mut client = gateway.client();
    let capabilities = client.ask(kind::CAPABILITIES, "");
    let frames = [
        frame(kind::PING, "any"),
        frame(kind::TASK_SUBMIT, r#"{"a":"ä"}"#),
        frame(0x42, "??"),
        frame(kind::TASK_QUERY, ""),
        frame(kind::CAPABILITIES, ""),
        frame(kind::TASK_SUBMIT, "{bad"),
    ]
    .concat();
    let mut received = gateway.metrics().door("received_bytes_total");
    // The rest is written only when the gateway has read what comes before the cut.
    for cut in 1..frames.len() {
        client.write(&frames[..cut]);
        received += f64::from(u32::try_from(cut).unwrap());
        gateway.until("ipc_gateway_door_received_bytes_total{door=\"unix\"}", received);
        client.write(&frames[cut..]);
        received += f64::from(u32::try_from(frames.len() - cut).unwrap());
        assert_eq!(client.receive().kind, kind::PONG, "cut at {cut}");
        assert_eq!(client.receive().text(), r#"{"a":"ä"}"#, "cut at {cut}");
        assert_eq!(client.receive().error().0, 2, "cut at {cut}");
        assert_eq!(client.receive().text(), "{}", "cut at {cut}");
        assert_eq!(client.receive(), capabilities, "cut at {cut}");
        assert_eq!(client.receive().error().0, 4, "cut at {cut}");
    }
    gateway.stop();
}

#[test]
fn a_peer_that_ends_its_input_still_gets_its_replies_and_then_the_end() {
    let gateway = Gateway::with().tasks_to("demo.slow").gateway();
    let mut client = gateway.client();
    for wait in ["200", "100", "0"] {
        client.send(kind::TASK_SUBMIT, wait);
    }
    client.finish();
    for wait in [200, 100, 0] {
        assert_eq!(client.receive().json()["waited_ms"], wait);
    }
    client.expect_closed();
    gateway.stop();
}
