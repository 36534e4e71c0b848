//! The JSON envelope as a client speaks it (`docs/protocols/json.md`): an object a message, a line an answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use contract::{Headers, Kind};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::stream::Dialect;
use super::tasks::Lines;
use super::{Call, Failure, Heard, Lost, Say, What, failure, v1};

/// The dialect.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    lines: Lines,
}

impl Dialect for Envelope {
    fn encode(&mut self, id: u64, say: &Say, out: &mut BytesMut) -> Result<(), Failure> {
        let (op, call) = match say {
            Say::Request(call) => ("request", Some(call)),
            Say::Publish(call) => ("publish", Some(call)),
            Say::Subscribe(call) => ("subscribe", Some(call)),
            Say::Unsubscribe => ("unsubscribe", None),
            Say::Cancel => ("cancel", None),
            Say::Ping => ("ping", None),
        };
        let mut text = format!("{{\"op\":\"{op}\",\"id\":{id}");
        let mut payload = Payload::Nothing;
        if let Some(call) = call {
            members(call, op, &mut text);
            payload = Payload::of(&call.payload);
        }
        let (key, bytes, end) = match &payload {
            Payload::Nothing => ("", &b""[..], "}\n"),
            Payload::Json(bytes) => (",\"payload\":", *bytes, "}\n"),
            Payload::Base64(text) => (",\"payload_base64\":\"", text.as_bytes(), "\"}\n"),
        };
        if text.len() + key.len() + bytes.len() + end.len() > wire::frame::FRAME_BYTES_MAX {
            return Err(Failure::new(
                Kind::TooLarge,
                "the message is over the 4 MiB that a document may have",
            ));
        }
        for piece in [text.as_bytes(), key.as_bytes(), bytes, end.as_bytes()] {
            out.extend_from_slice(piece);
        }
        Ok(())
    }

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Heard>, Lost> {
        self.lines.next(input)?.map(|line| answer(&line)).transpose()
    }
}

/// What goes with a payload, and how: JSON as it is, anything else as base64.
enum Payload<'a> {
    Nothing,
    Json(&'a [u8]),
    Base64(String),
}

impl<'a> Payload<'a> {
    fn of(bytes: &'a Bytes) -> Self {
        if bytes.is_empty() {
            Self::Nothing
        } else if wire::json::validate(bytes).is_ok() {
            Self::Json(bytes)
        } else {
            Self::Base64(STANDARD.encode(bytes))
        }
    }
}

/// Writes all members of a call but its payload.
fn members(call: &Call, op: &str, text: &mut String) {
    let quoted = |text: &str| serde_json::to_string(text).expect("a text is JSON");
    let mut put = |key: &str, value: &str| {
        write!(text, ",\"{key}\":{value}").expect("a string takes everything");
    };
    put("subject", &quoted(&call.subject));
    if !call.headers.is_empty() {
        let mut lists: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in call.headers.iter() {
            lists.entry(name).or_default().push(value);
        }
        put("headers", &serde_json::to_string(&lists).expect("texts are JSON"));
    }
    if let Some(timeout) = call.timeout {
        put("timeout_ms", &u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1).to_string());
    }
    if call.idempotent && op != "subscribe" {
        put("idempotent", "true");
    }
    if let Some(parent) = &call.traceparent {
        put("traceparent", &quoted(parent));
    }
}

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(default)]
    op: Option<String>,
    #[serde(default)]
    id: Option<u64>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Values>,
    #[serde(borrow, default, deserialize_with = "v1::present")]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    payload_base64: Option<String>,
    #[serde(default)]
    more: bool,
    #[serde(default)]
    lost: Option<u64>,
    #[serde(borrow, default)]
    error: Option<Error<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Error<'a> {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default, alias = "detail")]
    message: String,
    #[serde(default)]
    outcome: Option<String>,
    #[serde(default)]
    retry_after_ms: Option<u64>,
    #[serde(default)]
    backend_code: Option<String>,
    #[serde(borrow, default, deserialize_with = "v1::present")]
    body: Option<&'a RawValue>,
    #[serde(default)]
    body_base64: Option<String>,
}

impl Told<'_> {
    fn headers(&self) -> Result<Headers, Lost> {
        let mut headers = Headers::new();
        for (name, values) in &self.headers {
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Many(values) => values,
            };
            for value in values {
                headers
                    .append_past_limits(name.as_str(), value.as_str())
                    .map_err(|error| Lost::Protocol(error.to_string()))?;
            }
        }
        Ok(headers)
    }

    /// The payload, of `line`, which this was read from.
    fn payload(&self, line: &Bytes) -> Result<Bytes, Lost> {
        bytes(line, self.payload, self.payload_base64.as_deref())
    }

    fn delivery(&self, line: &Bytes) -> Result<What, Lost> {
        Ok(What::Delivery {
            subject: self.subject.clone().unwrap_or_default(),
            headers: self.headers()?,
            payload: self.payload(line)?,
        })
    }
}

fn answer(line: &Bytes) -> Result<Heard, Lost> {
    let told: Told<'_> = read(line)?;
    let what = match (told.op.as_deref(), &told.error) {
        (Some("reply"), _) => {
            What::Reply { headers: told.headers()?, payload: told.payload(line)?, more: told.more }
        }
        (Some("accepted"), _) => What::Accepted,
        (Some("delivery"), _) => told.delivery(line)?,
        (Some("gap"), _) => What::Gap(told.lost),
        (Some("end"), _) => What::End,
        (Some("pong"), _) => What::Pong,
        (Some("goaway"), _) => What::GoAway,
        (Some("error"), Some(error)) => What::Failed(failed(line, error)?),
        // What was not taken for an envelope is answered as a task.
        (None, Some(_)) => What::Failed(v1::failed(line)),
        (op, _) => return Err(Lost::Protocol(format!("an answer with the op {op:?}"))),
    };
    Ok(Heard { id: told.id, what })
}

fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Lost> {
    serde_json::from_slice(text).map_err(|error| Lost::Protocol(error.to_string()))
}

/// The data of an event `message`: the members of a delivery.
pub(super) fn delivery(data: &Bytes) -> Result<What, Lost> {
    read::<Told<'_>>(data)?.delivery(data)
}

/// The data of an event `gap`.
pub(super) fn gap(data: &Bytes) -> Result<What, Lost> {
    Ok(What::Gap(read::<Told<'_>>(data)?.lost))
}

/// A problem document of HTTP (RFC 9457): an error with `detail` for `message`.
pub(super) fn problem(document: &Bytes) -> Result<Failure, Lost> {
    failed(document, &read(document)?)
}

fn failed(line: &Bytes, error: &Error<'_>) -> Result<Failure, Lost> {
    let kind = error.kind.as_deref().map_or(Kind::Internal, failure::kind);
    let new = Failure::new(kind, error.message.clone());
    Ok(Failure {
        outcome: error.outcome.as_deref().and_then(failure::outcome).unwrap_or(new.outcome),
        retry_after: error.retry_after_ms.map(Duration::from_millis),
        backend_code: error.backend_code.clone(),
        body: bytes(line, error.body, error.body_base64.as_deref())?,
        ..new
    })
}

/// The bytes of a member that is JSON, or base64 under another key, or absent.
fn bytes(line: &Bytes, json: Option<&RawValue>, text: Option<&str>) -> Result<Bytes, Lost> {
    match (json, text) {
        (Some(raw), _) => Ok(line.slice_ref(raw.get().as_bytes())),
        (None, Some(text)) => v1::base64(text),
        (None, None) => Ok(Bytes::new()),
    }
}

#[cfg(test)]
mod tests {
    use contract::{Failed, Message, Outcome};
    use wire::{Id, Inbound, Outbound};

    use super::*;

    fn call(payload: &'static [u8]) -> Call {
        let mut headers = Headers::new();
        headers.append("X-A", "1").unwrap();
        headers.append("X-A", "2").unwrap();
        Call {
            subject: "a.b".to_owned(),
            payload: payload.into(),
            headers,
            timeout: Some(Duration::from_millis(250)),
            idempotent: true,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        }
    }

    fn said(say: &Say) -> Inbound {
        let mut out = BytesMut::new();
        Envelope::default().encode(7, say, &mut out).unwrap();
        let line = out.freeze();
        match wire::json::decode(line.slice(..line.len() - 1)) {
            Ok(wire::json::Decoded::Envelope(inbound)) => inbound,
            other => panic!("{other:?} of {line:?}"),
        }
    }

    fn heard(outbound: &Outbound<'_>) -> Heard {
        let mut bytes = BytesMut::new();
        wire::json::encode(outbound, 1 << 22, &mut bytes);
        bytes.extend_from_slice(b"\n");
        Envelope::default().decode(&mut bytes).unwrap().unwrap()
    }

    #[test]
    fn the_gateway_understands_what_is_said() {
        for payload in [&b"{\"a\": 1}"[..], b"null", b"text", b"\xff\0", b""] {
            let Inbound::Request { id: Id::Number(7), subject, question } =
                said(&Say::Request(call(payload)))
            else {
                panic!()
            };
            assert_eq!((subject.as_str(), &*question.payload), ("a.b", payload));
            assert_eq!(question.headers.len(), 2);
            assert_eq!(question.timeout, Some(Duration::from_millis(250)));
            assert!(question.idempotent && question.trace.is_some());
        }
        assert!(matches!(said(&Say::Publish(call(b"1"))), Inbound::Publish { .. }));
        assert!(matches!(said(&Say::Subscribe(call(b""))), Inbound::Subscribe { .. }));
        assert!(matches!(said(&Say::Unsubscribe), Inbound::Unsubscribe { .. }));
        assert!(matches!(said(&Say::Cancel), Inbound::Cancel { .. }));
        assert!(matches!(said(&Say::Ping), Inbound::Ping { .. }));
    }

    #[test]
    fn the_gateway_is_understood() {
        let id = Id::Number(9);
        for payload in [&b"{\"x\": 1}"[..], b"null", b"text", b""] {
            let mut message = Message { payload: payload.into(), ..Message::default() };
            message.headers.append("X-B", "2").unwrap();
            let reply = heard(&Outbound::Reply { id: &id, message: &message, more: false });
            let What::Reply { headers, payload: got, more: false } = reply.what else { panic!("{reply:?}") };
            assert_eq!((reply.id, &*got, headers), (Some(9), payload, message.headers));
        }
        let failed = Failed { body: "no".into(), code: "c".into(), http: 404, grpc: 5, counts: false };
        let error = contract::Error::failed(failed, "text");
        let told = heard(&Outbound::Error { id: Some(&id), error: &error });
        let What::Failed(failure) = told.what else { panic!("{told:?}") };
        assert_eq!(
            (failure.kind, failure.outcome, &*failure.body),
            (Kind::Failed, Outcome::Done, &b"no"[..])
        );
        assert!(matches!(heard(&Outbound::Gap { id: &id, lost: None }).what, What::Gap(None)));
        assert!(matches!(heard(&Outbound::Accepted { id: &id }).what, What::Accepted));
    }
}
