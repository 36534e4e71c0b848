//! Memory under attack: whatever clients do, the process stays within its budget, and others are served meanwhile.
//!
//! What the program charges to its budget is one thing, what the system gives it another. So this looks at the resident
//! memory of a process of its own, at its highest during each attack.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::client::{JsonClient, kind};
use crate::gateway::{Gateway, PATIENCE, eventually};

const MEMORY_BYTES: u64 = 16 << 20;
/// What is not in the budget: some hundred connections with their tasks and the buffers of hyper and h2, what the
/// allocator keeps of earlier attacks in pages that are not empty (the most of it: up to 26 MiB were seen), and code of
/// this unoptimized build that is run, and so read into memory, for the first time.
const ALLOWANCE_BYTES: u64 = 32 << 20;

/// What each of many sends: a sixteenth of the memory, so that all of them together are many times as much.
const PIECE_BYTES: usize = 1 << 20;
const CLIENTS: usize = 100;

/// The victim, and somebody who uses it meanwhile.
struct Scene {
    gateway: Gateway,
    witness: JsonClient,
    baseline: u64,
    runtime: Runtime,
}

impl Scene {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let gateway = Gateway::with()
            .tasks_to("demo.echo")
            .set(&format!("limits.memory_bytes_max={MEMORY_BYTES}"))
            .set("limits.payload_bytes_max=4194304")
            .set("limits.slow_start_ms=0")
            // Never reached: only the table of those it holds for is looked at.
            .set("limits.peer_rate_per_second=1000000")
            .set("limits.peers_max=500")
            .set("grpc.gzip=true")
            // Without huge pages, and with memory given back when it is free: else what the allocator has hides what the
            // program has of it.
            .environment("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            .environment("MIMALLOC_PURGE_DELAY", "0")
            // What an attack holds, it holds to its end.
            .set("ipc.body_timeout_ms=300000")
            .set("http.body_timeout_ms=300000")
            .set("ipc.write_timeout_ms=300000")
            .set("http.write_timeout_ms=300000")
            .set("websocket.write_timeout_ms=300000")
            .gateway();
        let witness = gateway.json();
        let mut scene = Self { gateway, witness, baseline: 0, runtime };
        for _ in 0..100 {
            scene.expect_served();
        }
        scene.baseline = scene.status("VmRSS");
        scene
    }

    /// A line of the process's status in bytes (proc(5)).
    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.gateway.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// Sees that somebody who is connected is served, and somebody who comes new.
    fn expect_served(&mut self) {
        let payload = "x".repeat(200);
        let ask = json!({"op": "request", "id": 1, "subject": "demo.echo", "payload": payload}).to_string();
        let reply: Value = serde_json::from_str(&self.witness.ask(&ask)).unwrap();
        assert_eq!((&reply["op"], &reply["payload"]), (&json!("reply"), &json!(payload)), "{reply}");
        let reply = self.gateway.client().ask(kind::TASK_SUBMIT, "\"new\"");
        assert_eq!(reply.text(), "\"new\"");
        let mut stream = self.http();
        let head = "POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        write!(stream, "{head}Content-Length: 3\r\n\r\n\"x\"").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\"x\""), "{answer}");
    }

    fn http(&self) -> TcpStream {
        patient(TcpStream::connect(self.gateway.http()).unwrap())
    }

    /// Runs an attack, sees that others are served while it holds what it has, and that memory stays within bounds.
    fn under<A>(&mut self, what: &str, attack: impl FnOnce(&Self) -> A) {
        // Forgets the highest point of before (proc(5), clear_refs).
        std::fs::write(format!("/proc/{}/clear_refs", self.gateway.pid()), "5").unwrap();
        let held = attack(self);
        self.expect_served();
        let metrics = self.gateway.metrics();
        drop(held);
        let grown = self.status("VmHWM").saturating_sub(self.baseline);
        let charged = metrics.of("ipc_gateway_memory_used_bytes") / 1024.0;
        print!("{what}: {} KiB more at the highest, {charged:.0} KiB of it charged at the end", grown >> 10);
        assert!(grown <= MEMORY_BYTES + ALLOWANCE_BYTES, "{what}: {grown} bytes more");
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
        println!(", {} KiB more after it", self.status("VmRSS").saturating_sub(self.baseline) >> 10);
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Writes as much of it as the other side takes: it may have closed, or not read.
fn push(mut stream: impl Write, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

fn unix(scene: &Scene) -> UnixStream {
    let stream = UnixStream::connect(scene.gateway.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The header of a frame of version 1 with a payload of so many bytes.
fn header(payload_bytes: usize) -> Vec<u8> {
    let length = u32::try_from(payload_bytes + 6).unwrap().to_be_bytes();
    [&length[..], &[1, kind::TASK_SUBMIT]].concat()
}

/// A WebSocket after its handshake. The mask of its frames is zero, so that they are written as they are.
fn web_socket(scene: &Scene) -> TcpStream {
    let mut stream = scene.http();
    let head = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                Sec-WebSocket-Protocol: ipc-gateway.v1+json\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// A masked frame of a text of under 126 bytes.
fn text_frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).unwrap();
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// Row 2: lengths of four gigabytes and more, and the largest that is allowed.
fn huge_lengths(scene: &Scene) -> (Vec<UnixStream>, Vec<TcpStream>) {
    for _ in 0..CLIENTS {
        let mut stream = unix(scene);
        push(&stream, &[0xFF, 0xFF, 0xFF, 0xFF, 1, 1]);
        let mut told = Vec::new();
        let _ = stream.read_to_end(&mut told);
        assert!(told.len() > 6 && told[5] == kind::RESPONSE_ERROR, "{told:?}");
    }
    let unix = (0..CLIENTS).map(|_| {
        let stream = unix(scene);
        push(&stream, &header(crate::client::FRAME_BYTES_MAX - 6));
        stream
    });
    let web = (0..CLIENTS).map(|_| {
        let stream = web_socket(scene);
        push(&stream, &[&[0x82, 0xFF][..], &[0x7F; 8], &[0; 4]].concat());
        stream
    });
    (unix.collect(), web.collect())
}

/// Row 4: headers, a part of the body, and no more. On the Unix socket.
fn frames_without_an_end(scene: &Scene) -> Vec<UnixStream> {
    let streams: Vec<_> = (0..CLIENTS).map(|_| unix(scene)).collect();
    for stream in &streams {
        push(stream, &header(2 * PIECE_BYTES));
        push(stream, &vec![b'x'; PIECE_BYTES]);
    }
    streams
}

/// The same on the HTTP door.
fn bodies_without_an_end(scene: &Scene) -> Vec<TcpStream> {
    let streams: Vec<_> = (0..CLIENTS).map(|_| scene.http()).collect();
    for stream in &streams {
        let head =
            "POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2097152\r\n\r\n";
        push(stream, head.as_bytes());
        push(stream, &vec![b'x'; PIECE_BYTES]);
    }
    streams
}

/// The same on WebSockets.
fn messages_without_an_end(scene: &Scene) -> Vec<TcpStream> {
    let streams: Vec<_> = (0..CLIENTS).map(|_| web_socket(scene)).collect();
    for stream in &streams {
        push(stream, &[&[0x01, 0xFF][..], &(2 * PIECE_BYTES as u64).to_be_bytes(), &[0; 4]].concat());
        push(stream, &vec![b'x'; PIECE_BYTES]);
    }
    streams
}

/// Row 15, where compression is offered: messages of gRPC that are small as they come and huge as they are.
fn compressed_nothing(scene: &Scene) {
    const INFLATED_BYTES: usize = 64 << 20;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..INFLATED_BYTES >> 20 {
        gzip.write_all(&zeros).unwrap();
    }
    let message = gzip.finish().unwrap();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = Bytes::from([&[1][..], &length, &message].concat());
    let address = scene.gateway.grpc();
    let attack = async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut calls = Vec::new();
        for _ in 0..16 {
            let request = hyper::Request::post("http://localhost/gateway.v1.Gateway/Request")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("grpc-encoding", "gzip");
            let mut sender = sender.clone().ready().await.unwrap();
            let (response, mut send) = sender.send_request(request.body(()).unwrap(), false).unwrap();
            send.send_data(body.clone(), true).unwrap();
            calls.push(response);
        }
        for call in calls {
            let (head, mut body) = call.await.unwrap().into_parts();
            let told = if let Some(status) = head.headers.get("grpc-status") {
                status.clone()
            } else {
                while body.data().await.is_some() {}
                body.trailers().await.unwrap().unwrap()["grpc-status"].clone()
            };
            assert_ne!(told, "0");
        }
        drop(sender);
        connection.abort();
    };
    scene.runtime.block_on(async { tokio::time::timeout(PATIENCE, attack).await }).unwrap();
}

/// Row 16: a million fragments of nothing, from each of some.
fn empty_fragments(scene: &Scene) -> Vec<TcpStream> {
    let attackers = (0..4).map(|_| {
        let stream = web_socket(scene);
        push(&stream, &[0x01, 0x80, 0, 0, 0, 0]);
        let some = [0x00, 0x80, 0, 0, 0, 0].repeat(1000);
        for _ in 0..1000 {
            // It is closed on long before the last of them.
            push(&stream, &some);
        }
        stream
    });
    attackers.collect()
}

/// Row 18: clients that never read, while many times the memory is published for them, and one that does.
fn frozen_readers(scene: &Scene) -> (Vec<UnixStream>, Vec<TcpStream>) {
    const MESSAGES: usize = 1000;
    const PAYLOAD_BYTES: usize = 8000;
    /// Of each kind. Each keeps a message or more unwritten, beside what the system keeps for it.
    const CLIENTS: usize = 25;
    let subscribe = json!({"op": "subscribe", "id": 1, "subject": "flood"}).to_string();
    let unix: Vec<_> = (0..CLIENTS).map(|_| unix(scene)).collect();
    for stream in &unix {
        push(stream, subscribe.as_bytes());
    }
    let web: Vec<_> = (0..CLIENTS).map(|_| web_socket(scene)).collect();
    for stream in &web {
        push(stream, &text_frame(&subscribe));
    }
    // With a pattern of its own each, so that each is a queue that nobody else's messages pass.
    let alone: Vec<_> = (0..CLIENTS).map(|_| self::unix(scene)).collect();
    for (number, stream) in alone.iter().enumerate() {
        push(
            stream,
            json!({"op": "subscribe", "id": 1, "subject": format!("alone.{number}")}).to_string().as_bytes(),
        );
    }
    let events: Vec<_> = (0..CLIENTS).map(|_| scene.http()).collect();
    for stream in &events {
        push(stream, b"GET /v1/subscribe/flood HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    let mut lively = scene.gateway.json();
    lively.write(&subscribe);
    assert!(lively.line().contains("accepted"));
    scene.gateway.until("ipc_gateway_streams", f64::from(4 * u16::try_from(CLIENTS).unwrap() + 1));

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut read, mut lost) = (0, 0);
            while read + lost < MESSAGES as u64 {
                let told: Value = serde_json::from_str(&lively.line()).unwrap();
                match told["op"].as_str() {
                    Some("delivery") => read += 1,
                    Some("gap") => lost += told["lost"].as_u64().unwrap(),
                    _ => panic!("{told}"),
                }
            }
            is_over.store(true, Ordering::Relaxed);
            (read, lost)
        });
        let mut publisher = scene.gateway.json();
        let payload = "x".repeat(PAYLOAD_BYTES);
        for number in 0..MESSAGES {
            let subjects = ["flood".to_owned(), format!("alone.{}", number % CLIENTS)];
            // The second part is for those alone, and comes first.
            let subjects = if number < 20 * CLIENTS { &subjects[..] } else { &subjects[..1] };
            for subject in subjects.iter().rev() {
                let publish = json!({"op": "publish", "id": 1, "subject": subject, "payload": payload});
                let told = publisher.ask(publish.to_string());
                assert!(told.contains("accepted"), "{told}");
            }
        }
        eventually("everything is read or told as lost", || is_over.load(Ordering::Relaxed));
        let (read, lost) = reader.join().unwrap();
        println!("who reads has read {read} and lost {lost}");
        assert!(read > lost, "{read} and {lost}");
    });
    let metrics = scene.gateway.metrics();
    assert!(metrics.of("ipc_gateway_hub_relieved_total") > 0.0, "{metrics:?}");
    let mut all = web;
    all.extend(events);
    (unix.into_iter().chain(alone).collect(), all)
}

/// Row 30: peers that nobody has seen before, by address and by what they say of themselves.
fn distinct_peers(scene: &Scene) {
    const PEERS: u32 = 2000;
    let address = scene.gateway.http();
    let ask = async |stream: &mut tokio::net::TcpStream, more: &str, times: usize| {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let head = "POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n";
        for number in 0..times {
            let forwarded = format!("X-Forwarded-For: 10.{}.{}.1", number / 256, number % 256);
            stream.write_all(format!("{head}{forwarded}\r\n{more}\r\n\"x\"").as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n\"x\"") {
                assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        }
    };
    let before = scene.gateway.metrics().of("ipc_gateway_limiter_peers");
    let attack = async {
        let mut one = tokio::net::TcpStream::connect(address).await.unwrap();
        ask(&mut one, "", 2000).await;
        drop(one);
        assert!(scene.gateway.metrics().of("ipc_gateway_limiter_peers") <= before + 1.0);
        for number in 0..PEERS {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            // The whole of 127/8 is this machine (RFC 1122, section 3.2.1.3), on Linux without asking for it.
            let own = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number);
            socket.bind(SocketAddr::from((own, 0))).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            ask(&mut stream, "Connection: close\r\n", 1).await;
        }
    };
    scene.runtime.block_on(async { tokio::time::timeout(4 * PATIENCE, attack).await }).unwrap();
    let metrics = scene.gateway.metrics();
    assert!(metrics.of("ipc_gateway_limiter_peers") <= 500.0, "{metrics:?}");
}

#[test]

fn memory_stays_within_its_budget_under_attack_and_others_are_served() {
    let mut scene = Scene::new();
    scene.under("huge lengths", huge_lengths);
    scene.under("frames without an end", frames_without_an_end);
    scene.under("bodies without an end", bodies_without_an_end);
    scene.under("messages without an end", messages_without_an_end);
    scene.under("nothing, compressed", compressed_nothing);
    scene.under("empty fragments", empty_fragments);
    scene.under("readers that do not read", frozen_readers);
    scene.under("peers without number", distinct_peers);
    let Scene { gateway, witness, .. } = scene;
    drop(witness);
    gateway.stop();
}
