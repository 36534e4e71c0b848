//! Attacks by not reading: what is meant for whoever does not read is many times the memory.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::Scene;
use super::wire::{Http2, grpc_message, push, question, subscription, text_frame, unix, web_socket};
use crate::gateway::{PATIENCE, eventually};

/// What attackers hold.
#[derive(Debug, Default)]
pub(super) struct Held {
    unix: Vec<UnixStream>,
    tcp: Vec<TcpStream>,
    http2: Vec<Http2>,
}

/// Row 18: clients that never read, while many times the memory is published for them, and one that does.
pub(super) fn frozen_subscribers(scene: &Scene) -> Held {
    const MESSAGES: usize = 2400;
    const PAYLOAD_BYTES: usize = 60_000;
    /// Of each kind. Each keeps a message or more unwritten, beside what the system keeps for it.
    const CLIENTS: usize = 20;
    let mut held = Held::default();
    let subscribe = |subject: &str| json!({"op": "subscribe", "id": 1, "subject": subject}).to_string();
    for number in 0..CLIENTS {
        // With a pattern of its own each, so that each is a queue that nobody else's messages pass; but one that all have.
        for subject in ["flood".to_owned(), format!("alone.{number}.unix")] {
            let stream = unix(scene);
            push(&stream, subscribe(&subject).as_bytes());
            held.unix.push(stream);
        }
        let stream = web_socket(scene);
        push(&stream, &text_frame(&subscribe(&format!("alone.{number}.web"))));
        held.tcp.push(stream);
        let stream = scene.http();
        let head = format!("GET /v1/subscribe/alone.{number}.http HTTP/1.1\r\nHost: localhost\r\n\r\n");
        push(&stream, head.as_bytes());
        held.tcp.push(stream);
    }
    let address = scene.gateway.grpc();
    let calls = async {
        for number in 0..CLIENTS {
            let mut connection = Http2::open(address).await.unwrap();
            let message = subscription(&format!("alone.{number}.grpc"));
            let body = grpc_message(false, message.len(), &message);
            connection.call("Subscribe", "identity", body, true).await.unwrap();
            connection.heads().await;
            held.http2.push(connection);
        }
    };
    scene.runtime.block_on(async { timeout(PATIENCE, calls).await }).unwrap();
    let mut lively = scene.gateway.json();
    lively.write(subscribe("flood"));
    assert!(lively.line().contains("accepted"));
    scene.gateway.until("ipc_gateway_streams", f64::from(5 * u16::try_from(CLIENTS).unwrap() + 1));

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut read, mut lost) = (0, 0);
            while read + lost < MESSAGES as u64 / 4 {
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
        let doors = ["unix", "web", "http", "grpc"];
        for number in 0..MESSAGES {
            let alone = format!("alone.{}.{}", number / 4 % CLIENTS, doors[number % 4]);
            let subjects = ["flood", &alone];
            let subjects = if number % 4 == 0 { &subjects[..] } else { &subjects[1..] };
            for subject in subjects {
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
    held
}

/// Answers of many messages for whoever does not read them: 256 connections with as many questions as each may have.
pub(super) fn streamed_answers(scene: &Scene) -> Held {
    const CLIENTS: usize = 32;
    const QUESTIONS: usize = 60;
    let mut held = Held::default();
    for _ in 0..CLIENTS {
        let stream = unix(scene);
        for id in 0..QUESTIONS {
            let ask = json!({"op": "request", "id": id, "subject": "demo.count", "payload": 1000});
            push(&stream, ask.to_string().as_bytes());
        }
        held.unix.push(stream);
        let stream = web_socket(scene);
        for id in 0..QUESTIONS {
            let ask = json!({"op": "request", "id": id, "subject": "demo.count", "payload": 1000});
            push(&stream, &text_frame(&ask.to_string()));
        }
        held.tcp.push(stream);
    }
    let address = scene.gateway.grpc();
    let message = question("demo.count", b"1000");
    let body = grpc_message(false, message.len(), &message);
    let calls = async {
        for _ in 0..CLIENTS {
            let Some(mut connection) = Http2::open(address).await else { continue };
            for _ in 0..QUESTIONS {
                let _ = connection.call("RequestStream", "identity", body.clone(), true).await;
            }
            let _ = timeout(Duration::from_secs(1), connection.heads()).await;
            held.http2.push(connection);
        }
    };
    scene.runtime.block_on(async { timeout(PATIENCE, calls).await }).unwrap();
    held
}

/// Answers as large as they may be for whoever does not read them, on all doors at once.
pub(super) fn large_answers(scene: &Scene) -> Held {
    const CLIENTS: usize = 64;
    const BYTES: usize = 2 << 20;
    let mut held = Held::default();
    let payload = "x".repeat(BYTES);
    let ask = json!({"op": "request", "id": 1, "subject": "demo.echo", "payload": payload}).to_string();
    let head = "POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\n";
    let post = format!("{head}Content-Length: {BYTES}\r\n\r\n{payload}");
    for _ in 0..CLIENTS {
        let stream = unix(scene);
        push(&stream, ask.as_bytes());
        held.unix.push(stream);
        let stream = web_socket(scene);
        push(&stream, &text_frame(&ask));
        held.tcp.push(stream);
        let stream = scene.http();
        push(&stream, post.as_bytes());
        held.tcp.push(stream);
    }
    let address = scene.gateway.grpc();
    let message = question("demo.echo", payload.as_bytes());
    let body = grpc_message(false, message.len(), &message);
    let calls = async {
        for _ in 0..CLIENTS {
            let Some(mut connection) = Http2::open(address).await else { continue };
            let _ = connection.call("Request", "identity", body.clone(), true).await;
            let _ = timeout(Duration::from_secs(1), connection.heads()).await;
            held.http2.push(connection);
        }
    };
    scene.runtime.block_on(async { timeout(2 * PATIENCE, calls).await }).unwrap();
    held
}
