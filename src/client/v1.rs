//! Version 1 of the IPC protocol as a client speaks it (`docs/protocols/ipc.md`).
//!
//! It has no ids and no subjects: answers come in the order of the questions, and a question is one of three
//! types that the gateway's configuration sends to a subject.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use contract::{Headers, Kind};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use wire::frame::{FRAME_BYTES_MAX, HEADER_BYTES, header};

use super::stream::Dialect;
use super::{Call, Failure, Heard, Lost, Say, What, failure};

const VERSION: u8 = 1;

mod kind {
    pub(super) const TASK_SUBMIT: u8 = 0x01;
    pub(super) const TASK_QUERY: u8 = 0x02;
    pub(super) const TASK_CANCEL: u8 = 0x03;
    pub(super) const STREAM_SUBSCRIBE: u8 = 0x04;
    pub(super) const STREAM_DATA: u8 = 0x05;
    pub(super) const STREAM_COMPLETE: u8 = 0x06;
    pub(super) const STREAM_ERROR: u8 = 0x07;
    pub(super) const RESPONSE_OK: u8 = 0x10;
    pub(super) const RESPONSE_ERROR: u8 = 0x11;
    pub(super) const PING: u8 = 0xF0;
    pub(super) const PONG: u8 = 0xF1;
}

/// The message types by the names that routes have for them.
const TYPES: [(&str, u8); 3] = [
    ("task_submit", kind::TASK_SUBMIT),
    ("task_query", kind::TASK_QUERY),
    ("task_cancel", kind::TASK_CANCEL),
];

/// The dialect.
#[derive(Debug, Default)]
pub(super) struct Version1 {
    /// What waits for an answer, oldest first.
    asked: VecDeque<Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    id: u64,
    what: Asking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    Task,
    Subscribe,
    Unsubscribe,
    Ping,
}

impl Dialect for Version1 {
    fn encode(&mut self, id: u64, say: &Say, out: &mut BytesMut) -> Result<(), Failure> {
        let (what, kind, payload) = match say {
            Say::Request(call) => (Asking::Task, task(call)?, call.payload.clone()),
            Say::Publish(_) => return Err(Failure::unsupported("version 1 cannot publish; use --via unix")),
            Say::Subscribe(call) => {
                let subject = quoted(&call.subject);
                let text = format!("{{\"subject\":{subject},\"stream\":\"{id}\"}}");
                (Asking::Subscribe, kind::STREAM_SUBSCRIBE, Bytes::from(text))
            }
            Say::Unsubscribe => {
                let text = format!("{{\"stream\":\"{id}\"}}");
                (Asking::Unsubscribe, kind::TASK_CANCEL, Bytes::from(text))
            }
            Say::Cancel => {
                return Err(Failure::unsupported("version 1 cannot take a task back; use --via unix"));
            }
            Say::Ping => (Asking::Ping, kind::PING, Bytes::new()),
        };
        if HEADER_BYTES + payload.len() > FRAME_BYTES_MAX {
            let text = format!("the message is over the {FRAME_BYTES_MAX} bytes of a frame");
            return Err(Failure::new(Kind::TooLarge, text));
        }
        out.extend_from_slice(&header(VERSION, kind, payload.len()));
        out.extend_from_slice(&payload);
        self.asked.push_back(Asked { id, what });
        Ok(())
    }

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Heard>, Lost> {
        let Some((kind, payload)) = frame(input)? else { return Ok(None) };
        let pushed = match kind {
            kind::STREAM_DATA => Some(data(payload.clone())?),
            kind::STREAM_COMPLETE => Some((stream(&payload)?, What::End)),
            kind::STREAM_ERROR => Some((stream(&payload)?, What::Failed(failed(&payload)))),
            _ => None,
        };
        if let Some((id, what)) = pushed {
            return Ok(Some(Heard { id: Some(id), what }));
        }
        let asked = self.asked.pop_front();
        let what = match (kind, asked.map(|asked| asked.what)) {
            (kind::RESPONSE_ERROR, _) => What::Failed(failed(&payload)),
            (kind::RESPONSE_OK, Some(Asking::Task)) => {
                What::Reply { headers: Headers::new(), payload, more: false }
            }
            (kind::RESPONSE_OK, Some(Asking::Subscribe)) => What::Accepted,
            (kind::RESPONSE_OK, Some(Asking::Unsubscribe)) => What::End,
            (kind::PONG, Some(Asking::Ping)) => What::Pong,
            (kind, _) => return Err(Lost::Protocol(format!("type 0x{kind:02x}, which nothing asked for"))),
        };
        Ok(Some(Heard { id: asked.map(|asked| asked.id), what }))
    }
}

/// The type that a task's subject names.
fn task(call: &Call) -> Result<u8, Failure> {
    let found = TYPES.iter().find(|(name, _)| *name == call.subject);
    let kind = found.map(|(_, kind)| *kind).ok_or_else(|| {
        Failure::unsupported("version 1 has no subjects: ask task_submit, task_query or task_cancel")
    })?;
    plain(call)?;
    Ok(kind)
}

/// That a call has nothing that only later protocols can say.
pub(super) fn plain(call: &Call) -> Result<(), Failure> {
    let Call { headers, timeout, idempotent, traceparent, .. } = call;
    if headers.is_empty() && timeout.is_none() && !idempotent && traceparent.is_none() {
        return Ok(());
    }
    Err(Failure::unsupported("this protocol has no headers, timeouts, flags or traces; use --via unix"))
}

/// The next whole frame: its type and payload.
fn frame(input: &mut BytesMut) -> Result<Option<(u8, Bytes)>, Lost> {
    let Some(&[a, b, c, d, version, kind]) = input.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if version != VERSION || !(HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length) {
        return Err(Lost::Protocol(format!("a frame of {length} bytes of version {version}")));
    }
    if input.len() < length {
        return Ok(None);
    }
    Ok(Some((kind, input.split_to(length).freeze().slice(HEADER_BYTES..))))
}

/// A version 1 error frame where another version was expected: the gateway does not speak the other.
pub(super) fn refusal(input: &mut BytesMut) -> Result<Option<Heard>, Lost> {
    match frame(input)? {
        None => Ok(None),
        Some((kind::RESPONSE_ERROR, payload)) => {
            Ok(Some(Heard { id: None, what: What::Failed(failed(&payload)) }))
        }
        Some((kind, _)) => Err(Lost::Protocol(format!("type 0x{kind:02x} of version 1"))),
    }
}

/// A pushed message: which stream's, and what.
#[expect(clippy::needless_pass_by_value, reason = "a delivery is a slice of it")]
fn data(payload: Bytes) -> Result<(u64, What), Lost> {
    #[derive(Deserialize)]
    struct Data<'a> {
        subject: Option<String>,
        #[serde(borrow, default, deserialize_with = "present")]
        payload: Option<&'a RawValue>,
        payload_base64: Option<String>,
        gap: Option<u64>,
    }
    let id = stream(&payload)?;
    let data: Data<'_> = serde_json::from_slice(&payload).map_err(protocol)?;
    let Some(subject) = data.subject else { return Ok((id, What::Gap(data.gap))) };
    let bytes = match (data.payload, data.payload_base64) {
        (_, Some(text)) => base64(&text)?,
        (Some(raw), None) => payload.slice_ref(raw.get().as_bytes()),
        (None, None) => Bytes::new(),
    };
    Ok((id, What::Delivery { subject, headers: Headers::new(), payload: bytes }))
}

/// A value that is there, also when it is `null`, which serde would read as absent.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// The bytes that base64 stands for.
pub(super) fn base64(text: &str) -> Result<Bytes, Lost> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    bytes.map(Bytes::from).map_err(|error| Lost::Protocol(error.to_string()))
}

/// The stream that a push belongs to: the id it was subscribed with.
fn stream(payload: &[u8]) -> Result<u64, Lost> {
    #[derive(Deserialize)]
    struct Push {
        stream: String,
    }
    let push: Push = serde_json::from_slice(payload).map_err(protocol)?;
    push.stream.parse().map_err(|_| Lost::Protocol(format!("the stream {:?}", push.stream)))
}

#[expect(clippy::needless_pass_by_value, reason = "it is the shape of map_err")]
fn protocol(error: serde_json::Error) -> Lost {
    Lost::Protocol(error.to_string())
}

/// What an error body says: the gateway's own string code where it is given, else what the number means.
pub(super) fn failed(payload: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct Body {
        error: Said,
    }
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        code: u8,
        #[serde(default)]
        message: String,
        #[serde(default)]
        kind: Option<String>,
        #[serde(default)]
        outcome: Option<String>,
        #[serde(default)]
        retry_after_ms: Option<u64>,
        #[serde(default)]
        backend_code: Option<String>,
        /// The backend's own no, as it stands (`ipc.failed_as_error`).
        #[serde(default)]
        body: Option<Box<RawValue>>,
    }
    let Ok(Body { error: said }) = serde_json::from_slice(payload) else {
        return Failure {
            body: Bytes::copy_from_slice(payload),
            ..Failure::new(Kind::Failed, "the answer is an error")
        };
    };
    let by_number = match said.code {
        1 | 2 => Kind::Unsupported,
        3 => Kind::TooLarge,
        4 => Kind::Malformed,
        5 => Kind::TimedOut,
        6 => Kind::Cancelled,
        _ => Kind::Internal,
    };
    let new = Failure::new(said.kind.as_deref().map_or(by_number, failure::kind), said.message);
    Failure {
        outcome: said.outcome.as_deref().and_then(failure::outcome).unwrap_or(new.outcome),
        retry_after: said.retry_after_ms.map(std::time::Duration::from_millis),
        backend_code: said.backend_code,
        body: said.body.map(|body| Bytes::from(String::from(Box::<str>::from(body)))).unwrap_or_default(),
        ..new
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(input: &mut BytesMut, kind: u8, body: &str) {
        input.extend_from_slice(&header(VERSION, kind, body.len()));
        input.extend_from_slice(body.as_bytes());
    }

    fn task(subject: &str) -> Say {
        Say::Request(Call { subject: subject.to_owned(), payload: "{}".into(), ..Call::default() })
    }

    #[test]
    fn answers_are_matched_by_their_order() {
        let mut version1 = Version1::default();
        let mut out = BytesMut::new();
        version1.encode(5, &task("task_submit"), &mut out).unwrap();
        version1.encode(6, &Say::Ping, &mut out).unwrap();
        version1.encode(7, &task("task_query"), &mut out).unwrap();
        assert_eq!(out[..8], *b"\0\0\0\x08\x01\x01{}");
        let mut input = BytesMut::new();
        put(&mut input, kind::RESPONSE_OK, "{\"ok\":false}");
        put(&mut input, kind::PONG, "");
        put(&mut input, kind::RESPONSE_ERROR, r#"{"ok":false,"error":{"code":5,"message":"late"}}"#);
        let mut heard = || version1.decode(&mut input).unwrap();
        let Some(Heard { id: Some(5), what: What::Reply { payload, .. } }) = heard() else { panic!() };
        assert_eq!(payload, "{\"ok\":false}");
        assert!(matches!(heard(), Some(Heard { id: Some(6), what: What::Pong })));
        let Some(Heard { id: Some(7), what: What::Failed(failure) }) = heard() else { panic!() };
        assert_eq!((failure.kind, &*failure.text), (Kind::TimedOut, "late"));
        assert!(heard().is_none());
    }

    #[test]
    fn streams_are_heard_between_answers() {
        let mut version1 = Version1::default();
        let subscribe = Say::Subscribe(Call { subject: "a.>".to_owned(), ..Call::default() });
        version1.encode(3, &subscribe, &mut BytesMut::new()).unwrap();
        let mut input = BytesMut::new();
        put(&mut input, kind::RESPONSE_OK, r#"{"ok":true,"stream":"3"}"#);
        put(&mut input, kind::STREAM_DATA, r#"{"stream":"3","subject":"a.b","payload":{"x": 1}}"#);
        put(&mut input, kind::STREAM_DATA, r#"{"stream":"3","subject":"a.b","payload_base64":"AAE="}"#);
        put(&mut input, kind::STREAM_DATA, r#"{"stream":"3","subject":"a.b","payload":null}"#);
        put(&mut input, kind::STREAM_DATA, r#"{"stream":"3","gap":4}"#);
        put(&mut input, kind::STREAM_DATA, r#"{"stream":"3","gap":null}"#);
        put(
            &mut input,
            kind::STREAM_ERROR,
            r#"{"stream":"3","ok":false,"error":{"code":6,"message":"m","kind":"draining"}}"#,
        );
        let mut said = Vec::new();
        while let Some(heard) = version1.decode(&mut input).unwrap() {
            assert_eq!(heard.id, Some(3));
            said.push(match heard.what {
                What::Delivery { subject, payload, .. } => format!("{subject} {payload:?}"),
                What::Gap(lost) => format!("gap {lost:?}"),
                What::Failed(failure) => failure.kind.to_string(),
                What::Accepted => "accepted".to_owned(),
                other => panic!("{other:?}"),
            });
        }
        let expected = [
            "accepted",
            r#"a.b b"{\"x\": 1}""#,
            r#"a.b b"\0\x01""#,
            r#"a.b b"null""#,
            "gap Some(4)",
            "gap None",
            "draining",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn what_version_1_cannot_say_is_refused() {
        let mut version1 = Version1::default();
        let timeout = Some(std::time::Duration::from_secs(1));
        let late = Say::Request(Call { subject: "task_submit".to_owned(), timeout, ..Call::default() });
        for say in [task("a.b"), Say::Publish(Call::default()), late] {
            let refused = version1.encode(1, &say, &mut BytesMut::new()).unwrap_err();
            assert_eq!(refused.kind, Kind::Unsupported);
        }
        assert!(version1.asked.is_empty());
    }
}
