//! From what a peer is told to one line of JSON, without a line break at its end.
//!
//! Written piece by piece, without a tree. A payload that is JSON is passed on as it is (line breaks in it
//! become spaces); any other payload is base64 under a key of its own.

use std::fmt;
use std::io::{self, Write as _};

use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use contract::{Delivery, Error, Format, Headers, Kind, Outcome};

use super::{one_line, validate};
use crate::message::{Id, Outbound, milliseconds};
use crate::sink::{Count, Sink};

/// Writes one document without a line break in it or behind it. It has at most `bytes_max` bytes (at least
/// 8 KiB): a reply that is larger becomes an error `too_large` with the outcome `done`, a delivery becomes a gap
/// of one, and a failure loses the backend's body. Says whether a reply or a delivery was written as it is.
pub fn encode(message: &Outbound<'_>, bytes_max: usize, sink: &mut impl Sink) -> bool {
    match message {
        Outbound::Reply { id, message, more } => {
            let payload = Payload::of(&message.payload);
            if fits(bytes_max, &payload, |count| reply(count, id, &message.headers, *more, &payload)) {
                reply(sink, id, &message.headers, *more, &payload);
                return true;
            }
            let error = Error::new(Kind::TooLarge, "the reply is larger than a message may be");
            let error = error.with_outcome(Outcome::Done);
            failure(sink, Some(id), &error, error.text(), &Payload::Empty);
            return false;
        }
        Outbound::Delivery { id, delivery: message } => {
            // Looked at and encoded once, for however many listeners.
            let body = message.encoded(Format::Json, delivery_body);
            let mut start = Count::default();
            open(&mut start, "delivery", Some(id));
            if start.0 + body.len() <= bytes_max {
                open(sink, "delivery", Some(id));
                sink.share(body);
            } else {
                gap(sink, id, Some(1));
                return false;
            }
        }
        Outbound::Error { id, error } => {
            let body = error.as_failed().map_or(Payload::Empty, |failed| Payload::of(&failed.body));
            if fits(bytes_max, &body, |count| failure(count, *id, error, error.text(), &body)) {
                failure(sink, *id, error, error.text(), &body);
            } else {
                let text = format!("(its body is larger than a message may be) {}", error.text());
                failure(sink, *id, error, &text, &Payload::Empty);
            }
        }
        Outbound::Gap { id, lost } => gap(sink, id, lost.map(u64::from)),
        Outbound::Welcome { id, limits } => {
            open(sink, "welcome", *id);
            put(sink, format_args!(",{}}}", limits.members()));
        }
        Outbound::Accepted { id } => bare(sink, "accepted", Some(id)),
        Outbound::End { id } => bare(sink, "end", Some(id)),
        Outbound::Pong { id, payload } => {
            open(sink, "pong", *id);
            Payload::of(payload).put("payload", sink);
            sink.copy(b"}");
        }
        Outbound::GoAway { retry_after } => {
            open(sink, "goaway", None);
            put(sink, format_args!(",\"retry_after_ms\":{}}}", milliseconds(*retry_after)));
        }
    }
    true
}

/// Payloads with so much room beside them fit whatever else is in the message: headers have at most 16 KiB, a
/// subject 1 KiB, and a byte of them takes at most 6 in JSON.
const REST_BYTES: usize = 128 * 1024;

/// Room for what most deliveries have beside their payload; more is found when it is needed.
const BODY_REST_BYTES: usize = 128;

/// Whether what `write` writes fits. Only a large payload makes it worth writing twice.
fn fits(bytes_max: usize, payload: &Payload, write: impl FnOnce(&mut Count)) -> bool {
    if payload.bytes() + REST_BYTES <= bytes_max {
        return true;
    }
    let mut count = Count::default();
    write(&mut count);
    count.0 <= bytes_max
}

/// A payload in the form it takes in JSON.
enum Payload {
    Empty,
    Json(Bytes),
    Base64(Bytes),
}

impl Payload {
    fn of(payload: &Bytes) -> Self {
        if payload.is_empty() {
            Self::Empty
        } else if validate(payload).is_ok() {
            Self::Json(one_line(payload.clone()))
        } else {
            Self::Base64(STANDARD.encode(payload).into())
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Json(bytes) | Self::Base64(bytes) => bytes.len(),
        }
    }

    /// Writes it as a member, or nothing if it is empty.
    fn put(&self, key: &str, sink: &mut impl Sink) {
        match self {
            Self::Empty => {}
            Self::Json(bytes) => {
                put(sink, format_args!(",\"{key}\":"));
                sink.share(bytes.clone());
            }
            Self::Base64(bytes) => {
                put(sink, format_args!(",\"{key}_base64\":\""));
                sink.share(bytes.clone());
                sink.copy(b"\"");
            }
        }
    }
}

fn reply(sink: &mut impl Sink, id: &Id, headers: &Headers, more: bool, payload: &Payload) {
    open(sink, "reply", Some(id));
    if more {
        sink.copy(b",\"more\":true");
    }
    put_headers(sink, headers);
    payload.put("payload", sink);
    sink.copy(b"}");
}

/// What is behind the id of a delivery.
fn delivery_body(message: &Delivery) -> Bytes {
    let payload = Payload::of(&message.payload);
    let mut body = BytesMut::with_capacity(payload.bytes() + BODY_REST_BYTES);
    let sink = &mut body;
    sink.copy(b",\"subject\":");
    quote(sink, message.subject.as_str());
    put_headers(sink, &message.headers);
    if let Some(position) = &message.position {
        put(sink, format_args!(",\"position\":\"{}\"", Base64Display::new(position, &STANDARD)));
    }
    payload.put("payload", sink);
    sink.copy(b"}");
    body.freeze()
}

fn failure(sink: &mut impl Sink, id: Option<&Id>, error: &Error, text: &str, body: &Payload) {
    open(sink, "error", id);
    let row = error.kind().row();
    put(sink, format_args!(",\"error\":{{\"kind\":\"{}\",\"code\":{},\"message\":", row.code, row.ipc));
    quote(sink, text);
    put(sink, format_args!(",\"outcome\":\"{}\"", error.outcome().code()));
    if let Some(wait) = error.retry_after() {
        put(sink, format_args!(",\"retry_after_ms\":{}", milliseconds(wait)));
    }
    if let Some(failed) = error.as_failed() {
        sink.copy(b",\"backend_code\":");
        quote(sink, &failed.code);
    }
    body.put("body", sink);
    sink.copy(b"}}");
}

fn gap(sink: &mut impl Sink, id: &Id, lost: Option<u64>) {
    open(sink, "gap", Some(id));
    match lost {
        Some(lost) => put(sink, format_args!(",\"lost\":{lost}}}")),
        None => sink.copy(b",\"lost\":null}"),
    }
}

fn bare(sink: &mut impl Sink, op: &str, id: Option<&Id>) {
    open(sink, op, id);
    sink.copy(b"}");
}

/// Everything up to what is of the message's own.
fn open(sink: &mut impl Sink, op: &str, id: Option<&Id>) {
    put(sink, format_args!("{{\"op\":\"{op}\""));
    match id {
        None => {}
        Some(Id::Number(number)) => put(sink, format_args!(",\"id\":{number}")),
        Some(Id::Text(text)) => {
            sink.copy(b",\"id\":");
            quote(sink, text);
        }
    }
}

/// Headers as an object; the values of a name that repeats are a list where the name came first.
fn put_headers(sink: &mut impl Sink, headers: &Headers) {
    if headers.is_empty() {
        return;
    }
    sink.copy(b",\"headers\":{");
    let mut separator = "";
    for (index, (name, value)) in headers.iter().enumerate() {
        if headers.iter().take(index).any(|(earlier, _)| earlier == name) {
            continue;
        }
        sink.copy(separator.as_bytes());
        separator = ",";
        quote(sink, name);
        let mut more = headers.iter().skip(index + 1).filter(|(later, _)| *later == name).peekable();
        if more.peek().is_none() {
            sink.copy(b":");
            quote(sink, value);
            continue;
        }
        sink.copy(b":[");
        quote(sink, value);
        for (_, value) in more {
            sink.copy(b",");
            quote(sink, value);
        }
        sink.copy(b"]");
    }
    sink.copy(b"}");
}

fn quote(sink: &mut impl Sink, text: &str) {
    serde_json::to_writer(Writer(sink), text).expect("a sink takes everything, and a text is JSON");
}

fn put(sink: &mut impl Sink, arguments: fmt::Arguments<'_>) {
    Writer(sink).write_fmt(arguments).expect("a sink takes everything");
}

struct Writer<'a, S>(&'a mut S);

impl<S: Sink> io::Write for Writer<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.copy(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
