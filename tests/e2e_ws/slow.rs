//! A peer that does not read costs its own queue: it is told exactly what it lost, and nobody else waits.

use serde_json::json;

use crate::peer::{Peer, TEXT, frame};
use crate::running::Running;

/// Messages published, and in how many steps of how many.
const STEPS: u64 = 60;
const STEP: u64 = 32;
/// Peers that read.
const READERS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_reads_is_told_its_exact_gap_and_the_others_get_everything() {
    let gateway = Running::start(&[
        ("hub.queue_messages_max", "64"),
        // Longer than a busy machine takes for all of this.
        ("websocket.write_timeout_ms", "300000"),
    ])
    .await;
    let subscribe = "{\"op\":\"subscribe\",\"id\":1,\"subject\":\"flood\"}";
    let mut slow = Peer::open_small(gateway.http, "ipc-gateway.v1+json").await;
    slow.say(subscribe).await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = gateway.peer().await;
        reader.say(subscribe).await;
        assert_eq!(reader.json().await["op"], "accepted");
        readers.push(reader);
    }
    gateway.until("streams", i64::try_from(READERS).unwrap() + 1).await;
    let mut publisher = gateway.peer().await;
    let filler = "x".repeat(1500);
    for step in 0..STEPS {
        let mut bytes = Vec::new();
        for number in step * STEP..(step + 1) * STEP {
            let payload = json!({"number": number, "filler": filler});
            let publish = json!({"op": "publish", "subject": "flood", "payload": payload}).to_string();
            bytes.extend_from_slice(&frame(TEXT, publish.as_bytes()));
        }
        publisher.send_bytes(&bytes).await;
        for reader in &mut readers {
            for number in step * STEP..(step + 1) * STEP {
                let (_, delivery) = reader.frame().await;
                let expected = format!("\"number\":{number}}}}}");
                let found = delivery.ends_with(expected.as_bytes());
                assert!(found, "number {number}: {}", String::from_utf8_lossy(&delivery));
            }
        }
    }
    // Now the slow one reads: what was kept for it is in order, and every hole has its exact size.
    assert_eq!(slow.json().await["op"], "accepted");
    let (mut next, mut lost) = (0, 0);
    while next < STEPS * STEP {
        let told = slow.json().await;
        if told["op"] == "gap" {
            let gap = told["lost"].as_u64().unwrap_or_else(|| panic!("{told}"));
            next += gap;
            lost += gap;
        } else {
            assert_eq!(told["payload"]["number"], next, "{told}");
            next += 1;
        }
    }
    println!("lost {lost} of {} while it did not read", STEPS * STEP);
    assert!(next == STEPS * STEP && lost > 0, "it fell behind, and is even now");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_dropped_after_a_while() {
    let gateway = Running::start(&[("websocket.write_timeout_ms", "300")]).await;
    let mut deaf = Peer::open_small(gateway.http, "ipc-gateway.v1+json").await;
    let large = "x".repeat(1 << 20);
    let request =
        |id| json!({"op": "request", "id": id, "subject": "demo.echo", "payload": large}).to_string();
    // As many answers as fit nobody's socket buffer.
    for id in 0..8 {
        use tokio::io::AsyncWriteExt;
        // It stops reading, too: then this is not taken either.
        let send = deaf.0.get_mut().write_all(&frame(TEXT, request(id).as_bytes())).await;
        if send.is_err() {
            break;
        }
        if gateway.count("connections").await == 0 {
            break;
        }
    }
    gateway.until("connections", 0).await;
    gateway.until("in_flight", 0).await;
}

#[tokio::test]
async fn a_peer_that_vanishes_while_it_is_not_read_from_is_noticed_too() {
    let settings = [("websocket.in_flight_max", "4"), ("websocket.ping_interval_ms", "300000")];
    let gateway = Running::start(&settings).await;
    for is_reset in [false, true] {
        let mut peer = gateway.peer().await;
        // More than are heard.
        for id in 0..6 {
            let silent = json!({"op": "request", "id": id, "subject": "demo.silent", "timeout_ms": 30_000});
            peer.say(&silent.to_string()).await;
        }
        gateway.until("in_flight", 4).await;
        let began = std::time::Instant::now();
        if is_reset {
            peer.0.get_ref().set_zero_linger().unwrap();
        }
        drop(peer);
        gateway.until("connections", 0).await;
        gateway.until("in_flight", 0).await;
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(4), "{took:?}, reset: {is_reset}");
    }
}

#[tokio::test]
async fn a_subscription_that_is_read_too_slowly_ends_alone_where_that_is_its_policy() {
    let gateway = Running::start(&[("websocket.write_timeout_ms", "300000")]).await;
    let mut slow = Peer::open_small(gateway.http, "ipc-gateway.v1+json").await;
    let impatient = json!({
        "op": "subscribe", "id": 1, "subject": "flood", "queue_policy": "disconnect", "queue_messages_max": 4,
    });
    slow.say(&impatient.to_string()).await;
    assert_eq!(slow.json().await["op"], "accepted");
    slow.say("{\"op\":\"subscribe\",\"id\":2,\"subject\":\"other\"}").await;
    assert_eq!(slow.json().await["op"], "accepted");
    let mut publisher = gateway.peer().await;
    let filler = "x".repeat(1 << 16);
    let publish = json!({"op": "publish", "id": 1, "subject": "flood", "payload": filler}).to_string();
    // More than the system keeps for it.
    for _ in 0..256 {
        publisher.say(&publish).await;
        assert_eq!(publisher.json().await["op"], "accepted");
    }
    let told = loop {
        let told = slow.json().await;
        if told["op"] != "delivery" {
            break told;
        }
    };
    assert_eq!(
        (&told["op"], &told["id"], &told["error"]["kind"]),
        (&"error".into(), &1.into(), &"slow_consumer".into()),
        "{told}"
    );
    // The connection and its other subscription go on.
    publisher.say("{\"op\":\"publish\",\"subject\":\"other\",\"payload\":7}").await;
    let delivery = slow.json().await;
    assert_eq!((&delivery["id"], &delivery["payload"]), (&2.into(), &7.into()), "{delivery}");
    slow.say("{\"op\":\"ping\",\"id\":3}").await;
    assert_eq!(slow.json().await["op"], "pong");
}
