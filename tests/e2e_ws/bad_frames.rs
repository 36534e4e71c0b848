//! What breaks the WebSocket protocol, or the door's bounds: each is closed on with its code, alone.

use std::time::Duration;

use tokio::time::Instant;

use crate::peer::{BINARY, CLOSE, PING, PONG, Peer, TEXT, frame};
use crate::running::{Running, within};

#[tokio::test]
async fn frames_that_break_the_protocol_are_closed_on_with_their_code() {
    let gateway = Running::start(&[]).await;
    let mut witness = gateway.peer().await;
    let text = |bytes: &[u8]| frame(TEXT, bytes);
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", vec![0x81, 2, b'{', b'}'], 1002),
        ("reserved bit 1", frame(0xC1, b"{}"), 1002),
        ("reserved bit 2", frame(0xA1, b"{}"), 1002),
        ("reserved bit 3", frame(0x91, b"{}"), 1002),
        ("opcode 3", frame(0x83, b""), 1002),
        ("opcode 11", frame(0x8B, b""), 1002),
        ("a fragmented ping", frame(0x09, b""), 1002),
        ("a ping of 126 bytes", frame(PING, &[0; 126]), 1002),
        ("a continuation of nothing", frame(0x80, b""), 1002),
        ("a message within another", [frame(0x01, b"{"), text(b"{}")].concat(), 1002),
        ("the top bit of a length", [&[0x82, 0xFF, 0x80][..], &[0; 7], &[1; 4]].concat(), 1002),
        ("every bit of a length", [&[0x82, 0xFF][..], &[0xFF; 8], &[1; 4]].concat(), 1002),
        ("a large length", [&[0x82, 0xFF, 0x7F][..], &[0xFF; 7], &[1; 4]].concat(), 1009),
        ("more than a message may have", frame(TEXT, &vec![b' '; (4 << 20) + 1])[..14].to_vec(), 1009),
        ("text that is not UTF-8", text(b"{\"op\":\"\xff\"}"), 1007),
        ("a text that ends within a character", text(b"\xe2\x82"), 1007),
        ("a close code of one byte", frame(CLOSE, b"\x03"), 1002),
        ("close code 1005", frame(CLOSE, &1005_u16.to_be_bytes()), 1002),
        ("close code 999", frame(CLOSE, &999_u16.to_be_bytes()), 1002),
        ("close code 5000", frame(CLOSE, &5000_u16.to_be_bytes()), 1002),
        ("a reason that is not UTF-8", frame(CLOSE, b"\x03\xe8\xff"), 1007),
        ("a binary message where text was agreed on", frame(BINARY, b"{}"), 1003),
        ("a close with nothing", frame(CLOSE, b""), 1000),
        ("a close of its own", frame(CLOSE, &4000_u16.to_be_bytes()), 4000),
    ];
    for (what, bytes, code) in cases {
        let mut peer = gateway.peer().await;
        peer.send_bytes(&bytes).await;
        assert_eq!(peer.closed().await, code, "{what}");
    }
    witness.say("{\"op\":\"ping\",\"id\":1}").await;
    assert_eq!(witness.json().await["op"], "pong", "the others were not affected");
    gateway.until("connections", 1).await;
}

#[tokio::test]
async fn a_million_empty_fragments_are_too_many() {
    let gateway = Running::start(&[]).await;
    let mut peer = gateway.peer().await;
    peer.send(0x01, b"").await;
    let some = frame(0x00, b"").repeat(1000);
    for _ in 0..1000 {
        use tokio::io::AsyncWriteExt;
        // It is closed on long before the last of them.
        if peer.0.get_mut().write_all(&some).await.is_err() {
            break;
        }
    }
    assert_eq!(peer.closed().await, 1008);
    gateway.until("connections", 0).await;
}

#[tokio::test]
async fn pings_are_answered_up_to_their_budget() {
    let gateway = Running::start(&[("websocket.pings_per_second_max", "5")]).await;
    let mut peer = gateway.peer().await;
    for number in 0..5_u8 {
        peer.send(PING, &[number]).await;
        assert_eq!(peer.frame().await, (PONG, vec![number]));
    }
    peer.send_bytes(&frame(PING, b"").repeat(1000)).await;
    let mut pongs = 0;
    let code = loop {
        let (first, payload) = within(peer.read_frame()).await;
        if first == CLOSE {
            break u16::from_be_bytes([payload[0], payload[1]]);
        }
        pongs += usize::from(first == PONG);
        assert!(pongs < 1000, "every ping of a flood was answered");
    };
    assert_eq!(code, 1008);
}

#[tokio::test]
async fn a_message_that_does_not_end_is_not_waited_for() {
    let gateway = Running::start(&[("websocket.message_timeout_ms", "200")]).await;
    let starts = [vec![0x81], frame(TEXT, b"{\"op\":\"ping\"}")[..9].to_vec(), frame(0x01, b"{")];
    for start in starts {
        let mut peer = gateway.peer().await;
        peer.send_bytes(&start).await;
        assert_eq!(peer.closed().await, 4408, "{start:?}");
    }
    // Whole messages do not add up to a long one.
    let mut peer = gateway.peer().await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(500) {
        peer.say("{\"op\":\"ping\",\"id\":1}").await;
        assert_eq!(peer.json().await["op"], "pong");
    }
}

#[tokio::test]
async fn a_peer_is_pinged_and_closed_on_when_it_is_silent() {
    let gateway = Running::start(&[("websocket.ping_interval_ms", "150")]).await;
    let mut answering = gateway.peer().await;
    let silent = tokio::spawn({
        let mut silent = gateway.peer().await;
        async move {
            assert_eq!(silent.read_frame().await.0, PING);
            silent
        }
    });
    for _ in 0..4 {
        let (first, payload) = within(answering.read_frame()).await;
        assert_eq!(first, PING);
        answering.send(PONG, &payload).await;
    }
    assert_eq!(code_of(silent.await.unwrap()).await, 4408);
}

/// The code that a peer is closed with which answers nothing.
async fn code_of(mut peer: Peer) -> u16 {
    let (first, payload) = within(peer.read_frame()).await;
    assert_eq!(first, CLOSE);
    u16::from_be_bytes([payload[0], payload[1]])
}
