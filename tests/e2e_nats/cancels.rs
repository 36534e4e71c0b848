//! What a responder is told when nobody waits for its answer any more.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use async_nats::Message;
use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use crate::gateway::{Gateway, PATIENCE};
use crate::nats_server::NatsServer;
use crate::outside::{Outside, in_front_of, until_connected};

const WORK: &str = "work.long";
const CANCEL: &str = "work.cancel";

/// A deadline far beyond [`PATIENCE`]: what a test awaits does not come of it.
const LONG_MS: u64 = 200_000;

fn gateway_with(server: &NatsServer, settings: &[&str]) -> Gateway {
    let start = in_front_of(server)
        .set("routes.work.patterns=work.long")
        .set("routes.work.cancel_subject=work.cancel")
        .set("routes.work.allow=any")
        .set(&format!("routes.work.timeout_ms={LONG_MS}"));
    let gateway = settings.iter().fold(start, |start, setting| start.set(setting)).gateway();
    until_connected(&gateway);
    gateway
}

fn header(message: &Message, name: &str) -> String {
    message.headers.as_ref().unwrap().get(name).unwrap().to_string()
}

/// That `cancel` is about `request`, and gives this reason.
fn assert_cancels(cancel: &Message, request: &Message, reason: &str) {
    for name in ["Ipc-Gateway-Request-Id", "traceparent"] {
        assert_eq!(header(cancel, name), header(request, name), "{name}");
    }
    assert_eq!(header(cancel, "Ipc-Gateway-Cancel"), reason);
    assert!(cancel.payload.is_empty() && cancel.reply.is_none());
}

#[test]
fn a_request_whose_time_is_over_or_whose_peer_went_is_cancelled_and_an_answered_one_is_not() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let (mut requests, mut cancels) = (outside.listen(WORK), outside.listen(CANCEL));
    let gateway = gateway_with(&server, &[]);
    let before = gateway.metrics().held();
    let request = |id: &str, timeout: u32| {
        json!({"op": "request", "id": id, "subject": WORK, "payload": 1, "timeout_ms": timeout}).to_string()
            + "\n"
    };

    // Answered: were it cancelled, its message would come before the next one.
    let mut line = gateway.json();
    line.write(request("answered", 20_000));
    let answered = requests.next();
    requests.answer(&answered, "1");
    let reply: Value = serde_json::from_str(&line.line()).unwrap();
    assert_eq!(reply["op"], "reply", "{reply}");

    line.write(request("late", 100));
    let late = requests.next();
    assert_cancels(&cancels.next(), &late, "timed_out");
    let error: Value = serde_json::from_str(&line.line()).unwrap();
    assert_eq!(error["error"]["outcome"], "unknown", "{error}");

    line.write(request("left", 20_000));
    let left = requests.next();
    drop(line);
    assert_cancels(&cancels.next(), &left, "cancelled");

    gateway.until("ipc_gateway_nats_cancels_total", 2.0);
    gateway.until_held(&before);
    gateway.stop();
}

/// How a client ends its connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Closes,
    Resets,
    /// Over TCP that cannot be told from a peer that is gone, and counts as one.
    ClosesHalf,
}

impl End {
    const ALL: [Self; 3] = [Self::Closes, Self::Resets, Self::ClosesHalf];

    /// Ends it; what is returned is to be kept until that was noticed.
    fn of(self, stream: TcpStream) -> Option<TcpStream> {
        match self {
            Self::Closes => None,
            Self::Resets => {
                set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                None
            }
            Self::ClosesHalf => {
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                Some(stream)
            }
        }
    }
}

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.http()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn post(payload: &str) -> String {
    format!(
        "POST /v1/request/{WORK} HTTP/1.1\r\nHost: localhost\r\nX-Request-Timeout: {LONG_MS}\r\n\
         Content-Length: {}\r\n\r\n{payload}",
        payload.len()
    )
}

/// Reads up to and with `end`.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        read.extend(byte);
    }
    String::from_utf8(read).unwrap()
}

fn received(gateway: &Gateway) -> f64 {
    gateway.metrics().of("ipc_gateway_door_received_bytes_total{door=\"http\"}")
}

#[test]
fn an_http_client_that_has_pipelined_is_cancelled_when_it_goes_and_not_before() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let (mut requests, mut cancels) = (outside.listen(WORK), outside.listen(CANCEL));
    let gateway = gateway_with(&server, &[]);
    let before = gateway.metrics().held();

    // A client that stays gets both answers; were its first request cancelled, that message would come before the next.
    let mut patient = connect(&gateway);
    write!(patient, "{}{}", post("1"), post("2")).unwrap();
    for number in ["1", "2"] {
        let request = requests.next();
        assert_eq!(request.payload, number, "one after the other");
        requests.answer(&request, format!("answer {number}"));
        assert!(read_until(&mut patient, &format!("answer {number}")).starts_with("HTTP/1.1 200 "));
    }

    let second = post("never heard");
    for end in End::ALL {
        for ahead in ["P", &second] {
            for is_read in [true, false] {
                let bytes_before = received(&gateway);
                let mut leaving = connect(&gateway);
                let first = post("left");
                leaving.write_all(first.as_bytes()).unwrap();
                let left = requests.next();
                leaving.write_all(ahead.as_bytes()).unwrap();
                if is_read {
                    #[expect(clippy::cast_precision_loss, reason = "a few hundred bytes")]
                    let sent = (first.len() + ahead.len()) as f64;
                    gateway
                        .until("ipc_gateway_door_received_bytes_total{door=\"http\"}", bytes_before + sent);
                }
                let kept = end.of(leaving);
                assert_cancels(&cancels.next(), &left, "cancelled");
                gateway.until("ipc_gateway_door_in_flight{door=\"http\"}", 0.0);
                drop(kept);
            }
        }
    }
    drop(patient);
    gateway.until("ipc_gateway_door_connections{door=\"http\"}", 0.0);
    gateway.until_held(&before);
    gateway.stop();
}

/// A client's frame of text; its mask of zeros changes nothing.
fn frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let head = match u8::try_from(length) {
        Ok(small @ ..=125) => vec![0x81, 0x80 | small],
        _ => [&[0x81, 0xFE][..], &length.to_be_bytes()].concat(),
    };
    [&head[..], &[0; 4], text.as_bytes()].concat()
}

#[test]
fn a_websocket_that_is_not_heard_any_more_is_cancelled_when_it_goes() {
    const HEARD: usize = 4;
    const UNHEARD_BYTES: usize = 64 * 1024;
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let (mut requests, mut cancels) = (outside.listen(WORK), outside.listen(CANCEL));
    // Nor is it a ping that tells.
    let settings = [&*format!("websocket.in_flight_max={HEARD}"), "websocket.ping_interval_ms=300000"];
    let gateway = gateway_with(&server, &settings);
    let before = gateway.metrics().held();
    for end in End::ALL {
        let mut leaving = connect(&gateway);
        leaving
            .write_all(
                b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .unwrap();
        read_until(&mut leaving, "\r\n\r\n");
        let ask = |id: usize, payload: &str| {
            let timeout = LONG_MS;
            let ask = json!({
                "op": "request", "id": id, "subject": WORK, "payload": payload, "timeout_ms": timeout,
            });
            frame(&ask.to_string())
        };
        let mut left = Vec::new();
        for id in 0..HEARD {
            leaving.write_all(&ask(id, "heard")).unwrap();
            left.push(requests.next());
        }
        let filler = "x".repeat(1000);
        let unheard: Vec<u8> = (HEARD..HEARD + 64).flat_map(|id| ask(id, &filler)).collect();
        assert!(unheard.len() > UNHEARD_BYTES);
        leaving.write_all(&unheard).unwrap();
        let kept = end.of(leaving);
        let mut told: Vec<Message> = (0..HEARD).map(|_| cancels.next()).collect();
        for left in &left {
            let id = header(left, "Ipc-Gateway-Request-Id");
            let at = told.iter().position(|cancel| header(cancel, "Ipc-Gateway-Request-Id") == id);
            assert_cancels(&told.swap_remove(at.expect("each of them is told of")), left, "cancelled");
        }
        gateway.until("ipc_gateway_door_in_flight{door=\"websocket\"}", 0.0);
        gateway.until("ipc_gateway_door_connections{door=\"websocket\"}", 0.0);
        drop(kept);
    }
    gateway.until_held(&before);
    gateway.stop();
}
