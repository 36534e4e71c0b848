//! What `deploy/` holds: its configurations are good, they serve, and their times and sizes fit one another.
//!
//! Manifests are read line by line, each key being there once: what they mean to a cluster is not this project's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::nats_server::NatsServer;
use crate::program::{Gateway, command, run};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the gateway may need for its end besides the pause and the grace (docs/operations/operations.md, "Stop").
const CLOSING_MS: u64 = 5000;

fn place(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(place(file)).unwrap()
}

/// The values that a key has in a manifest, in the file's order.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.trim_start_matches([' ', '-']).split_once([':', '=']));
    lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim()).collect()
}

fn number(text: &str, key: &str) -> u64 {
    let [value] = values(text, key)[..] else { panic!("{key} is there {} times", values(text, key).len()) };
    value.parse().unwrap()
}

/// The value of a setting when this file is the only source of it.
fn setting(file: Option<&Path>, key: &str) -> u64 {
    let mut command = command(&["config", "--json"]);
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    let ran = run(command, b"");
    assert_eq!(ran.code, 0, "{ran:?}");
    let all: Value = serde_json::from_slice(&ran.out).unwrap();
    let all = all["settings"].as_array().unwrap_or_else(|| panic!("{all}"));
    let entry = all.iter().find(|entry| entry["key"] == key).unwrap_or_else(|| panic!("{key} in {all:?}"));
    entry["value"].as_u64().unwrap_or_else(|| panic!("{entry}"))
}

#[test]
fn its_configuration_for_a_cluster_is_good() {
    let mut check = command(&["check", "--strict"]);
    check.arg(place("kubernetes/gateway.toml"));
    let ran = run(check, b"");
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn a_pod_is_neither_killed_while_it_drains_nor_without_work_before_its_news_have_spread() {
    let file = place("kubernetes/gateway.toml");
    let (pause_ms, grace_ms) =
        (setting(Some(&file), "drain.pause_ms"), setting(Some(&file), "drain.grace_ms"));
    let deployment = text("kubernetes/deployment.yaml");
    assert!(1000 * number(&deployment, "terminationGracePeriodSeconds") > pause_ms + grace_ms + CLOSING_MS);

    let [_, readiness] = deployment.split("readinessProbe:").collect::<Vec<_>>()[..] else {
        panic!("{deployment}")
    };
    let until_unready_ms = 1000 * number(readiness, "periodSeconds") * number(readiness, "failureThreshold");
    assert!((1..pause_ms).contains(&until_unready_ms), "{until_unready_ms} and {pause_ms}");

    let memory = values(readiness, "memory");
    let [requested, limit] = memory[..] else { panic!("{memory:?}") };
    assert_eq!(requested, limit);
    let limit_bytes = limit.strip_suffix("Mi").unwrap().parse::<u64>().unwrap() << 20;
    assert!(limit_bytes > setting(Some(&file), "limits.memory_bytes_max"));

    // The ports that it names are those that are bound.
    let ports = values(&deployment, "containerPort");
    let bound = ["admin.port", "http.port", "grpc.port"].map(|key| setting(Some(&file), key).to_string());
    assert_eq!(ports, bound);
}

#[test]
fn systemd_does_not_kill_it_while_it_drains() {
    let service = text("systemd/ipc-gateway.service");
    let (pause_ms, grace_ms) = (setting(None, "drain.pause_ms"), setting(None, "drain.grace_ms"));
    assert!(1000 * number(&service, "TimeoutStopSec") > pause_ms + grace_ms + CLOSING_MS);
}

/// A new connection with one request; the answer's head.
fn ask(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "POST /v1/request/nobody.there HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    write!(stream, "{head}Content-Length: 1\r\n\r\nx").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_pod_that_stops_serves_new_connections_for_the_pause_while_it_is_not_ready() {
    let server = NatsServer::start("");
    let file = place("kubernetes/gateway.toml");
    let url = format!("nats.urls={}", server.url());
    let mut arguments = vec!["--config", file.to_str().unwrap(), "--set", &url];
    // All that is said on this machine stays on it.
    for here in ["http.address=127.0.0.1", "grpc.address=127.0.0.1", "admin.address=127.0.0.1"] {
        arguments.extend(["--set", here]);
    }
    let gateway = Gateway::start_with(&arguments);
    gateway.until_ready();
    assert!(ask(gateway.http()).contains("no_responders"));

    gateway.signal(Signal::TERM);
    let patience = Instant::now() + PATIENCE;
    loop {
        let ran = gateway.run(&["status", "--json", "--interval", "1ms"]);
        let [picture] = &ran.objects()[..] else { panic!("{ran:?}") };
        if picture["ready"] == false {
            assert_eq!(ran.code, 5, "{ran:?}");
            break;
        }
        assert!(Instant::now() < patience, "it is still ready");
    }
    // Without the pause nobody accepts any more.
    assert!(ask(gateway.http()).contains("no_responders"));
    // Nobody waits for the rest of it.
    gateway.signal(Signal::TERM);
}
