//! HTTP/2 at its worst, frame by frame: the connection ends, and another client goes on.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::calls::Connection;
use crate::running::{Running, within};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
// Types of frames, flags and errors (RFC 9113, sections 6 and 7).
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;
const PROTOCOL_ERROR: u32 = 1;
const FRAME_SIZE_ERROR: u32 = 6;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header as it is, in no table (RFC 7541, section 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// The head of a call of `Request`.
fn head() -> Vec<u8> {
    [
        literal(":method", "POST"),
        literal(":scheme", "http"),
        literal(":path", "/gateway.v1.Gateway/Request"),
        literal(":authority", "localhost"),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ]
    .concat()
}

/// Somebody who is up to no good.
struct Villain(TcpStream);

impl Villain {
    async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        Self(stream)
    }

    /// Sends this again and again until the other side closes, and reads meanwhile. Returns the error of the
    /// GOAWAY that came, or `None` for a close without.
    async fn until_closed(self, mut next: impl FnMut() -> Option<Vec<u8>>) -> Option<u32> {
        let (mut read, mut write) = self.0.into_split();
        let reading = async {
            let (mut all, mut piece) = (Vec::new(), vec![0; 65536]);
            // A close with unread bytes is a reset, which is as good.
            while let Ok(length @ 1..) = read.read(&mut piece).await {
                all.extend_from_slice(&piece[..length]);
            }
            all
        };
        let writing = async {
            while let Some(bytes) = next() {
                if write.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let all = within(async {
            tokio::select! {
                all = reading => all,
                () = writing => unreachable!("it only ends with the reading"),
            }
        })
        .await;
        goaway(&all)
    }
}

/// The error of the last GOAWAY among the frames.
fn goaway(bytes: &[u8]) -> Option<u32> {
    let last = frames(bytes).filter(|(kind, ..)| *kind == GOAWAY).last();
    last.map(|(.., payload)| u32::from_be_bytes(payload[4..8].try_into().unwrap()))
}

/// A gateway, and somebody who uses it meanwhile; what the villain is told must not matter to them.
async fn scene(settings: &[(&str, &str)]) -> (Running, Connection) {
    let gateway = Running::start(settings).await;
    let other = Connection::open(gateway.grpc).await;
    other.expect_echo().await;
    (gateway, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_end_the_connection() {
    let (gateway, other) = scene(&[]).await;
    let villain = Villain::connect(gateway.grpc).await;
    let mut stream = 1;
    let told = villain.until_closed(|| {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            bytes.extend(frame(HEADERS, END_HEADERS, stream, &head()));
            bytes.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            stream += 2;
        }
        Some(bytes)
    });
    assert_eq!(told.await, Some(ENHANCE_YOUR_CALM));
    other.expect_echo().await;
    gateway.until("connections", 1).await;
    gateway.until("in_flight", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_an_end_ends_the_connection() {
    let (gateway, other) = scene(&[]).await;
    let villain = Villain::connect(gateway.grpc).await;
    let mut first = true;
    let told = villain.until_closed(|| {
        let kind = if std::mem::take(&mut first) { HEADERS } else { CONTINUATION };
        Some(frame(kind, 0, 1, &literal("x-a", &"a".repeat(100)).repeat(100)))
    });
    assert_eq!(told.await, Some(ENHANCE_YOUR_CALM));
    other.expect_echo().await;
    gateway.until("connections", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_cost_nothing_are_bounded() {
    let (gateway, other) = scene(&[("grpc.control_frames_per_second_max", "1000")]).await;
    for flood in
        [frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, &[0; 8]), frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])]
    {
        let villain = Villain::connect(gateway.grpc).await;
        // Three times what is allowed, in as many pieces as there are; then it would have to be quiet for ever.
        let mut pieces = 0..30;
        villain.until_closed(|| pieces.next().map(|_| flood.repeat(100))).await;
        other.expect_echo().await;
    }
    gateway.until("connections", 1).await;
    assert_eq!(gateway.count("protocol_errors_total").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_client_may_say_ends_the_connection() {
    let (gateway, other) = scene(&[]).await;
    // A dynamic table of 2^20 bytes, where 4096 are allowed (RFC 7541, section 6.3). h2 calls every fault of the
    // compression a protocol error.
    let table = [&[0x3f, 0xe1, 0xff, 0x3f][..], &head()].concat();
    for (what, bytes, expected) in [
        ("an increment of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), PROTOCOL_ERROR),
        ("a table beyond its bound", frame(HEADERS, END_HEADERS, 1, &table), PROTOCOL_ERROR),
        ("an index of nothing", frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0x7f]), PROTOCOL_ERROR),
        ("a stream of the server's", frame(HEADERS, END_HEADERS, 2, &head()), PROTOCOL_ERROR),
        ("data of no stream", frame(0, 0, 0, b"x"), PROTOCOL_ERROR),
        ("a frame too large", frame(0, 0, 1, &vec![0; 20_000]), FRAME_SIZE_ERROR),
    ] {
        let villain = Villain::connect(gateway.grpc).await;
        let mut once = Some(bytes);
        assert_eq!(villain.until_closed(|| once.take()).await, Some(expected), "{what}");
        other.expect_echo().await;
    }
    gateway.until("connections", 1).await;
}

/// A header of 3900 bytes is put into the table once, and then named ten thousand times in a few bytes each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_unpacks_to_much_is_refused() {
    let (gateway, other) = scene(&[]).await;
    let mut villain = Villain::connect(gateway.grpc).await;
    // Literal with indexing, new name (6.2.1); lengths in 7 bits and more (5.1); then index 62, the newest.
    let value = "b".repeat(3900);
    let bomb = [&[0x40, 3][..], b"x-b", &[0x7f, 0xbd, 0x1d], value.as_bytes(), &[0xbe; 10_000]].concat();
    let bomb = [head(), bomb].concat();
    villain.0.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)).await.unwrap();
    // It is told so in a head of a few bytes, or the connection ends; either way no call came of it.
    let mut piece = vec![0; 65536];
    let told = within(async {
        let mut all = Vec::new();
        while let Ok(length @ 1..) = villain.0.read(&mut piece).await {
            all.extend_from_slice(&piece[..length]);
            if answers(&all, 1) {
                return true;
            }
        }
        false
    });
    let answered = told.await;
    assert!(answered || villain.0.read(&mut piece).await.is_ok_and(|length| length == 0));
    other.expect_echo().await;
    assert_eq!(gateway.metric(REQUESTS).await, 2, "those of the other client alone");
    // A call without a message is counted once it is looked at.
    assert_eq!(gateway.count("protocol_errors_total").await, 0, "the call was looked at");
}

/// All requests that got as far as the rules.
const REQUESTS: &str = "ipc_gateway_requests_total{operation=\"request\",outcome=\"ok\",route=\"local\"}";

/// Whether the frames hold a head or a reset of this stream.
fn answers(bytes: &[u8], stream: u32) -> bool {
    frames(bytes).any(|(kind, of, _)| of == stream && matches!(kind, HEADERS | RST_STREAM))
}

/// The error with which this stream was reset, if it was.
fn reset(bytes: &[u8], stream: u32) -> Option<u32> {
    frames(bytes)
        .find(|(kind, of, _)| (*kind, *of) == (RST_STREAM, stream))
        .map(|(.., payload)| u32::from_be_bytes(payload.try_into().unwrap()))
}

/// The whole frames among the bytes: type, stream and payload.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (u8, u32, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let payload = bytes.get(9..9 + length)?;
        bytes = &bytes[9 + length..];
        Some((header[3], u32::from_be_bytes(header[5..9].try_into().unwrap()), payload))
    })
}

#[tokio::test]
async fn silence_ends_the_connection_at_the_start_and_after_a_ping() {
    let gateway = Running::start(&[
        ("grpc.handshake_timeout_ms", "200"),
        ("grpc.ping_interval_ms", "100"),
        ("grpc.ping_timeout_ms", "200"),
    ])
    .await;
    let starts = [&b""[..], b"PRI", PREFACE, b"POST /gateway.v1.Gateway/Request HTTP/1.1\r\nHost: local"];
    for start in starts {
        let mut stream = TcpStream::connect(gateway.grpc).await.unwrap();
        stream.write_all(start).await.unwrap();
        let mut rest = Vec::new();
        drop(within(stream.read_to_end(&mut rest)).await);
    }
    // One that said hello, and answers no ping.
    let villain = Villain::connect(gateway.grpc).await;
    villain.until_closed(|| None).await;
    // One that begins a head and does not end it.
    let villain = Villain::connect(gateway.grpc).await;
    let mut once = Some(frame(HEADERS, 0, 1, &head()));
    villain.until_closed(|| once.take()).await;
    gateway.until("connections", 0).await;
    // One that answers pings is left alone.
    let honest = Connection::open(gateway.grpc).await;
    honest.expect_echo().await;
    let before = gateway.count("received_bytes_total").await;
    within(async {
        // Five answers of 17 bytes each, all of them beyond the time for one.
        while gateway.count("received_bytes_total").await < before + 5 * 17 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    honest.expect_echo().await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let gateway = Running::start(&[("grpc.connections_max", "2")]).await;
    let (one, two) = (Connection::open(gateway.grpc).await, Connection::open(gateway.grpc).await);
    two.expect_echo().await;
    let mut third = TcpStream::connect(gateway.grpc).await.unwrap();
    assert!(matches!(within(third.read(&mut [0])).await, Ok(0) | Err(_)));
    assert_eq!(gateway.count("connections_refused_total").await, 1);
    drop(one);
    gateway.until("connections", 1).await;
    Connection::open(gateway.grpc).await.expect_echo().await;
}

/// A client that has not read how many calls it may have (RFC 9113, section 5.1.2).
#[tokio::test]
async fn a_call_over_the_bound_is_refused_and_the_others_go_on() {
    const REFUSED_STREAM: u32 = 7;
    let (gateway, other) = scene(&[("grpc.concurrent_streams_max", "2")]).await;
    let mut villain = Villain::connect(gateway.grpc).await;
    let message = crate::calls::framed(0, &crate::calls::question("silent", b""));
    for stream in [1, 3, 5] {
        let call = [frame(HEADERS, END_HEADERS, stream, &head()), frame(0, END_STREAM, stream, &message)];
        villain.0.write_all(&call.concat()).await.unwrap();
    }
    let (mut all, mut piece) = (Vec::new(), vec![0; 65536]);
    while reset(&all, 5).is_none() {
        let length = within(villain.0.read(&mut piece)).await.unwrap();
        assert!(length > 0, "the connection ends");
        all.extend_from_slice(&piece[..length]);
    }
    assert_eq!((reset(&all, 5), reset(&all, 3), reset(&all, 1)), (Some(REFUSED_STREAM), None, None));
    gateway.until("in_flight", 2).await;
    other.expect_echo().await;
    drop(villain);
    gateway.until("in_flight", 0).await;
}
