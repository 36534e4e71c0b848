//! Well-formed HTTP/2 with something wrong in it: each gets the status that is documented, and none hangs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use hyper::http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::calls::{Connection, answer, framed, question};
use crate::running::{Running, within};

const INVALID_ARGUMENT: u8 = 3;
const DEADLINE_EXCEEDED: u8 = 4;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;

/// What it is, its metadata, its body, the status.
type Case<'a> = (&'a str, Vec<(&'a str, &'a [u8])>, Bytes, u8);

#[tokio::test]
async fn a_bad_message_gets_the_status_that_is_documented() {
    let gateway = Running::start(&[]).await;
    let connection = Connection::open(gateway.grpc).await;
    let echo = question("echo", b"hello");
    let large = u32::MAX.to_be_bytes();
    let cases: [Case<'_>; 11] = [
        ("a flag that is none", vec![], framed(2, &echo), INTERNAL),
        ("compressed with nothing", vec![], framed(1, &echo), INTERNAL),
        ("not what it is compressed with", vec![("grpc-encoding", b"gzip")], framed(1, &echo), INTERNAL),
        ("an encoding nobody knows", vec![("grpc-encoding", b"snappy")], framed(1, &echo), UNIMPLEMENTED),
        ("a message that is cut", vec![], framed(0, &echo).slice(..9), INTERNAL),
        ("a prefix that is cut", vec![], Bytes::from_static(&[0, 0]), INTERNAL),
        ("no message", vec![], Bytes::new(), INTERNAL),
        ("a length of 4 GiB", vec![], [&[0], &large[..], b"x"].concat().into(), RESOURCE_EXHAUSTED),
        ("bytes that are no message", vec![], framed(0, b"\xff\xff\xff"), INTERNAL),
        ("a subject that is not UTF-8", vec![], framed(0, b"\x0a\x01\xff"), INTERNAL),
        ("metadata that is not UTF-8", vec![("x-request-id", b"\xff")], framed(0, &echo), INVALID_ARGUMENT),
    ];
    for (what, headers, body, expected) in cases {
        let answer = connection.call("Request", &headers, body.clone()).await;
        assert_eq!((answer.http, answer.status()), (200, Some(expected)), "{what}: {answer:?}");
        if expected == UNIMPLEMENTED {
            assert!(answer.told["grpc-accept-encoding"].to_str().unwrap().contains("gzip"));
        }
    }
    assert!(gateway.count("protocol_errors_total").await >= 9);
    // The same in streams of messages.
    for method in ["PublishMany", "Session"] {
        let answer = connection.call(method, &[], framed(2, &echo)).await;
        assert_eq!(answer.status(), Some(INTERNAL), "{method}: {answer:?}");
        let answer = connection.call(method, &[], [&[0], &large[..], b"x"].concat().into()).await;
        assert_eq!(answer.status(), Some(RESOURCE_EXHAUSTED), "{method}: {answer:?}");
    }
    connection.expect_echo().await;
    gateway.until_metric("ipc_gateway_memory_used_bytes", 0).await;
}

#[tokio::test]
async fn a_bad_deadline_is_refused_and_an_odd_one_is_kept() {
    let gateway = Running::start(&[]).await;
    let connection = Connection::open(gateway.grpc).await;
    let ask = async |timeout: &'static [u8], what: &'static str| {
        let body = framed(0, &question(what, b"hello"));
        let answer = connection.call("Request", &[("grpc-timeout", timeout)], body).await;
        (answer.status(), answer)
    };
    for bad in [&b""[..], b"1", b"S", b"123456789n", b"-1S", b"1.5S", b"1s", b"1 S", b"\xff"] {
        let (status, answer) = ask(bad, "echo").await;
        assert_eq!(status, Some(INVALID_ARGUMENT), "{bad:?}: {answer:?}");
    }
    for (timeout, what, expected) in [
        (&b"0S"[..], "echo", DEADLINE_EXCEEDED),
        (b"00000000n", "echo", DEADLINE_EXCEEDED),
        (b"1n", "silent", DEADLINE_EXCEEDED),
        (b"100m", "silent", DEADLINE_EXCEEDED),
        (b"100000u", "silent", DEADLINE_EXCEEDED),
        (b"99999999H", "echo", 0),
        (b"00000001M", "echo", 0),
    ] {
        let (status, answer) = ask(timeout, what).await;
        assert_eq!(status, Some(expected), "{timeout:?}: {answer:?}");
    }
    gateway.until("in_flight", 0).await;
}

#[tokio::test]
async fn a_message_that_never_ends_is_over_with_the_deadline() {
    let gateway = Running::start(&[]).await;
    let connection = Connection::open(gateway.grpc).await;
    for method in ["Request", "Publish", "Subscribe", "PublishMany"] {
        let (response, mut send) = connection.begin(method, &[("grpc-timeout", b"200m")]).await;
        send.send_data(framed(0, &question("echo", b"hello")).slice(..9), false).unwrap();
        let answer = answer(response).await;
        assert_eq!(answer.status(), Some(DEADLINE_EXCEEDED), "{method}: {answer:?}");
        let details = STANDARD_NO_PAD.decode(&answer.told["grpc-status-details-bin"]).unwrap();
        assert!(details.windows(8).any(|word| word == b"not_sent"), "{method}: {answer:?}");
    }
    // What has arrived of it is given back.
    gateway.until_metric("ipc_gateway_memory_used_bytes", 0).await;
    connection.expect_echo().await;
}

#[tokio::test]
async fn without_memory_a_message_is_refused_while_it_arrives() {
    // 1 MiB for messages: half of what is above 16 MiB, and beside the two that may be kept.
    let memory = [
        ("limits.memory_bytes_max", "27267120"),
        ("idempotency.bytes_max", "4096"),
        ("limits.peers_max", "1"),
        ("limits.payload_bytes_max", "1048576"),
    ];
    let gateway = Running::start(&memory).await;
    let connection = Connection::open(gateway.grpc).await;
    let (response, mut send) = connection.begin("Request", &[]).await;
    // Two mebibytes are promised, and what has arrived is counted, not what is promised.
    send.send_data(Bytes::from_static(&[0, 0, 0x20, 0, 0]), false).unwrap();
    connection.expect_echo().await;
    send.send_data(vec![0; 2 << 20].into(), true).unwrap();
    let answer = answer(response).await;
    assert_eq!(answer.status(), Some(UNAVAILABLE), "{answer:?}");
    gateway.until_metric("ipc_gateway_memory_used_bytes", 0).await;
    connection.expect_echo().await;
}

#[tokio::test]
async fn a_reset_while_waiting_gives_everything_back() {
    let gateway = Running::start(&[]).await;
    let connection = Connection::open(gateway.grpc).await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let (response, mut send) = connection.begin("Request", &[]).await;
        send.send_data(framed(0, &question("silent", b"")), true).unwrap();
        waiting.push((response, send));
    }
    gateway.until("in_flight", 20).await;
    let permits = "ipc_gateway_calls";
    gateway.until_metric(permits, 20).await;
    for (_, send) in &mut waiting {
        send.send_reset(h2::Reason::CANCEL);
    }
    gateway.until("in_flight", 0).await;
    gateway.until_metric(permits, 0).await;
    assert_eq!(gateway.count("vanished_total").await, 20);
    connection.expect_echo().await;
    // So does a session whose client has said all.
    let (response, mut send) = connection.begin("Session", &[]).await;
    let asked = question("silent", b"");
    let said = [&[0x08, 1, 0x12, u8::try_from(asked.len()).unwrap()], &asked[..]].concat();
    send.send_data(framed(0, &said), true).unwrap();
    let head = within(response).await.unwrap();
    gateway.until("in_flight", 1).await;
    send.send_reset(h2::Reason::CANCEL);
    // Not by its deadline, which would not count it so.
    gateway.until("vanished_total", 21).await;
    gateway.until("in_flight", 0).await;
    drop(head);
    // And so does a connection that breaks.
    let other = Connection::open(gateway.grpc).await;
    let (_response, mut send) = other.begin("Request", &[]).await;
    send.send_data(framed(0, &question("silent", b"")), true).unwrap();
    gateway.until("in_flight", 1).await;
    drop(other);
    gateway.until("in_flight", 0).await;
    gateway.until_metric(permits, 0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_its_own_queue() {
    let gateway = Running::start(&[]).await;
    // Not a byte of a body fits its window, so nobody takes the session's answers.
    let deaf = Connection::open_with_window(gateway.grpc, 0).await;
    let (response, mut send) = deaf.begin("Session", &[]).await;
    let head = within(response).await.unwrap();
    for id in 1..=20 {
        let question = question("slow", b"200");
        let length = u8::try_from(question.len()).unwrap();
        let said = [&[0x08, id, 0x12, length], &question[..]].concat();
        send.send_data(framed(0, &said), false).unwrap();
    }
    gateway.until("in_flight", 20).await;
    // They are answered nevertheless, and hold no permits.
    gateway.until("in_flight", 0).await;
    gateway.until_metric("ipc_gateway_calls", 0).await;
    assert!(gateway.metric("ipc_gateway_memory_used_bytes").await > 0, "the answers wait");
    Connection::open(gateway.grpc).await.expect_echo().await;
    drop((head, send, deaf));
    gateway.until("connections", 0).await;
    gateway.until_metric("ipc_gateway_memory_used_bytes", 0).await;
}

#[tokio::test]
async fn what_is_not_grpc_is_told_so() {
    let gateway = Running::start(&[]).await;
    let stream = TcpStream::connect(gateway.grpc).await.unwrap();
    let (mut sender, connection) = within(h2::client::handshake(stream)).await.unwrap();
    let task = tokio::spawn(connection);
    for (content_type, expected) in
        [("application/json", 415), ("application/grpcx", 415), ("", 415), ("application/grpc+proto", 200)]
    {
        let request = Request::post("http://localhost/gateway.v1.Gateway/Request");
        let request = request.header("content-type", content_type).body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        assert_eq!(within(response).await.unwrap().status().as_u16(), expected, "{content_type}");
    }
    drop(sender);
    task.abort();
    // HTTP/1.1 without gRPC-Web, and what is no HTTP at all.
    let say = async |bytes: &'static [u8]| {
        let mut stream = TcpStream::connect(gateway.grpc).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut text = Vec::new();
        drop(within(stream.read_to_end(&mut text)).await);
        String::from_utf8_lossy(&text).into_owned()
    };
    let answer = say(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
    let answer = say(b"{\"op\":\"request\",\"id\":1,\"subject\":\"demo.echo\"}\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    Connection::open(gateway.grpc).await.expect_echo().await;
}
