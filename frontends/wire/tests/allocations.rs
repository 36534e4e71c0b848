//! What the codecs ask of the allocator: nothing for an answer, nothing beside the body for a question, and never
//! much more than came in. A program of its own, because the count is of the whole process.

use std::alloc::System;

use bytes::Bytes;
use contract::{Headers, Message};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use wire::{Id, Outbound, Sink, binary, json};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What `work` asked for. The least of a few runs: another thread of the test program may ask meanwhile.
fn asked<T>(mut work: impl FnMut() -> T) -> Stats {
    let run = |_| {
        let region = Region::new(ALLOCATOR);
        let made = work();
        let asked = region.change();
        drop(made);
        asked
    };
    (0..5).map(run).min_by_key(|stats| stats.allocations).expect("there are runs")
}

/// A sink that keeps nothing.
#[derive(Default)]
struct Length(usize);

impl Sink for Length {
    fn copy(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn share(&mut self, payload: Bytes) {
        self.0 += payload.len();
    }
}

fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a short field").to_be_bytes();
    [&[tag], &length[..], value].concat()
}

fn request(fields: &[u8], payload: &[u8]) -> Bytes {
    let length = u16::try_from(fields.len()).expect("short fields").to_be_bytes();
    [&[2, 0, 0, 0, 0, 0, 0, 0, 0, 7], &length[..], fields, payload].concat().into()
}

/// The bytes with their reference count made already, as those have that were read from a peer.
fn shared(bytes: Bytes) -> (Bytes, Bytes) {
    (bytes.clone(), bytes)
}

#[test]
fn little_is_asked_of_the_allocator() {
    let id = Id::Number(7);
    let mut headers = Headers::new();
    headers.append("X-A", "b").expect("a header");
    let message = Message { headers, payload: Bytes::from_static(b"{\"text\":\"hello\"}") };
    let reply = Outbound::Reply { id: &id, message: &message, more: false };
    let encoded = asked(|| {
        let mut length = Length::default();
        binary::encode(&reply, 4096, &mut length);
        json::encode(&reply, 4 << 20, &mut length);
        length.0
    });
    assert_eq!(encoded.allocations, 0, "an answer: {encoded:?}");

    let body = shared(request(&[field(1, b"demo.echo"), field(3, &[0, 0, 1, 0])].concat(), b"payload"));
    let decoded = asked(|| binary::decode(binary::kind::REQUEST, body.1.clone()).expect("a request"));
    assert_eq!(decoded.allocations, 0, "a request without headers: {decoded:?}");

    let line = String::from("{\"op\":\"request\",\"id\":7,\"subject\":\"a.b\",\"payload\":{\"x\":[1]}}");
    let line = shared(line.into());
    let decoded = asked(|| json::decode(line.1.clone()).expect("a request"));
    assert_eq!(decoded.allocations, 0, "an envelope: {decoded:?}");

    // The worst that came to mind: many small parts, each of which could become an object of its own.
    let many = |part: &str| [part].repeat(50_000).join(",");
    let question = "\"op\":\"request\",\"id\":1,\"subject\":\"a\"";
    let hostile = [
        format!("{{{question},\"headers\":{{\"X\":[{}]}}}}", many("\"\"")),
        format!("{{{question},\"headers\":{{{}}}}}", many("\"X\":\"\"")),
        format!("{{{question},\"payload\":[{}]}}", many("{}")),
        format!("{{\"op\":\"request\",\"id\":\"{}\",\"subject\":\"a\"}}", "\\u0041".repeat(50_000)),
        format!("{{{}}}", many("\"x\":1")),
        format!("{{\"op\":\"ping\",{}}}", many("\"\\u0078\":1")),
    ];
    for document in hostile {
        let document = Bytes::from(document);
        let asked = asked(|| json::decode(document.clone()).map_err(|refusal| refusal.error.kind()));
        // Kept at once, that is: what is let go at once does not add up.
        let kept = asked.bytes_allocated.saturating_sub(asked.bytes_deallocated);
        assert!(kept <= 2 * document.len(), "{asked:?} for {} bytes", document.len());
        assert!(asked.bytes_allocated <= 4 * document.len(), "{asked:?} for {} bytes", document.len());
    }
    let body = request(&field(2, b"\x01X").repeat(10_000), b"");
    let decoded = asked(|| binary::decode(binary::kind::REQUEST, body.clone()).is_ok());
    assert!(decoded.bytes_allocated <= 2 * body.len(), "{decoded:?} for {} bytes", body.len());
}
