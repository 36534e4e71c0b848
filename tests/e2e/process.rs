//! The process: how it stops, what it leaves, whom it lets in, and what its operator sees of it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::client::{Client, kind};
use crate::gateway::{Gateway, eventually};

/// What "at once" may take on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn sigterm_and_sigint_end_it_well_in_under_a_second_though_idle_clients_are_connected() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = Gateway::start();
        let mut idle: Vec<Client> = (0..50).map(|_| gateway.client()).collect();
        for client in &mut idle {
            client.ping();
        }
        let began = Instant::now();
        gateway.signal(signal);
        let status = gateway.wait();
        assert!(status.success(), "{signal:?}: {status}");
        assert!(began.elapsed() < AT_ONCE, "{signal:?}: {:?}", began.elapsed());
        for client in &mut idle {
            client.expect_closed();
        }
        assert!(!gateway.socket().exists());
    }
}

#[test]
fn what_is_in_flight_finishes_within_the_grace() {
    let mut gateway = Gateway::with().tasks_to("demo.slow").gateway();
    let mut client = gateway.client();
    client.send(kind::TASK_SUBMIT, "700");
    client.send(kind::TASK_SUBMIT, "600");
    gateway.until("ipc_gateway_calls", 2.0);
    gateway.signal(Signal::TERM);
    eventually("it is not ready", || {
        let (status, body) = gateway.ready();
        let draining = body["draining"] == true;
        assert_eq!(status, if draining { 503 } else { 200 }, "{body}");
        draining
    });
    // Nobody new is let in, and the place is free for the next gateway.
    eventually("the socket is gone", || !gateway.socket().exists());
    assert_eq!(client.receive().json()["waited_ms"], 700);
    assert_eq!(client.receive().json()["waited_ms"], 600);
    client.expect_closed();
    assert!(gateway.wait().success());
}

#[test]
fn what_does_not_finish_within_the_grace_is_cut() {
    let mut gateway = Gateway::with().tasks_to("demo.silent").set("drain.grace_ms=200").gateway();
    let mut client = gateway.client();
    client.send(kind::TASK_SUBMIT, "{}");
    gateway.until("ipc_gateway_calls", 1.0);
    let began = Instant::now();
    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success());
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_millis(200) + AT_ONCE, "{took:?}");
    client.expect_closed();
    assert!(gateway.log().contains("were cut at the end of the grace"), "{}", gateway.log());
}

#[test]
fn a_second_signal_is_fast() {
    let mut gateway = Gateway::with().tasks_to("demo.silent").gateway();
    let mut client = gateway.client();
    client.send(kind::TASK_SUBMIT, "{}");
    gateway.until("ipc_gateway_calls", 1.0);
    gateway.signal(Signal::TERM);
    eventually("it drains", || gateway.ready().0 == 503);
    let began = Instant::now();
    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success());
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(!gateway.socket().exists());
}

#[test]
fn the_socket_file_has_its_mode_and_is_removed_at_the_end() {
    for (setting, mode) in [("ipc.mode=0600", 0o600), ("ipc.mode=0660", 0o660)] {
        let gateway = Gateway::with().set(setting).gateway();
        let file = fs::symlink_metadata(gateway.socket()).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o7777, mode);
        // Which sees that nothing is left.
        gateway.stop();
    }
    let gateway = Gateway::start();
    let file = fs::symlink_metadata(gateway.socket()).unwrap();
    assert_eq!(file.permissions().mode() & 0o7777, 0o600, "without a setting");
    gateway.stop();
}

#[test]
fn a_live_socket_is_refused_by_naming_who_has_it() {
    let gateway = Gateway::start();
    let (code, complaint) = Gateway::with().in_place_of(gateway.place()).refusal();
    assert_eq!(code, 1, "{complaint}");
    for part in [format!("pid {} (ipc-gateway)", gateway.pid()), gateway.socket().display().to_string()] {
        assert!(complaint.contains(&part), "{part} is not in: {complaint}");
    }
    gateway.client().ping();
    gateway.stop();
}

#[test]
fn what_a_killed_gateway_left_is_replaced() {
    let mut first = Gateway::start();
    first.signal(Signal::KILL);
    assert!(!first.wait().success());
    assert!(first.socket().exists(), "a kill leaves the socket");
    let second = Gateway::with().in_place_of(first.place()).gateway();
    second.client().ping();
    second.stop();
}

#[test]
fn a_taken_admin_port_is_refused_by_naming_the_port_who_has_it_and_the_flag() {
    let gateway = Gateway::start();
    let port = gateway.admin().port();
    let (code, complaint) = Gateway::with().admin_port(port).refusal();
    assert_eq!(code, 1, "{complaint}");
    assert!(
        complaint.contains(&format!("127.0.0.1:{port}")) && complaint.contains("admin.port=N"),
        "{complaint}"
    );
    if cfg!(target_os = "linux") {
        assert!(complaint.contains(&format!("by process {} (ipc-gateway)", gateway.pid())), "{complaint}");
    }
    gateway.stop();
}

#[test]
fn a_gateway_that_could_not_start_leaves_no_socket() {
    let gateway = Gateway::start();
    let place = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let start = Gateway::with().admin_port(gateway.admin().port()).in_place_of(&place);
    assert_eq!(start.refusal().0, 1);
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "log"), "{left:?}");
    gateway.stop();
}

#[test]
fn a_user_who_may_not_connect_is_refused_before_a_byte_is_read() {
    let gateway = Gateway::with().set("ipc.allow_uids=12345").gateway();
    let mut client = gateway.client();
    let (code, message, word) = client.receive().error();
    assert_eq!((code, word.as_str()), (6, "unauthenticated"));
    assert!(message.contains("ipc.allow_uids"), "{message}");
    client.expect_closed();
    let metrics = gateway.metrics();
    assert_eq!(metrics.door("received_bytes_total"), 0.0);
    assert_eq!((metrics.door("connections_total"), metrics.door("connections_refused_total")), (0.0, 1.0));
    gateway.stop();

    let own = rustix::process::geteuid().as_raw();
    let gateway = Gateway::with().set(&format!("ipc.allow_uids=12345,{own}")).gateway();
    gateway.client().ping();
    gateway.stop();
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let gateway = Gateway::with().descriptors(256).gateway();
    let mut clients: Vec<Client> = (0..400).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.ping();
    }
    assert!(gateway.metrics().of("process_max_fds") > 400.0);
    drop(clients);
    gateway.stop();
}

#[test]
fn the_banner_says_what_listens_where_and_what_to_paste() {
    let gateway = Gateway::start();
    let (socket, admin) = (gateway.socket().display().to_string(), gateway.admin());
    let printed = gateway.stop();
    // The WebSocket is on the port of HTTP.
    let http = printed.lines().find_map(|line| line.strip_prefix("  http     http://")).unwrap();
    let http = http.split_whitespace().next().unwrap();
    for line in [
        format!("  ws       ws://{http}/ws  the JSON envelope, frames of version 2"),
        format!("  unix     {socket}  frames of versions 1 and 2, raw JSON"),
        format!("  admin    http://{admin}  /health /ready /metrics"),
        "  backend  embedded DEMO, because no NATS is configured: set NATS_URL to use yours".to_owned(),
        format!("  echo '{{\"task_id\":\"test1\",\"payload\":\"hello\"}}' | nc -U {socket}"),
        format!("  curl http://{admin}/ready"),
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}\nis not in:\n{printed}");
    }
}

#[test]
fn health_and_readiness_are_json_and_the_demo_says_so() {
    let gateway = Gateway::start();
    let (status, body) = gateway.page("/health");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["status"]), (200, &json!("healthy")));
    assert!(body["timestamp"].is_string(), "{body}");

    let (status, body) = gateway.ready();
    assert_eq!((status, &body["status"], &body["draining"]), (200, &json!("healthy"), &json!(false)));
    assert_eq!((&body["message"], &body["backend"]["kind"]), (&json!("ready"), &json!("embedded")));
    assert!(body["reasons"].to_string().contains("demo"), "{body}");

    let metrics = gateway.metrics();
    assert_eq!(metrics.of("ipc_gateway_backend_info{kind=\"embedded\"}"), 1.0);
    assert_eq!(metrics.of("ipc_gateway_backend_connected"), 1.0);
    gateway.stop();
}

#[test]
fn the_limits_of_the_gateway_are_shown_beside_what_is_used() {
    let gateway = Gateway::with().set("limits.calls_max=77").set("limits.streams_max=66").gateway();
    let metrics = gateway.metrics();
    assert_eq!(metrics.of("ipc_gateway_calls_max"), 77.0);
    assert_eq!(metrics.of("ipc_gateway_streams_max"), 66.0);
    assert_eq!(metrics.of("ipc_gateway_memory_process_max_bytes"), 536_870_912.0);
    let kept = 33_554_432.0 + 65_536.0 * 48.0;
    assert_eq!(metrics.of("ipc_gateway_memory_max_bytes"), (536_870_912.0 - 25_165_824.0 - kept) / 2.0);
    gateway.stop();
}

#[test]
fn a_host_name_that_is_not_ours_is_refused_so_that_no_web_page_can_rebind_its_own() {
    let gateway = Gateway::with().set("admin.hosts=gateway.test").gateway();
    let port = gateway.admin().port();
    for path in ["/", "/health", "/ready", "/metrics", "/no-such-page"] {
        for host in ["evil.example", &format!("evil.example:{port}"), "localhost.evil.example"] {
            let (status, _, body) = gateway.page_for(host, path);
            assert_eq!(status, 403, "{host}{path}: {body}");
            assert!(body.contains("host_denied") && !body.contains("ipc_gateway_"), "{body}");
        }
    }
    for host in ["localhost", &format!("127.0.0.1:{port}"), "[::1]", "gateway.test"] {
        assert_eq!(gateway.page_for(host, "/metrics").0, 200, "{host}");
    }
    gateway.stop();
}

#[test]
fn requests_are_counted_by_route_and_outcome() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.ask(kind::TASK_SUBMIT, "{}").kind, kind::RESPONSE_OK);
    }
    client.send(0x42, "");
    assert_eq!(client.receive().error().0, 2);
    let metrics = gateway.metrics();
    let series = "ipc_gateway_requests_total{operation=\"request\",outcome=\"ok\",route=\"decide\"}";
    assert_eq!((metrics.of(series), metrics.door("protocol_errors_total")), (3.0, 1.0));
    gateway.stop();
}
