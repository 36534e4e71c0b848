//! What the bytes cost: frames of version 1 and 2 and the JSON envelope, both ways, and the passes over JSON.
//! Time and heap allocations a message.

use bytes::{Bytes, BytesMut};
use contract::{ByteBudget, Message};
use divan::{AllocProfiler, Bencher, black_box};
use wire::frame::{Decoder, FRAME_BYTES_MAX, HEADER_BYTES, header};
use wire::json::{DEPTH_MAX, Scanner};
use wire::{Id, Outbound, binary};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Bytes of the payloads.
const SIZES: [usize; 3] = [64, 1024, 65_536];

fn main() {
    divan::main();
}

/// A JSON object of so many bytes, of the nested kind that people send.
fn object(bytes: usize) -> Vec<u8> {
    let mut text = String::from("{\"items\":[");
    while text.len() + 60 < bytes {
        text.push_str("{\"name\":\"widget\",\"price\":12.5,\"tags\":[true,null]},");
    }
    let end = "{}],\"pad\":\"\"}".len();
    text.push_str("{}],\"pad\":\"");
    text.push_str(&"x".repeat(bytes.saturating_sub(text.len() + end - "{}],\"pad\":\"".len())));
    text.push_str("\"}");
    text.into_bytes()
}

fn frame(version: u8, kind: u8, body: &[u8]) -> Bytes {
    [&header(version, kind, body.len())[..], body].concat().into()
}

/// The frame of a version 2 request.
fn request(payload: &[u8]) -> Bytes {
    let subject = b"bench.echo";
    let mut body = vec![binary::flag::ID, 0];
    body.extend(7_u64.to_be_bytes());
    body.extend(13_u16.to_be_bytes());
    body.extend([binary::tag::SUBJECT, 0, 10]);
    body.extend(subject);
    body.extend(payload);
    frame(binary::VERSION, binary::kind::REQUEST, &body)
}

#[divan::bench(args = SIZES)]
fn frame_decode(bencher: Bencher<'_, '_>, bytes: usize) {
    let whole = frame(1, 1, &object(bytes));
    let mut decoder = Decoder::new(ByteBudget::new(1 << 30), &[1], FRAME_BYTES_MAX);
    bencher.bench_local(|| black_box(decoder.decode(&mut &whole[..])));
}

#[divan::bench(args = SIZES)]
fn v2_decode(bencher: Bencher<'_, '_>, bytes: usize) {
    let body = request(&object(bytes)).slice(HEADER_BYTES..);
    assert!(binary::decode(binary::kind::REQUEST, body.clone()).is_ok(), "it is a request");
    bencher.bench_local(|| black_box(binary::decode(binary::kind::REQUEST, body.clone())));
}

/// Encodes a reply again and again into the same buffer.
fn encode_reply(
    bencher: Bencher<'_, '_>,
    bytes: usize,
    encode: impl Fn(&Outbound<'_>, &mut BytesMut) -> bool,
) {
    let (id, message) = (Id::Number(7), Message { payload: object(bytes).into(), ..Message::default() });
    let mut buffer = BytesMut::with_capacity(2 * bytes + 4096);
    bencher.bench_local(|| {
        buffer.clear();
        let as_it_is = encode(&Outbound::Reply { id: &id, message: &message, more: false }, &mut buffer);
        black_box((as_it_is, buffer.len()))
    });
}

#[divan::bench(args = SIZES)]
fn v2_encode(bencher: Bencher<'_, '_>, bytes: usize) {
    encode_reply(bencher, bytes, |reply, buffer| binary::encode(reply, FRAME_BYTES_MAX, buffer));
}

#[divan::bench(args = SIZES)]
fn envelope_decode(bencher: Bencher<'_, '_>, bytes: usize) {
    let payload = String::from_utf8(object(bytes)).expect("the object is ASCII");
    let document = Bytes::from(format!(
        "{{\"op\":\"request\",\"id\":7,\"subject\":\"bench.echo\",\"payload\":{payload}}}"
    ));
    assert!(wire::json::decode(document.clone()).is_ok(), "it is an envelope");
    bencher.bench_local(|| black_box(wire::json::decode(document.clone())));
}

#[divan::bench(args = SIZES)]
fn envelope_encode(bencher: Bencher<'_, '_>, bytes: usize) {
    encode_reply(bencher, bytes, |reply, buffer| wire::json::encode(reply, FRAME_BYTES_MAX, buffer));
}

/// Where a document ends.
#[divan::bench(args = SIZES)]
fn json_scan(bencher: Bencher<'_, '_>, bytes: usize) {
    let document = object(bytes);
    let mut scanner = Scanner::new(FRAME_BYTES_MAX, DEPTH_MAX);
    bencher.bench_local(|| black_box(scanner.scan(&document)));
}

/// Whether it is JSON.
#[divan::bench(args = SIZES)]
fn json_validate(bencher: Bencher<'_, '_>, bytes: usize) {
    let document = object(bytes);
    assert!(wire::json::validate(&document).is_ok(), "it is JSON");
    bencher.bench_local(|| black_box(wire::json::validate(&document)));
}
