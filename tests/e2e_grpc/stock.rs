//! A stock client: Python's `grpcio`, with stubs made from the gateway's reflection.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::grpc_python::python;
use crate::running::{Running, within};

/// A case of `stock.py` that runs.
struct Case {
    child: Child,
    told: Lines<BufReader<ChildStdout>>,
}

impl Case {
    fn start(address: &str, name: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e_grpc/stock.py");
        let mut command = Command::new(python());
        command
            .args(["-B", script, address, name])
            // A proxy of whoever runs the tests is not asked.
            .env("no_grpc_proxy", "*")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, told }
    }

    /// Waits until it says this.
    async fn until(&mut self, word: &str) {
        loop {
            match within(self.told.next_line()).await.unwrap() {
                Some(line) if line == word => return,
                Some(_) => {}
                None => panic!("it ended: {}", self.complaints().await),
            }
        }
    }

    /// Lets it go on.
    async fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    }

    async fn complaints(&mut self) -> String {
        let mut text = String::new();
        let mut errors = self.child.stderr.take().unwrap();
        within(errors.read_to_string(&mut text)).await.unwrap();
        text
    }

    /// Waits until it ends, which it should do well.
    async fn well(mut self) {
        self.until("all is well").await;
        assert!(within(self.child.wait()).await.unwrap().success());
    }
}

/// Runs a case against a gateway with these settings.
async fn run(case: &str, settings: &[(&str, &str)]) -> Running {
    let gateway = Running::start(settings).await;
    Case::start(&gateway.grpc.to_string(), case).well().await;
    for gauge in ["in_flight", "streams"] {
        gateway.until(gauge, 0).await;
    }
    gateway.until_metric("ipc_gateway_memory_used_bytes", 0).await;
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unary_calls_of_any_size() {
    run("unary", &[("embedded.payload_bytes_max", "8388608")]).await;
}

#[tokio::test]
async fn metadata_both_ways() {
    run("metadata", &[]).await;
}

#[tokio::test]
async fn statuses_with_details() {
    run("errors", &[]).await;
}

#[tokio::test]
async fn deadlines_are_kept() {
    run("deadlines", &[]).await;
}

#[tokio::test]
async fn streams_both_ways() {
    run("streams", &[]).await;
}

#[tokio::test]
async fn a_session_does_everything_over_one_stream() {
    run("session", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_in_flight_and_none_mixed_up() {
    run("many", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_messages_and_a_bomb() {
    run("gzip", &[("grpc.gzip", "true")]).await;
}

#[tokio::test]
async fn both_reflections() {
    run("reflection", &[]).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_made_again() {
    let gateway = run("idle", &[("grpc.idle_timeout_ms", "200")]).await;
    assert!(gateway.count("connections_total").await >= 2);
}

#[tokio::test]
async fn a_unix_socket_too() {
    let gateway = Running::start(&[("grpc.path", "{}/grpc")]).await;
    let address = format!("unix:{}", gateway.file("grpc").display());
    Case::start(&address, "session").well().await;
    gateway.until("connections", 0).await;
    assert!(gateway.file("grpc").exists());
    let file = gateway.file("grpc");
    within(gateway.stop_within(Duration::from_secs(5))).await.unwrap();
    assert!(!file.exists(), "the socket's file goes with the door");
}

#[tokio::test]
async fn what_is_cancelled_gives_everything_back() {
    let gateway = Running::start(&[]).await;
    let mut case = Case::start(&gateway.grpc.to_string(), "cancel").well_begun().await;
    gateway.until("in_flight", 2).await;
    gateway.until("streams", 2).await;
    case.go_on().await;
    case.until("cancelled").await;
    gateway.until("in_flight", 0).await;
    gateway.until("streams", 0).await;
    case.go_on().await;
    case.well().await;
}

impl Case {
    async fn well_begun(mut self) -> Self {
        self.until("waiting").await;
        self
    }
}

#[tokio::test]
async fn health_follows_the_drain() {
    let gateway = Running::start(&[]).await;
    let mut case = Case::start(&gateway.grpc.to_string(), "health");
    case.until("watching").await;
    let stopped = gateway.stop_within(Duration::from_secs(20));
    case.well().await;
    assert_eq!(within(stopped).await.unwrap(), 0);
}

#[tokio::test]
async fn a_drain_lets_what_is_in_flight_finish() {
    let gateway = Running::start(&[]).await;
    let case = Case::start(&gateway.grpc.to_string(), "drain").well_begun().await;
    let stopped = gateway.stop_within(Duration::from_secs(20));
    case.well().await;
    assert_eq!(within(stopped).await.unwrap(), 0);
}
