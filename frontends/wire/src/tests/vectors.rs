//! The vectors of `tests/vectors/` (their readme has the format), each a test of a codec written from the
//! documents alone.

use bytes::{Bytes, BytesMut};
use contract::{Error, Failed, Outcome};

use super::*;
use crate::binary::client::{Failure, Heard, hear as hear_gateway};
use crate::json::{self, Decoded as Document};
use crate::message::{Limits, Outbound};

/// Answers on the wire are as large as they need to be.
const BYTES_MAX: usize = 64 * 1024;

/// One vector of `v2/*.hex`.
struct Vector {
    about: String,
    frame: Vec<u8>,
    says: String,
}

fn v2(file: &str) -> Vec<Vector> {
    let text = std::fs::read_to_string(in_repository("tests/vectors/v2").join(file)).unwrap();
    let mut vectors = Vec::new();
    for block in text.split("\n\n").skip(1) {
        let (mut about, mut hex, mut says) = (String::new(), String::new(), String::new());
        for line in block.lines() {
            match line.split_at(2) {
                ("# ", rest) => about.push_str(rest),
                ("> " | "< " | "  ", rest) => hex.push_str(rest),
                ("= " | "! ", rest) => says.push_str(rest),
                _ => panic!("{line}"),
            }
            hex.push(' ');
        }
        let frame = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        vectors.push(Vector { about, frame, says });
    }
    assert!(vectors.len() > 10, "{file}");
    vectors
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn json_cases(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(in_repository("tests/vectors/json").join(file)).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 5, "{file}");
    cases
}

fn document(case: &Value) -> Bytes {
    match (&case["document"], &case["document_base64"]) {
        (Value::String(text), _) => text.clone().into(),
        (_, Value::String(base64)) => STANDARD.decode(base64).unwrap().into(),
        _ => panic!("{case}"),
    }
}

/// What a client's side heard, as the gateway's side says it.
fn say_again(heard: &Heard, tell: &mut dyn FnMut(&Outbound<'_>)) {
    match heard {
        Heard::Welcome { id, json } => {
            let limits = &parse(std::str::from_utf8(json).unwrap())["limits"];
            let number = |key: &str| usize::try_from(limits[key].as_u64().unwrap()).unwrap();
            let limits = Limits {
                message_bytes_max: number("message_bytes_max"),
                in_flight_max: number("in_flight_max"),
                streams_max: number("streams_max"),
                timeout_max: std::time::Duration::from_millis(limits["timeout_ms_max"].as_u64().unwrap()),
            };
            tell(&Outbound::Welcome { id: id.as_ref(), limits: &limits });
        }
        Heard::Accepted { id } => tell(&Outbound::Accepted { id }),
        Heard::Reply { id, message, more } => tell(&Outbound::Reply { id, message, more: *more }),
        Heard::Error { id, failure } => {
            tell(&Outbound::Error { id: id.as_ref(), error: &error_of(failure) });
        }
        Heard::Delivery { id, delivery } => {
            tell(&Outbound::Delivery { id, delivery: &delivery.clone().into() });
        }
        Heard::Gap { id, lost } => tell(&Outbound::Gap { id, lost: *lost }),
        Heard::End { id } => tell(&Outbound::End { id }),
        Heard::Pong { id, payload } => tell(&Outbound::Pong { id: id.as_ref(), payload }),
        Heard::GoAway { retry_after } => tell(&Outbound::GoAway { retry_after: *retry_after }),
    }
}

fn error_of(failure: &Failure) -> Error {
    let Failure { kind, outcome, text, retry_after, backend_code, body } = failure.clone();
    let row = contract::error::TABLE.iter().find(|row| kind == row.code).unwrap();
    let outcomes = [Outcome::NotSent, Outcome::Unknown, Outcome::Done];
    let outcome = outcomes.into_iter().find(|known| outcome == known.code()).unwrap();
    let error = match backend_code {
        None => Error::new(row.kind, text.to_string()),
        Some(code) => {
            Error::failed(Failed { body, code, http: 502, grpc: 2, counts: false }, text.to_string())
        }
    };
    let error = error.with_outcome(outcome);
    retry_after.into_iter().fold(error, Error::with_retry_after)
}

#[test]
fn what_a_client_says_in_version_2() {
    for Vector { about, frame, says } in v2("client.hex") {
        let heard = hear([&frame[..]]);
        assert_eq!(show_all(&heard), [parse(&says)], "{about}");
        // Its meaning is itself a message of the envelope.
        let Ok(Document::Envelope(same)) = json::decode(says.clone().into()) else { panic!("{about}") };
        let expected = heard[0].as_ref().unwrap();
        assert_eq!(format!("{same:?}"), format!("{expected:?}"), "{about}");
    }
}

#[test]
fn what_a_client_must_not_say_in_version_2() {
    for Vector { about, frame, says } in v2("refused.hex") {
        assert_eq!(show_all(&hear([&frame[..]])), [parse(&says)], "{about}");
    }
}

#[test]
fn what_the_gateway_says_in_both_forms() {
    for Vector { about, frame, says } in v2("gateway.hex") {
        let body = Bytes::copy_from_slice(&frame[6..]);
        let heard = hear_gateway(frame[5], body).unwrap_or_else(|error| panic!("{about}: {error}"));
        say_again(&heard, &mut |outbound| {
            let (mut binary, mut json) = (BytesMut::new(), BytesMut::new());
            binary::encode(outbound, BYTES_MAX, &mut binary);
            json::encode(outbound, BYTES_MAX, &mut json);
            assert_eq!(&json[..], says.as_bytes(), "{about}");
            // Fields have no order of their own, and this codec writes them in one.
            let again = hear_gateway(binary[5], binary.clone().freeze().slice(6..)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{heard:?}"), "{about}");
            assert_eq!(binary.len(), frame.len(), "{about}");
        });
    }
}

#[test]
fn every_prefix_and_every_split_of_the_vectors_decodes_to_the_same() {
    let vectors: Vec<Vector> = ["client.hex", "refused.hex"].into_iter().flat_map(v2).collect();
    let stream: Vec<u8> = vectors.iter().flat_map(|vector| vector.frame.clone()).collect();
    let whole = show_all(&hear([&stream[..]]));
    assert_eq!(whole.len(), vectors.len());
    assert_eq!(show_all(&hear(stream.chunks(1))), whole);
    let mut ends = vectors.iter().scan(0, |end, vector| {
        *end += vector.frame.len();
        Some(*end)
    });
    let (mut done, mut next) = (0, ends.next());
    for cut in 0..=stream.len() {
        if next == Some(cut) {
            (done, next) = (done + 1, ends.next());
        }
        let (left, right) = stream.split_at(cut);
        assert_eq!(show_all(&hear([left])), whole[..done], "the first {cut} bytes");
        assert_eq!(show_all(&hear([left, right])), whole, "cut at {cut}");
    }
}

#[test]
fn what_a_client_says_in_json() {
    for case in json_cases("client.json") {
        let text = document(&case);
        let Ok(Document::Envelope(heard)) = json::decode(text.clone()) else { panic!("{case}") };
        assert_eq!(show(&heard), case["means"], "{case}");
        let Ok(Document::Envelope(same)) = json::decode(case["means"].to_string().into()) else {
            panic!("{case}")
        };
        assert_eq!(show(&same), case["means"], "{case}");
    }
}

#[test]
fn what_is_a_task() {
    for case in json_cases("tasks.json") {
        let text = document(&case);
        let Ok(Document::Task(task)) = json::decode(text.clone()) else { panic!("{case}") };
        assert_eq!((task.as_ptr(), task.len()), (text.as_ptr(), text.len()));
    }
}

#[test]
fn what_a_client_must_not_say_in_json() {
    for case in json_cases("refused.json") {
        let refusal = json::decode(document(&case)).expect_err(&case.to_string());
        let mut expected = case["refused"].clone();
        let says = expected.as_object_mut().unwrap().remove("says").unwrap();
        assert_eq!(show_refusal(&refusal), expected, "{case}: {}", refusal.error);
        assert!(refusal.error.text().contains(says.as_str().unwrap()), "{case}: {}", refusal.error);
    }
}

/// The scanner finds each document of the vectors, whole and in any two pieces, and no document in a prefix.
#[test]
fn every_prefix_and_every_split_of_the_documents_scans_to_the_same() {
    let cases: Vec<Value> = ["client.json", "tasks.json"].into_iter().flat_map(json_cases).collect();
    for case in cases {
        let text = document(&case);
        let text = text.trim_ascii();
        for cut in 0..text.len() {
            let mut scanner = json::Scanner::new(BYTES_MAX, json::DEPTH_MAX);
            let (left, right) = text.split_at(cut);
            assert_eq!(scanner.scan(left), json::Scan::Incomplete, "{case}");
            assert_eq!(scanner.scan(right), json::Scan::Complete { end: right.len() }, "{case}");
            assert!(json::decode(Bytes::copy_from_slice(left)).is_err(), "{case}");
        }
    }
}
