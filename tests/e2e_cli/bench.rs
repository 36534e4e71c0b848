//! `bench`: every row of a self-contained run works and is told, and nothing is left of it.

use std::ffi::OsString;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::nats_server::NatsServer;
use crate::program::{Gateway, Running, command, run};

const ROWS: [&str; 9] =
    ["direct", "unix-v2", "unix-v1", "json", "raw-json", "ws-binary", "ws", "http", "grpc"];

/// The benchmark, with the nats-server of these tests and a temporary folder of its own.
fn bench(place: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = command(&["bench", "--self-contained"]);
    let server: Option<OsString> = std::env::var_os("NATS_SERVER_BIN");
    command
        .args(arguments)
        .envs(server.map(|server| ("NATS_SERVER_BIN", server)))
        .env("TMPDIR", place.path());
    command
}

pub(crate) fn assert_nothing_is_left(place: &tempfile::TempDir) {
    let left: Vec<_> =
        std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_self_contained_run_tells_every_row_beside_plain_nats() {
    let place = tempfile::tempdir().unwrap();
    let results = tempfile::tempdir().unwrap();
    let mut command = bench(&place, &["--duration", "300ms", "--warmup", "50ms", "--runs", "1", "--json"]);
    command.arg("--save").arg(results.path());
    let ran = run(command, b"");
    assert_eq!(ran.code, 0, "{ran:?}");
    let [report] = &ran.objects()[..] else { panic!("{ran:?}") };
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2 * ROWS.len());
    for (kind, rows) in ["open", "closed"].into_iter().zip(rows.chunks(ROWS.len())) {
        for (name, row) in ROWS.into_iter().zip(rows) {
            assert_eq!((&row["row"], &row["loop"]), (&Value::from(name), &Value::from(kind)));
            assert!(row["requests"].as_u64().unwrap() > 0, "{row}");
            assert_eq!(row["errors"], 0, "{row}");
            let figures = &row["figures"];
            for name in ["p50_ms", "p90_ms", "p99_ms", "p99.9_ms", "max_ms", "requests_per_second"] {
                assert!(figures[name]["median"].as_f64().unwrap() > 0.0, "{name} of {row}");
                assert!(figures[name]["ratio_to_direct"].is_number(), "{name} of {row}");
            }
        }
    }
    assert!(report["machine"]["nats_server"].is_string());
    let saved: Vec<_> =
        std::fs::read_dir(results.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let saved: Value = serde_json::from_slice(&std::fs::read(&saved[0]).unwrap()).unwrap();
    assert_eq!(saved, *report);
    assert_nothing_is_left(&place);
}

#[test]
fn many_web_sockets_are_measured_beside_those_of_nats_server() {
    let place = tempfile::tempdir().unwrap();
    let results = tempfile::tempdir().unwrap();
    let size = ["--only", "idle,fanout", "--idle-connections", "300", "--subscribers", "20"];
    let time = ["--duration", "200ms", "--warmup", "10ms", "--json"];
    let mut command = bench(&place, &[&size[..], &time].concat());
    command.arg("--save").arg(results.path());
    let ran = run(command, b"");
    assert_eq!(ran.code, 0, "{ran:?}");
    let [found] = &ran.objects()[..] else { panic!("{ran:?}") };
    let idle = &found["idle"][0];
    assert_eq!(idle["connections"], 300);
    // Three hundred fit into what the process has to spare, so that no growth need be seen.
    let bytes = |name: &str| idle[name].as_f64().unwrap();
    let grown = bytes("resident_bytes_after") - bytes("resident_bytes_before");
    assert!(bytes("resident_bytes_before") > 0.0, "{idle}");
    assert!((bytes("bytes_each") - grown / 300.0).abs() < 1.0, "{idle}");
    let [gateway, nats] = &found["fan_out"]["runs"].as_array().unwrap()[..] else { panic!("{found}") };
    for (server, name) in [(gateway, "gateway"), (nats, "nats-server")] {
        assert_eq!((&server["server"], &server["subscribers"]), (&Value::from(name), &Value::from(20)));
        assert!(server["deliveries"].as_u64().unwrap() >= 20, "{server}");
        assert!(server["deliveries_per_second"].as_f64().unwrap() > 0.0, "{server}");
    }
    assert_eq!(std::fs::read_dir(results.path()).unwrap().count(), 1);
    assert_nothing_is_left(&place);
    // Whose memory and processor time would that be?
    assert_eq!(run(crate::program::command(&["bench", "--only", "idle"]), b"").code, 2);
}

#[test]
fn a_table_and_medians_are_for_people() {
    let place = tempfile::tempdir().unwrap();
    let load = ["--doors", "direct,unix-v2", "--in-flight", "4", "--connections", "2"];
    let time = ["--duration", "100ms", "--warmup", "10ms", "--runs", "2"];
    let ran = run(bench(&place, &[&load[..], &time].concat()), b"");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.text().contains("Closed loop, 4 in flight, 2 connections"), "{ran:?}");
    assert_eq!(ran.text().lines().filter(|line| line.starts_with('|')).count(), 4);
    assert_eq!(ran.complaints.lines().count(), 4, "a line a row of a run: {ran:?}");
}

#[test]
fn a_signal_takes_everything_down() {
    let place = tempfile::tempdir().unwrap();
    let mut running = Running::start(bench(&place, &["--duration", "60s", "--doors", "unix-v2"]));
    // The gateway's socket is there when all are started.
    let socket = || {
        let folder = std::fs::read_dir(place.path()).unwrap().next()?.ok()?.path();
        std::fs::exists(folder.join("gateway.sock")).ok()?.then_some(())
    };
    while socket().is_none() {
        assert!(!running.has_ended(), "{:?}", running.end());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    running.signal(Signal::INT);
    let (status, rest) = running.end();
    assert_eq!(status.code(), Some(130), "{rest}");
    assert_nothing_is_left(&place);
}

#[test]
fn a_gateway_that_runs_can_be_measured_too() {
    let server = NatsServer::start("");
    let subject = "bench.echo";
    let responder = command(&["bench-responder", "--servers", &server.url(), "--subject", subject]);
    let mut responder = Running::start(responder);
    let gateway = Gateway::start_with(&["--nats-url", &server.url()]);
    gateway.until_ready();
    while gateway.run(&["request", subject, "x"]).code != 0 {}
    let mut command = gateway.command(&["bench", "--doors", "direct,unix-v2", "--duration", "100ms"]);
    command.args(["--warmup", "10ms", "--rate", "500/s", "--json", "--nats-url", &server.url()]);
    let ran = run(command, b"");
    assert_eq!(ran.code, 0, "{ran:?}");
    for row in ran.objects()[0]["rows"].as_array().unwrap() {
        assert!(row["requests"].as_u64().unwrap() > 0 && row["errors"] == 0, "{row}");
    }
    // A row that cannot work says so instead of counting errors.
    let ran =
        gateway.run(&["bench", "--doors", "unix-v2", "--subject", "nobody.there", "--duration", "50ms"]);
    ran.assert_complains(1, &["unix-v2", "no_responders"]);
    let named = ["bench", "--self-contained", "--nats-server", "/nowhere"];
    gateway.run(&named).assert_complains(1, &["--nats-server", "NATS_SERVER_BIN"]);
    responder.signal(Signal::TERM);
    responder.end();
}
