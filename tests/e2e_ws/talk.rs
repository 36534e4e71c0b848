//! What is said over one socket: many requests at once, publishes, subscriptions, in both forms.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::peer::{BINARY, Peer, TEXT, frame};
use crate::running::Running;

#[tokio::test]
async fn a_thousand_requests_are_answered_by_their_ids_and_not_in_their_order() {
    let gateway = Running::start(&[]).await;
    let mut peer = gateway.peer().await;
    peer.say(&json!({"op": "request", "id": "slow", "subject": "demo.slow", "payload": 300}).to_string())
        .await;
    let mut all = Vec::new();
    for id in 0..1000 {
        let request = json!({"op": "request", "id": id, "subject": "demo.echo", "payload": {"n": id}});
        all.extend_from_slice(&frame(TEXT, request.to_string().as_bytes()));
    }
    peer.send_bytes(&all).await;
    let mut answered = HashSet::new();
    for number in 0..1000 {
        let reply = peer.json().await;
        assert_eq!(reply["op"], "reply", "{reply}");
        let id = reply["id"].as_u64().unwrap_or_else(|| panic!("number {number}: {reply}"));
        assert_eq!(reply["payload"], json!({"n": id}));
        assert!(answered.insert(id), "{id} is answered once");
    }
    let last = peer.json().await;
    assert_eq!((&last["id"], &last["payload"]["waited_ms"]), (&"slow".into(), &300.into()), "{last}");
    gateway.until("in_flight", 0).await;
}

#[tokio::test]
async fn an_id_in_use_is_a_conflict_and_a_cancelled_request_is_told() {
    let gateway = Running::start(&[]).await;
    let mut peer = gateway.peer().await;
    let slow = json!({"op": "request", "id": 1, "subject": "demo.slow", "payload": 60000}).to_string();
    peer.say(&slow).await;
    peer.say(&slow).await;
    let conflict = peer.json().await;
    assert_eq!((&conflict["op"], &conflict["error"]["kind"]), (&"error".into(), &"conflict".into()));
    gateway.until("in_flight", 1).await;
    peer.say("{\"op\":\"cancel\",\"id\":1}").await;
    let cancelled = peer.json().await;
    assert_eq!((&cancelled["id"], &cancelled["error"]["kind"]), (&1.into(), &"cancelled".into()));
    gateway.until("in_flight", 0).await;
    // What a peer that goes away leaves behind is cancelled too.
    peer.say(&slow).await;
    gateway.until("in_flight", 1).await;
    drop(peer);
    gateway.until("in_flight", 0).await;
    assert_eq!(gateway.count("vanished_total").await, 1);
}

#[tokio::test]
async fn publishes_and_subscriptions_meet_over_two_sockets() {
    let gateway = Running::start(&[("embedded.tick_ms", "10")]).await;
    let (mut listener, mut speaker) = (gateway.peer().await, gateway.peer().await);
    listener.say("{\"op\":\"subscribe\",\"id\":\"s\",\"subject\":\"chat.*\"}").await;
    assert_eq!(listener.json().await, json!({"op": "accepted", "id": "s"}));
    speaker.say("{\"op\":\"publish\",\"id\":7,\"subject\":\"chat.room\",\"payload\":[1,2]}").await;
    assert_eq!(speaker.json().await, json!({"op": "accepted", "id": 7}));
    let delivery = listener.json().await;
    assert_eq!(
        (&delivery["op"], &delivery["subject"]),
        (&"delivery".into(), &"chat.room".into()),
        "{delivery}"
    );
    assert_eq!(delivery["payload"], json!([1, 2]));
    listener.say("{\"op\":\"unsubscribe\",\"id\":\"s\"}").await;
    assert_eq!(listener.json().await, json!({"op": "end", "id": "s"}));
    gateway.until("streams", 0).await;

    listener.say("{\"op\":\"subscribe\",\"id\":1,\"subject\":\"demo.tick\"}").await;
    assert_eq!(listener.json().await["op"], "accepted");
    for _ in 0..3 {
        assert_eq!(listener.json().await["subject"], "demo.tick");
    }
}

#[tokio::test]
async fn what_is_no_envelope_is_answered_and_the_connection_stays() {
    let gateway = Running::start(&[]).await;
    let mut peer = gateway.peer().await;
    for (said, kind) in [
        ("{\"task_id\":\"t1\",\"payload\":\"hello\"}", "unsupported"),
        ("{\"op\":\"submit\",\"id\":1}", "unsupported"),
        ("nonsense", "malformed"),
        ("", "malformed"),
        ("[1]", "malformed"),
        ("{\"op\":\"request\",\"subject\":\"demo.echo\"}", "malformed"),
        ("{\"op\":\"ping\"}{\"op\":\"ping\"}", "malformed"),
    ] {
        peer.say(said).await;
        let error = peer.json().await;
        assert_eq!(
            (&error["op"], &error["error"]["kind"]),
            (&"error".into(), &kind.into()),
            "{said}: {error}"
        );
    }
    peer.say(" {\"op\":\"ping\",\"id\":2}\n").await;
    assert_eq!(peer.json().await, json!({"op": "pong", "id": 2}));
    // In fragments, with a ping between them.
    peer.send(0x01, b"{\"op\":\"req").await;
    peer.send(crate::peer::PING, b"?").await;
    assert_eq!(peer.frame().await, (crate::peer::PONG, b"?".to_vec()));
    peer.send(0x80, b"uest\",\"id\":3,\"subject\":\"demo.echo\",\"payload\":\"x\"}").await;
    assert_eq!(peer.json().await["payload"], "x");
}

/// A frame of version 2 with an id.
fn version2(kind: u8, id: u64, fields: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    for (tag, value) in fields {
        all.push(*tag);
        all.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        all.extend_from_slice(value);
    }
    let length = u32::try_from(18 + all.len() + payload.len()).unwrap();
    let fields = u16::try_from(all.len()).unwrap();
    [&length.to_be_bytes()[..], &[2, kind, 2, 0], &id.to_be_bytes(), &fields.to_be_bytes(), &all, payload]
        .concat()
}

#[tokio::test]
async fn binary_messages_are_frames_of_version_2() {
    let gateway = Running::start(&[]).await;
    let mut peer = Peer::open(gateway.http, "ipc-gateway.v1+binary").await;
    let request = version2(0x22, 9, &[(0x01, b"demo.echo")], b"\x00\xffraw");
    peer.send(BINARY, &request).await;
    let (first, reply) = peer.frame().await;
    assert_eq!((first, &reply[4..6], &reply[8..16]), (BINARY, &[2, 0x32][..], &9_u64.to_be_bytes()[..]));
    assert!(reply.ends_with(b"\x00\xffraw"), "{reply:?}");
    assert_eq!(u32::from_be_bytes(reply[..4].try_into().unwrap()) as usize, reply.len());
    // A length that is not the message's, and a version that is not spoken here.
    for (at, byte) in [(3, 0), (4, 1)] {
        let mut wrong = request.clone();
        wrong[at] = byte;
        peer.send(BINARY, &wrong).await;
        let (_, error) = peer.frame().await;
        assert_eq!(error[5], 0x33, "an error: {error:?}");
    }
    peer.send(TEXT, b"{}").await;
    assert_eq!(peer.closed().await, 1003);
}

#[tokio::test]
async fn large_messages_pass_both_ways_and_too_large_ones_close() {
    let gateway = Running::start(&[]).await;
    let mut peer = gateway.peer().await;
    let large = "x".repeat(3 << 20);
    let request = json!({"op": "request", "id": 1, "subject": "demo.echo", "payload": large}).to_string();
    peer.say(&request).await;
    let reply: Value = peer.json().await;
    assert_eq!(reply["payload"].as_str().unwrap().len(), 3 << 20);
    peer.send_bytes(&frame(TEXT, &vec![b' '; (4 << 20) + 1])[..100]).await;
    assert_eq!(peer.closed().await, 1009);
}
