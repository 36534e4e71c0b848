//! Both forms together: the vectors that any client can be tested with, and properties of any message.

mod corpus;
mod properties;
mod vectors;

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use contract::{ByteBudget, Headers, QueueWish, TraceContext};
use serde_json::{Map, Value, json};

use crate::binary;
use crate::frame::{Decoded, Decoder, FRAME_BYTES_MAX};
use crate::message::{Id, Inbound, Question, Refusal};

/// A folder or file of the repository, which is two levels up.
fn in_repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The normal form of a message: an envelope with its values always in lists and its payload always in base64.
fn show(message: &Inbound) -> Value {
    let (op, id, target, question) = match message {
        Inbound::Hello { id } => ("hello", id.as_ref(), None, None),
        Inbound::Publish { id, subject, question } => {
            ("publish", id.as_ref(), Some(subject.as_str()), Some(question))
        }
        Inbound::Request { id, subject, question } => {
            ("request", Some(id), Some(subject.as_str()), Some(question))
        }
        Inbound::Subscribe { id, pattern, question } => {
            ("subscribe", Some(id), Some(pattern.as_str()), Some(question))
        }
        Inbound::Unsubscribe { id } => ("unsubscribe", Some(id), None, None),
        Inbound::Cancel { id } => ("cancel", Some(id), None, None),
        Inbound::Ping { id, .. } => ("ping", id.as_ref(), None, None),
    };
    let mut shown = Map::new();
    shown.insert("op".into(), op.into());
    let mut put = |key: &str, value: Option<Value>| value.map(|value| shown.insert(key.into(), value));
    put("id", id.map(show_id));
    put("subject", target.map(Value::from));
    if let Inbound::Ping { payload, .. } = message {
        put("payload_base64", show_bytes(payload));
    }
    if let Some(Question { headers, payload, timeout, idempotent, trace, position, queue }) = question {
        put("headers", show_headers(headers));
        put("timeout_ms", timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap().into()));
        put("idempotent", idempotent.then(|| true.into()));
        put("traceparent", trace.as_ref().map(|trace| Value::from(&*trace.traceparent())));
        put(
            "tracestate",
            trace.as_ref().and_then(TraceContext::tracestate).map(|state| Value::from(&**state)),
        );
        put("position", position.as_ref().map(|position| STANDARD.encode(position).into()));
        let QueueWish { policy, messages_max, bytes_max } = queue.unwrap_or_default();
        put("queue_policy", policy.map(|policy| policy.name().into()));
        put("queue_messages_max", messages_max.map(Value::from));
        put("queue_bytes_max", bytes_max.map(Value::from));
        put("payload_base64", show_bytes(payload));
    }
    shown.into()
}

fn show_id(id: &Id) -> Value {
    match id {
        Id::Number(number) => (*number).into(),
        Id::Text(text) => Value::from(&**text),
    }
}

fn show_bytes(bytes: &Bytes) -> Option<Value> {
    (!bytes.is_empty()).then(|| STANDARD.encode(bytes).into())
}

fn show_headers(headers: &Headers) -> Option<Value> {
    let mut shown = Map::new();
    for (name, value) in headers.iter() {
        let values = shown.entry(&**name).or_insert_with(|| json!([]));
        values.as_array_mut().unwrap().push(Value::from(&**value));
    }
    (!shown.is_empty()).then(|| shown.into())
}

/// What a refusal says, without the words.
fn show_refusal(refusal: &Refusal) -> Value {
    let mut shown = json!({"kind": refusal.error.kind().code()});
    if let Some(id) = &refusal.id {
        shown["id"] = show_id(id);
    }
    shown
}

/// Everything said in a stream of frames of version 2 that comes in these pieces.
fn hear<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Result<Inbound, Refusal>> {
    let mut decoder = Decoder::new(ByteBudget::new(usize::MAX), &[1, 2], FRAME_BYTES_MAX);
    let mut heard = Vec::new();
    for mut piece in pieces {
        while let Some(decoded) = decoder.decode(&mut piece) {
            let Decoded::Frame { version: 2, kind, payload, .. } = decoded else { panic!("{decoded:?}") };
            heard.push(binary::decode(kind, payload));
        }
    }
    heard
}

fn show_all(heard: &[Result<Inbound, Refusal>]) -> Vec<Value> {
    heard.iter().map(|heard| heard.as_ref().map_or_else(show_refusal, show)).collect()
}
