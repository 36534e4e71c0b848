//! Memory under attack: whatever clients do, the process stays within its budget, and others are served meanwhile.
//!
//! What the program charges is one thing, what the system gives it another. So this looks at the resident memory of a
//! process of its own, at its highest during each attack, and holds it against the budget that it was given: nothing is
//! allowed beside it, and nothing is set that a user would not set. Each attack is many times the budget.
//!
//! Two variables of the environment are for whoever wants to know more:
//! `MEMORY_TEST_UNBOUNDED=1` gives the process a budget that it cannot reach and prints what each attack takes then (some
//! gigabytes); `MEMORY_TEST_PEERS=1000000` makes that many peers connect (several minutes).

#[path = "memory/arriving.rs"]
mod arriving;
#[path = "memory/peers.rs"]
mod peers;
#[path = "memory/unread.rs"]
mod unread;
#[path = "memory/wire.rs"]
mod wire;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::client::{JsonClient, kind};
use crate::gateway::{Gateway, PATIENCE, eventually};

/// What the process may have.
const MEMORY_BYTES: u64 = 64 << 20;
/// More than any attack takes.
const UNBOUNDED_BYTES: u64 = 1 << 40;
/// The largest payload that each door takes.
const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// The victim, and somebody who uses it meanwhile.
struct Scene {
    gateway: Gateway,
    witness: JsonClient,
    runtime: Runtime,
    is_bounded: bool,
}

impl Scene {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let is_bounded = std::env::var_os("MEMORY_TEST_UNBOUNDED").is_none();
        let memory_bytes = if is_bounded { MEMORY_BYTES } else { UNBOUNDED_BYTES };
        let gateway = Gateway::with()
            .tasks_to("demo.echo")
            .set(&format!("limits.memory_bytes_max={memory_bytes}"))
            .set(&format!("limits.payload_bytes_max={PAYLOAD_BYTES_MAX}"))
            .set("limits.slow_start_ms=0")
            // Never reached: only the table of those it holds for is looked at.
            .set("limits.peer_rate_per_second=1000000")
            .set(&format!("limits.peers_max={}", peers::PEERS_MAX))
            .set("grpc.gzip=true")
            .set("idempotency.bytes_max=8388608")
            .set("routes.many.patterns=demo.count")
            .set("routes.many.replies_max=1000")
            // What an attack holds, it holds to its end.
            .set("ipc.body_timeout_ms=300000")
            .set("http.header_timeout_ms=300000")
            .set("http.keep_alive_ms=300000")
            .set("http.body_timeout_ms=300000")
            .set("ipc.write_timeout_ms=300000")
            .set("http.write_timeout_ms=300000")
            .set("grpc.write_timeout_ms=300000")
            .set("websocket.write_timeout_ms=300000")
            .gateway();
        let witness = gateway.json();
        let mut scene = Self { gateway, witness, runtime, is_bounded };
        for _ in 0..100 {
            scene.expect_served();
        }
        println!(
            "at rest {} KiB, and {} KiB of files",
            scene.own_bytes() >> 10,
            scene.status("RssFile") >> 10
        );
        scene
    }

    /// A line of the process's status in bytes (proc(5)).
    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.gateway.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// The resident memory without that of files: which is code, and of this unoptimized build ten times what it is.
    fn own_bytes(&self) -> u64 {
        self.status("VmRSS") - self.status("RssFile")
    }

    /// Whether somebody who is connected is served, and somebody who comes new.
    fn is_served(&mut self) -> bool {
        let payload = "x".repeat(200);
        let ask = json!({"op": "request", "id": 1, "subject": "demo.echo", "payload": payload}).to_string();
        let reply: Value = serde_json::from_str(&self.witness.ask(&ask)).unwrap();
        if (&reply["op"], &reply["payload"]) != (&json!("reply"), &json!(payload)) {
            assert!(reply["error"]["kind"] == "overloaded", "{reply}");
            return false;
        }
        let reply = self.gateway.client().ask(kind::TASK_SUBMIT, "\"new\"");
        if reply.payload != b"\"new\"" {
            return false;
        }
        let mut stream = self.http();
        let head = "POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let _ = write!(stream, "{head}Content-Length: 3\r\n\r\n\"x\"");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\"x\"")
    }

    fn expect_served(&mut self) {
        assert!(self.is_served());
    }

    fn http(&self) -> TcpStream {
        let stream = TcpStream::connect(self.gateway.http()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Runs an attack, sees that others are served while it holds what it has, and that memory stays within bounds.
    fn under<A>(&mut self, what: &str, attack: impl FnOnce(&Self) -> A) {
        if std::env::var("MEMORY_TEST_ONLY").is_ok_and(|only| !what.contains(&only)) {
            return;
        }
        let started = Instant::now();
        // Forgets the highest point of before (proc(5), clear_refs).
        std::fs::write(format!("/proc/{}/clear_refs", self.gateway.pid()), "5").unwrap();
        let held = attack(self);
        eventually("others are served", || self.is_served());
        let metrics = self.gateway.metrics();
        let most = self.status("VmHWM") - self.status("RssFile");
        drop(held);
        let charged = metrics.of("ipc_gateway_memory_used_bytes") / 1024.0;
        let peak = metrics.of("ipc_gateway_memory_peak_bytes") / 1024.0;
        print!(
            "{what}: {} KiB at the highest; charged {charged:.0} KiB at the end, {peak:.0} ever",
            most >> 10
        );
        for door in ["unix", "http", "websocket", "grpc"] {
            let others = f64::from(u8::from(door == "unix"));
            self.gateway.until(&format!("ipc_gateway_door_connections{{door=\"{door}\"}}"), others);
            self.gateway.until(&format!("ipc_gateway_door_in_flight{{door=\"{door}\"}}"), 0.0);
            self.gateway.until(&format!("ipc_gateway_door_streams{{door=\"{door}\"}}"), 0.0);
        }
        for gauge in ["calls", "streams", "handshakes", "memory_used_bytes", "hub_unread_bytes", "overloaded"]
        {
            self.gateway.until(&format!("ipc_gateway_{gauge}"), 0.0);
        }
        println!(", {} KiB after it, in {:?}", self.own_bytes() >> 10, started.elapsed());
        if self.is_bounded && std::env::var_os("MEMORY_TEST_LOOK").is_none() {
            assert!(most < MEMORY_BYTES, "{what}: {most} bytes");
        }
    }
}

#[test]
fn memory_stays_within_its_budget_under_attack_and_others_are_served() {
    let mut scene = Scene::new();
    scene.under("huge lengths", arriving::huge_lengths);
    scene.under("heads without an end", arriving::heads_without_an_end);
    scene.under("frames without an end", arriving::frames_without_an_end);
    scene.under("bodies without an end", arriving::bodies_without_an_end);
    scene.under("messages of WebSockets without an end", arriving::messages_without_an_end);
    scene.under("messages of gRPC without an end", arriving::calls_without_an_end);
    scene.under("nothing, compressed", arriving::compressed_nothing);
    scene.under("empty fragments", arriving::empty_fragments);
    scene.under("subscribers that do not read", unread::frozen_subscribers);
    scene.under("streamed answers that nobody reads", unread::streamed_answers);
    scene.under("large answers that nobody reads", unread::large_answers);
    scene.under("peers without number", peers::distinct_peers);
    let Scene { gateway, witness, .. } = scene;
    drop(witness);
    gateway.stop();
}
