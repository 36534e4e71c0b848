//! What must hold for any bytes whatever: one function a parser, called by the fuzz targets in `fuzz/` and, with
//! the seeds there, by the tests.
//!
//! Each panics if its parser breaks a promise. They take what a parser takes from a peer, and nothing else.

use bytes::{Bytes, BytesMut};
use contract::ByteBudget;

use crate::binary::{self, client};
use crate::frame::{Decoded, Decoder};
use crate::json::{self, Scan, Scanner};
use crate::message::{Inbound, Outbound, Refusal};

/// Small, so that short inputs reach the limit.
const BYTES_MAX: usize = 64 * 1024;

/// A stream of frames of version 2: however it is cut, it decodes to the same; what is understood can be said
/// again, and what is not can be told.
pub fn version2(bytes: &[u8]) {
    let whole = frames([bytes]);
    let found: Vec<String> = whole.iter().map(|found| format!("{found:?}")).collect();
    for size in [1, 7] {
        let pieces: Vec<String> =
            frames(bytes.chunks(size)).iter().map(|found| format!("{found:?}")).collect();
        assert_eq!(pieces, found, "in pieces of {size}");
    }
    for found in whole {
        match found {
            Found::Said(said) => said.as_ref().as_ref().map_or_else(tell, say_again),
            Found::Skipped | Found::Broken => {}
        }
    }
    // And the client's side, which reads what a gateway says.
    if let [kind, body @ ..] = bytes {
        let _ = client::hear(*kind, Bytes::copy_from_slice(body));
    }
}

#[derive(Debug)]
enum Found {
    Said(Box<Result<Inbound, Refusal>>),
    Skipped,
    Broken,
}

fn frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Found> {
    let budget = ByteBudget::new(2 * BYTES_MAX);
    let mut decoder = Decoder::new(budget.clone(), &[2], BYTES_MAX);
    let (mut found, mut fed) = (Vec::new(), 0);
    for mut piece in pieces {
        fed += piece.len();
        while let Some(decoded) = decoder.decode(&mut piece) {
            found.push(match decoded {
                Decoded::Frame { kind, payload, .. } => Found::Said(Box::new(binary::decode(kind, payload))),
                Decoded::Skipped { .. } => Found::Skipped,
                Decoded::Broken(_) => {
                    found.push(Found::Broken);
                    return found;
                }
            });
        }
        assert!(piece.is_empty(), "the decoder takes all it is given");
        assert!(budget.used() <= 2 * fed + 64, "{} bytes are kept of {fed}", budget.used());
    }
    found
}

/// What was understood is understood again in either form.
fn say_again(message: &Inbound) {
    let mut frame = BytesMut::new();
    client::say(message, 2 * BYTES_MAX, &mut frame).expect("what came in a frame fits one");
    let again = binary::decode(frame[5], frame.freeze().slice(crate::frame::HEADER_BYTES..));
    assert_eq!(format!("{:?}", again.expect("it was understood before")), format!("{message:?}"));
}

/// A refusal can be told in either form.
fn tell(refusal: &Refusal) {
    let outbound = Outbound::Error { id: refusal.id.as_ref(), error: &refusal.error };
    let mut line = BytesMut::new();
    json::encode(&outbound, BYTES_MAX, &mut line);
    assert!(line.len() <= BYTES_MAX && !line.contains(&b'\n'));
    json::validate(&line).expect("an answer is JSON");
    if !matches!(refusal.id, Some(crate::Id::Text(_))) {
        let mut frame = BytesMut::new();
        binary::encode(&outbound, BYTES_MAX, &mut frame);
        let body = frame.split_off(crate::frame::HEADER_BYTES).freeze();
        client::hear(frame[5], body).expect("a client understands its refusal");
    }
}

/// A document: an envelope or a task only if it is strictly JSON, with a payload that is a part of it.
pub fn envelope(bytes: &[u8]) {
    let document = Bytes::copy_from_slice(bytes);
    let valid = json::validate(bytes).is_ok();
    match json::decode(document.clone()) {
        Ok(json::Decoded::Task(task)) => assert!(valid && task == document),
        Ok(json::Decoded::Envelope(message)) => {
            assert!(valid);
            let payload = match &message {
                Inbound::Publish { question, .. } | Inbound::Request { question, .. } => &question.payload,
                _ => return,
            };
            assert!(payload.len() <= bytes.len());
        }
        Err(refusal) => tell(&refusal),
    }
}

/// Bytes that may be JSON: the scanner finds the end of whatever is JSON, and finds the same in any pieces.
pub fn scanner(bytes: &[u8]) {
    let whole = ends(std::iter::once(bytes));
    assert_eq!(ends(bytes.chunks(1)), whole);
    assert_eq!(ends(bytes.chunks(5)), whole);
    let document = bytes.trim_ascii();
    let is_container = matches!(document.first(), Some(b'{' | b'['));
    if is_container && document.len() <= BYTES_MAX && json::validate(document).is_ok() {
        let found = Scanner::new(BYTES_MAX, json::DEPTH_MAX).scan(document);
        assert_eq!(found, Scan::Complete { end: document.len() });
    }
}

/// Where documents end, up to the first flaw.
fn ends<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<(usize, bool)> {
    let mut scanner = Scanner::new(BYTES_MAX, json::DEPTH_MAX);
    let (mut found, mut before) = (Vec::new(), 0);
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() {
            match scanner.scan(&piece[at..]) {
                Scan::Incomplete => break,
                Scan::Complete { end } => {
                    at += end;
                    found.push((before + at, true));
                }
                Scan::Broken { at: wrong, .. } => {
                    found.push((before + at + wrong, false));
                    return found;
                }
            }
        }
        before += piece.len();
    }
    found
}
