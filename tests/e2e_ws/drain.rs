//! The end of the real program: with every door busy nobody goes unanswered and everybody is told goodbye, each at
//! a time of its own; with descriptors run out it recovers.
//!
//! Here and not with the other tests of the process, because most of those who are told are WebSockets.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use wire::Inbound;
use wire::binary::client::{Heard, hear, say};
use wire::frame::FRAME_BYTES_MAX;

use crate::client::{Client, kind};
use crate::gateway::{Gateway, PATIENCE, eventually};
use crate::many::open;
use crate::peer::{CLOSE, Peer, TEXT, frame};
use crate::running::{Running, within};

/// How long the requests that are in flight when the signal comes take: longer than all of them are sent in.
const WORK_MS: u64 = 4000;
/// What HTTP answers at once, and keeps its connection for the next.
const PUBLISH: &str = "POST /v1/publish/demo.other HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";

/// All that a peer is told, to the close and its code.
async fn told(mut peer: Peer) -> (Vec<Value>, u16) {
    let mut messages = Vec::new();
    loop {
        let (first, payload) = peer.frame().await;
        if first == CLOSE {
            let _ = peer.0.get_mut().write_all(&frame(CLOSE, &payload[..2])).await;
            return (messages, u16::from_be_bytes([payload[0], payload[1]]));
        }
        messages.push(serde_json::from_slice(&payload).unwrap());
    }
}

/// The one message with this `op`.
fn only<'told>(messages: &'told [Value], op: &str) -> &'told Value {
    let mut found = messages.iter().filter(|message| message["op"] == op);
    let one = found.next().unwrap_or_else(|| panic!("no {op} in {messages:?}"));
    assert_eq!(found.next(), None, "one {op} in {messages:?}");
    one
}

/// A PING of version 2.
fn ping() -> BytesMut {
    let mut bytes = BytesMut::new();
    say(&Inbound::Ping { id: None, payload: Bytes::new() }, FRAME_BYTES_MAX, &mut bytes).unwrap();
    bytes
}

/// A client of HTTP that has sent this.
fn http(gateway: &Gateway, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.http()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// What comes until it ends with this.
fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// What comes until the connection is closed.
fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The clients of the other doors, and what each of them is about.
struct Others {
    /// Version 1, a request in flight.
    asking: Vec<Client>,
    /// Version 1, a stream open.
    listening: Vec<Client>,
    /// Version 2, idle.
    idle: Vec<Client>,
    /// HTTP, a request in flight.
    requests: Vec<TcpStream>,
    /// HTTP, an event stream open.
    events: Vec<TcpStream>,
    /// HTTP, kept alive after an answer.
    kept: Vec<TcpStream>,
}

impl Others {
    /// Everybody but those who ask, 10 streams among them.
    fn open(gateway: &Gateway) -> Self {
        let listening = (0..5).map(|_| {
            let mut client = gateway.client();
            let accepted = client.ask(kind::STREAM_SUBSCRIBE, "{\"subject\":\"demo.nothing\"}");
            assert_eq!(accepted.kind, kind::RESPONSE_OK, "{accepted:?}");
            client
        });
        let idle = (0..5).map(|_| {
            let mut client = gateway.client();
            client.expect_version(2);
            client.write(&ping());
            let pong = client.receive();
            assert!(matches!(hear(pong.kind, pong.payload.into()).unwrap(), Heard::Pong { .. }));
            client
        });
        let events = (0..5).map(|_| {
            let head = "GET /v1/subscribe/demo.nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let mut stream = http(gateway, head);
            until(&mut stream, ": open\n\n");
            stream
        });
        let kept = (0..5).map(|_| {
            let mut stream = http(gateway, PUBLISH);
            until(&mut stream, "{\"accepted\":true}");
            stream
        });
        Self {
            listening: listening.collect(),
            idle: idle.collect(),
            events: events.collect(),
            kept: kept.collect(),
            asking: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// 20 requests.
    fn ask(&mut self, gateway: &Gateway) {
        for _ in 0..10 {
            let mut client = gateway.client();
            client.send(kind::TASK_SUBMIT, WORK_MS.to_string());
            self.asking.push(client);
            let head = "POST /v1/request/demo.slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n";
            self.requests.push(http(gateway, &format!("{head}{WORK_MS}")));
        }
    }

    /// Those who are idle ask once more, unless they were told goodbye already.
    fn ask_again(&mut self) {
        for client in &mut self.idle {
            client.try_write(&ping());
        }
        for stream in &mut self.kept {
            let _ = stream.write_all(PUBLISH.as_bytes());
        }
    }

    /// Sees that each is answered and told goodbye; adds when they are to come back.
    fn take_leave(mut self, waits: &mut HashSet<u64>) {
        let worked = format!("\"waited_ms\":{WORK_MS}");
        for client in &mut self.asking {
            let answer = client.receive();
            assert!(answer.kind == kind::RESPONSE_OK && answer.text().contains(&worked), "{answer:?}");
            client.expect_closed();
        }
        for client in &mut self.listening {
            let end = client.receive();
            assert_eq!((end.kind, &end.json()["error"]["kind"]), (kind::STREAM_ERROR, &"draining".into()));
            waits.insert(end.json()["error"]["retry_after_ms"].as_u64().unwrap());
            client.expect_closed();
        }
        let mut served = 0;
        for client in &mut self.idle {
            let mut hear = || {
                let frame = client.receive();
                hear(frame.kind, frame.payload.into()).unwrap()
            };
            let mut heard = hear();
            let is_served = matches!(heard, Heard::Pong { .. });
            if is_served {
                served += 1;
                heard = hear();
            }
            let Heard::GoAway { retry_after } = heard else { panic!("no GO_AWAY: {heard:?}") };
            waits.insert(u64::try_from(retry_after.as_millis()).unwrap());
            if is_served {
                client.expect_closed();
            }
        }
        assert!(served > 0, "who is not told goodbye yet is served");
        for stream in &mut self.requests {
            let answer = rest(stream);
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(&worked), "{answer}");
            assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
        }
        for stream in &mut self.events {
            let goodbye = rest(stream);
            assert!(goodbye.contains("\"kind\":\"draining\"") && goodbye.ends_with("0\r\n\r\n"), "{goodbye}");
            let (_, wait) = goodbye.split_once("retry: ").unwrap();
            waits.insert(wait.lines().next().unwrap().parse().unwrap());
        }
        let mut served = 0;
        for stream in &mut self.kept {
            let mut answer = String::new();
            // Reset, if its request met the end of the connection.
            let ended = stream.read_to_string(&mut answer);
            if !answer.is_empty() {
                served += 1;
                assert!(ended.is_ok() && answer.starts_with("HTTP/1.1 202 "), "{ended:?}: {answer}");
                assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
            }
        }
        assert!(served > 0, "who has not left yet is served");
    }
}

#[tokio::test]
async fn five_hundred_sockets_are_told_goodbye_and_the_program_ends_well() {
    let mut gateway = Gateway::with().tasks_to("demo.slow").set("drain.grace_ms=25000").gateway();
    let mut peers = open(&gateway, 500).await;
    let mut others = Others::open(&gateway);
    for peer in &mut peers[30..40] {
        peer.say("{\"op\":\"subscribe\",\"id\":1,\"subject\":\"demo.nothing\"}").await;
        assert_eq!(peer.json().await["op"], "accepted");
    }
    for peer in &mut peers[..30] {
        let work = format!("{{\"op\":\"request\",\"id\":1,\"subject\":\"demo.slow\",\"payload\":{WORK_MS}}}");
        peer.say(&work).await;
    }
    others.ask(&gateway);
    gateway.until("ipc_gateway_calls", 50.0);
    gateway.until("ipc_gateway_streams", 20.0);
    gateway.signal(Signal::TERM);
    eventually("the drain has begun", || !gateway.socket().exists());
    // Most are not told yet, and who is not told is served.
    for peer in &mut peers[40..60] {
        let echo = frame(TEXT, b"{\"op\":\"request\",\"id\":2,\"subject\":\"demo.echo\",\"payload\":\"x\"}");
        let _ = peer.0.get_mut().write_all(&echo).await;
    }
    others.ask_again();
    assert_eq!(gateway.ready().1["draining"], true);
    gateway.until("ipc_gateway_draining", 1.0);

    let (mut waits, mut served) = (HashSet::new(), 0);
    for (number, peer) in peers.into_iter().enumerate() {
        let (messages, code) = told(peer).await;
        assert_eq!(code, 1001);
        waits.insert(only(&messages, "goaway")["retry_after_ms"].as_u64().unwrap());
        if number < 30 {
            assert_eq!(only(&messages, "reply")["payload"]["waited_ms"], WORK_MS, "{messages:?}");
        } else if number < 40 {
            assert_eq!(only(&messages, "error")["error"]["kind"], "draining", "{messages:?}");
        } else if number < 60 {
            served += usize::from(messages.iter().any(|message| message["op"] == "reply"));
        }
    }
    others.take_leave(&mut waits);
    assert!(served > 0, "who is not told goodbye yet is served");
    assert!(waits.iter().all(|wait| (1000..=6000).contains(wait)), "{waits:?}");
    assert!(waits.len() > 100, "clients come back at different times: {}", waits.len());
    let status = within(tokio::task::spawn_blocking(move || {
        let status = gateway.wait();
        assert!(!gateway.log().contains("were cut"), "{}", gateway.log());
        status
    }));
    assert_eq!(status.await.unwrap().code(), Some(0));
}

#[test]
fn readiness_is_false_while_everybody_is_served_on_before_a_drain() {
    let mut gateway = Gateway::with().set("drain.pause_ms=600000").gateway();
    let mut before = gateway.client();
    before.ping();
    assert_eq!(gateway.ready().0, 200);
    gateway.signal(Signal::TERM);
    eventually("it is not ready", || gateway.ready().0 == 503);
    assert_eq!(gateway.ready().1["draining"], true);
    gateway.until("ipc_gateway_draining", 1.0);
    before.ping();
    gateway.client().ping();
    let mut kept = http(&gateway, PUBLISH);
    let head = until(&mut kept, "\r\n\r\n");
    assert!(!head.to_ascii_lowercase().contains("connection: close"), "{head}");
    // And who will not wait for the end of the pause need not.
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!gateway.socket().exists(), "a fast end leaves no socket either");
    assert!(gateway.log().contains("stopped at once by a second signal"), "{}", gateway.log());
    before.expect_closed();
}

#[tokio::test]
async fn a_fast_end_removes_the_socket_file_before_the_process_may_go() {
    let gateway = Running::start(&[("drain.pause_ms", "600000")]).await;
    let peer = gateway.peer().await;
    assert_eq!(gateway.stop_at_once(PATIENCE).await, (1, false), "one is cut, and no file is left");
    drop(peer);
}

#[test]
fn the_drain_follows_the_pause() {
    let mut gateway = Gateway::with().set("drain.pause_ms=300").gateway();
    let mut client = gateway.client();
    client.ping();
    let began = Instant::now();
    gateway.signal(Signal::TERM);
    client.expect_closed();
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn out_of_descriptors_accepting_pauses_and_recovers() {
    const DESCRIPTORS: u32 = 64;
    let gateway = Gateway::with().descriptors_max(DESCRIPTORS).gateway();
    let mut served = gateway.client();
    served.ping();
    // More than there is room for: the system keeps those that are not accepted.
    let crowd: Vec<Client> = (0..DESCRIPTORS + 16).map(|_| gateway.client()).collect();
    let failures = || {
        let log = gateway.log();
        let of = |door: &str| {
            let lines = log.lines().filter(|line| line.contains("cannot accept a connection"));
            lines.filter(|line| line.contains(door)).count()
        };
        (of("unix"), of("http"))
    };
    eventually("none is left", || failures().0 > 0);
    let mut waiting = http(&gateway, PUBLISH);
    eventually("both doors fail to accept", || {
        let (unix, http) = failures();
        unix >= 5 && http >= 5
    });
    served.ping();
    drop(crowd);
    until(&mut waiting, "\r\n\r\n");
    gateway.client().ping();
    let metrics = gateway.metrics();
    for door in ["unix", "http"] {
        let failures = metrics.of(&format!("ipc_gateway_door_accept_failures_total{{door=\"{door}\"}}"));
        // Without pauses it would be thousands.
        assert!((5.0..100.0).contains(&failures), "{door}: {failures}");
    }
    gateway.stop();
}
