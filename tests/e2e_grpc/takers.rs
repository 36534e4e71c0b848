//! Clients that take nothing of what they are sent: each is let go, and others are not.

use bytes::Bytes;

use crate::calls::{Connection, answer, framed, question};
use crate::running::{Running, within};

const DEADLINE_EXCEEDED: u8 = 4;
const MEMORY: &str = "ipc_gateway_memory_used_bytes";
/// The least that can be set.
const WRITE_TIMEOUT: [(&str, &str); 1] = [("grpc.write_timeout_ms", "100")];

/// A window that is shut, or has room for a part of the answer, with a connection that is alive meanwhile.
#[tokio::test]
async fn an_answer_that_its_client_does_not_take_ends_the_connection() {
    let gateway = Running::start(&WRITE_TIMEOUT).await;
    // One who waits longer than any of them, for messages that do not come.
    let patient = Connection::open(gateway.grpc).await;
    let (response, mut send) = patient.begin("Subscribe", &[]).await;
    send.send_data(framed(0, &[&[0x0a, 5][..], b"quiet"].concat()), true).unwrap();
    let _subscribed = within(response).await.unwrap();
    for window in [0, 10, 70_000] {
        let deaf = Connection::open_with_window(gateway.grpc, window).await;
        let (response, mut send) = deaf.begin("Session", &[]).await;
        let _head = within(response).await.unwrap();
        for id in 1..=20 {
            let question = request("echo", &[b'x'; 8000]);
            send.send_data(framed(0, &said(id, &question)), false).unwrap();
        }
        deaf.closed().await;
        gateway.until("connections", 1).await;
        gateway.until_metric(MEMORY, 0).await;
        // An answer alone, small as it is.
        let deaf = Connection::open_with_window(gateway.grpc, window.min(10)).await;
        let (_response, mut send) = deaf.begin("Request", &[]).await;
        send.send_data(framed(0, &question("echo", b"hello")), true).unwrap();
        deaf.closed().await;
    }
    gateway.until("connections", 1).await;
    patient.expect_echo().await;
}

/// A call beside an answer that is not taken is told what became of it.
#[tokio::test]
async fn a_call_beside_it_is_answered() {
    let gateway = Running::start(&[WRITE_TIMEOUT[0], ("routes.local.timeout_ms", "1500")]).await;
    let deaf = Connection::open_with_window(gateway.grpc, 0).await;
    let (response, mut send) = deaf.begin("Session", &[]).await;
    let _head = within(response).await.unwrap();
    send.send_data(framed(0, &said(1, &request("echo", &[b'x'; 8000]))), false).unwrap();
    // Far longer than what an answer may wait, and answered with a status alone, which needs no window.
    let (waiting, mut asked) = deaf.begin("Request", &[]).await;
    asked.send_data(framed(0, &question("silent", b"")), true).unwrap();
    let answer = answer(waiting).await;
    assert_eq!(answer.status(), Some(DEADLINE_EXCEEDED), "{answer:?}");
    deaf.closed().await;
    gateway.until_metric(MEMORY, 0).await;
}

/// A `RequestRequest` to `demo.<what>` with a payload of any length.
fn request(what: &str, payload: &[u8]) -> Bytes {
    let subject = format!("demo.{what}");
    let head = [&[0x0a, u8::try_from(subject.len()).unwrap()], subject.as_bytes(), &[0x1a]].concat();
    [&head[..], &length(payload.len()), payload].concat().into()
}

/// A `SessionRequest` that asks.
fn said(id: u8, question: &[u8]) -> Bytes {
    [&[0x08, id, 0x12][..], &length(question.len()), question].concat().into()
}

/// A length of two bytes (Protocol Buffers, "Base 128 Varints").
fn length(bytes: usize) -> [u8; 2] {
    [0x80 | u8::try_from(bytes & 0x7f).unwrap(), u8::try_from(bytes >> 7).unwrap()]
}
