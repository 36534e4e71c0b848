//! Version 1 of the IPC protocol: what its frames mean (`docs/protocols/ipc.md`).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use contract::{Delivery, Error, Event, Format, Kind, Message, MessageType, Outcome, Pattern};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::exchange::{Answer, Push, Said, StreamName};
use crate::frame::{self, Broken, Decoded, kind};
use crate::outbox::Outbox;
use wire::{Sink, json};

/// Bytes of the largest payload.
const PAYLOAD_BYTES_MAX: usize = frame::FRAME_BYTES_MAX - frame::HEADER_BYTES;
/// Bytes of the longest stream name.
const STREAM_NAME_BYTES_MAX: usize = 64;

/// The message types of the old tasks, as routes know them.
pub(crate) const TASK_SUBMIT: MessageType = MessageType("task_submit");
const TASK_QUERY: MessageType = MessageType("task_query");
const TASK_CANCEL: MessageType = MessageType("task_cancel");

/// What version 1 means and says, over frames that somebody else decodes.
#[derive(Debug)]
pub(crate) struct Version1 {
    /// Whether a reply whose JSON says `"ok":false` is written as `RESPONSE_ERROR`.
    pub(crate) failed_as_error: bool,
}

impl Version1 {
    /// What a decoded frame says.
    pub(crate) fn meaning(decoded: Decoded) -> Said {
        match decoded {
            Decoded::Frame { kind, payload, charge, .. } => match kind {
                kind::TASK_SUBMIT => task(TASK_SUBMIT, payload, charge),
                kind::TASK_QUERY => task(TASK_QUERY, payload, charge),
                kind::TASK_CANCEL => stream_to_end(&payload).map_or_else(
                    || task(TASK_CANCEL, payload, charge),
                    |stream| Said::Plain(Answer::End { stream }),
                ),
                kind::STREAM_SUBSCRIBE => subscription(&payload)
                    .map_or_else(refused, |(pattern, stream)| Said::Subscribe { pattern, stream }),
                kind::PING => Said::Plain(Answer::Pong),
                kind::CAPABILITIES => Said::Plain(Answer::Capabilities),
                _ => refused(Error::new(Kind::Unsupported, "Unknown message type")),
            },
            Decoded::Skipped { .. } => refused(Error::new(
                Kind::Overloaded,
                "the gateway has no memory left for this payload; try again later",
            )),
            Decoded::Broken(Broken::Version) => Said::Last(Answer::Version),
            Decoded::Broken(Broken::TooShort) => last(Error::new(Kind::Malformed, "Invalid payload")),
            Decoded::Broken(Broken::TooLarge) => last(Error::new(Kind::TooLarge, "Frame too large")),
        }
    }
}

fn refused(error: Error) -> Said {
    Said::Plain(Answer::Error(error))
}

fn last(error: Error) -> Said {
    Said::Last(Answer::Error(error))
}

fn task(kind: MessageType, payload: Bytes, charge: Option<contract::Charge>) -> Said {
    if payload.is_empty() {
        return Said::Task { kind, payload: Bytes::from_static(b"{}"), charge };
    }
    match json::validate(&payload) {
        Ok(()) => Said::Task { kind, payload, charge },
        Err(error) => refused(Error::new(Kind::Malformed, format!("Invalid payload: not JSON: {error}"))),
    }
}

/// The stream that a `TASK_CANCEL` ends: it has `stream` and no `task_id`. Others cancel tasks.
fn stream_to_end(payload: &[u8]) -> Option<StreamName> {
    #[derive(Deserialize)]
    struct Cancel<'a> {
        #[serde(borrow)]
        stream: Cow<'a, str>,
        #[serde(borrow, default)]
        task_id: Option<&'a RawValue>,
    }
    let cancel: Cancel<'_> = serde_json::from_slice(payload).ok()?;
    cancel.task_id.is_none().then(|| cancel.stream.into())
}

fn subscription(payload: &[u8]) -> Result<(Pattern, Option<StreamName>), Error> {
    #[derive(Deserialize)]
    struct Subscribe<'a> {
        #[serde(borrow)]
        subject: Cow<'a, str>,
        #[serde(borrow, default)]
        stream: Option<Cow<'a, str>>,
    }
    let subscribe: Subscribe<'_> = serde_json::from_slice(payload).map_err(|error| {
        let text = format!("Invalid payload: a subscription is {{\"subject\",\"stream\"?}}: {error}");
        Error::new(Kind::Malformed, text)
    })?;
    let pattern = Pattern::parse(&*subscribe.subject)
        .map_err(|error| Error::new(Kind::Invalid, format!("Invalid payload: {error}")))?;
    match subscribe.stream {
        Some(name) if name.is_empty() || name.len() > STREAM_NAME_BYTES_MAX => {
            Err(Error::new(Kind::Invalid, "Invalid payload: a stream name has 1 to 64 bytes"))
        }
        name => Ok((pattern, name.map(StreamName::from))),
    }
}

impl Version1 {
    /// Encodes an answer that opens or ends no stream.
    pub(crate) fn answer(&self, answer: Answer, outbox: &mut Outbox) {
        match answer {
            Answer::Message(message) => reply(message, self.failed_as_error, outbox),
            Answer::Pong => outbox.copy(&frame::header(kind::PONG, 0)),
            Answer::Capabilities => put(outbox, kind::RESPONSE_OK, capabilities().into()),
            Answer::Version => {
                let error = Error::new(Kind::Unsupported, "Unsupported protocol version");
                put(outbox, kind::RESPONSE_ERROR, error_body(&error, 1).into());
            }
            // The backend said no in its own words: those are the reply.
            Answer::Error(error) => match error.as_failed() {
                Some(failed) if !failed.body.is_empty() => {
                    let message = Message { payload: failed.body.clone(), ..Message::default() };
                    reply(message, self.failed_as_error, outbox);
                }
                _ => put(outbox, kind::RESPONSE_ERROR, error_body(&error, error.kind().row().ipc).into()),
            },
            Answer::Opened { stream, .. } | Answer::End { stream } => Self::acknowledge(&stream, outbox),
        }
    }

    /// Encodes the acceptance of a subscription, or of its end.
    pub(crate) fn acknowledge(stream: &str, outbox: &mut Outbox) {
        let body = format!("{{\"ok\":true,\"stream\":{}}}", quoted(stream));
        put(outbox, kind::RESPONSE_OK, body.into());
    }

    /// Encodes what a stream yields.
    pub(crate) fn push(stream: &str, push: Push<'_>, outbox: &mut Outbox) {
        let name = quoted(stream);
        match push {
            Push::Event(Event::Delivery(delivery)) => {
                let start = format!("{{\"stream\":{name}");
                // Looked at and encoded once, for however many listeners.
                let rest = delivery.encoded(Format::Ipc1, delivery_rest);
                let bytes = start.len() + rest.len();
                if bytes > PAYLOAD_BYTES_MAX {
                    // It fits no frame: lost, and told.
                    return put(outbox, kind::STREAM_DATA, gap(&name, Some(1)).into());
                }
                outbox.copy(&frame::header(kind::STREAM_DATA, bytes));
                outbox.copy(start.as_bytes());
                outbox.share(rest);
            }
            Push::Event(Event::Gap { lost }) => {
                put(outbox, kind::STREAM_DATA, gap(&name, lost.map(u64::from)).into());
            }
            Push::Complete => {
                put(outbox, kind::STREAM_COMPLETE, format!("{{\"stream\":{name}}}").into());
            }
            Push::Failed(error) => {
                let body = error_body(error, error.kind().row().ipc);
                let rest = body.strip_prefix('{').unwrap_or(&body);
                put(outbox, kind::STREAM_ERROR, format!("{{\"stream\":{name},{rest}").into());
            }
        }
    }
}

/// What is behind the name of the stream in the frame of a delivery.
fn delivery_rest(delivery: &Delivery) -> Bytes {
    let subject = quoted(delivery.subject.as_str());
    let payload = &delivery.payload;
    let (key, payload, end): (_, Cow<'_, [u8]>, _) = if json::validate(payload).is_ok() {
        ("payload\":", Cow::Borrowed(payload), "}")
    } else {
        ("payload_base64\":\"", Cow::Owned(STANDARD.encode(payload).into_bytes()), "\"}")
    };
    [b",\"subject\":", subject.as_bytes(), b",\"", key.as_bytes(), &payload, end.as_bytes()].concat().into()
}

/// `null` when nobody can know how many.
fn gap(name: &str, lost: Option<u64>) -> String {
    let lost = lost.map_or_else(|| "null".to_owned(), |lost| lost.to_string());
    format!("{{\"stream\":{name},\"gap\":{lost}}}")
}

fn put(outbox: &mut Outbox, kind: u8, payload: Bytes) {
    outbox.copy(&frame::header(kind, payload.len()));
    outbox.share(payload);
}

/// A reply byte for byte, if it fits a frame.
fn reply(message: Message, failed_as_error: bool, outbox: &mut Outbox) {
    let payload = message.payload;
    if payload.len() > PAYLOAD_BYTES_MAX {
        let error =
            Error::new(Kind::TooLarge, "the reply is larger than a frame").with_outcome(Outcome::Done);
        return put(outbox, kind::RESPONSE_ERROR, error_body(&error, error.kind().row().ipc).into());
    }
    if failed_as_error && says_no(&payload) {
        let error = Error::new(Kind::Failed, "the backend answered no; its answer is in error.body");
        let body = error_body(&error, error.kind().row().ipc);
        let body = body.strip_suffix("}}").unwrap_or(&body);
        let bytes = body.len() + b",\"body\":".len() + payload.len() + b"}}".len();
        if bytes <= PAYLOAD_BYTES_MAX {
            outbox.copy(&frame::header(kind::RESPONSE_ERROR, bytes));
            outbox.copy(body.as_bytes());
            outbox.copy(b",\"body\":");
            outbox.share(payload);
            return outbox.copy(b"}}");
        }
    }
    put(outbox, kind::RESPONSE_OK, payload);
}

/// Whether a reply is a JSON object with `"ok":false`.
fn says_no(payload: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Says {
        ok: bool,
    }
    serde_json::from_slice::<Says>(payload).is_ok_and(|says| !says.ok)
}

/// The error body of version 1 (and of raw JSON): the number that old clients know, and behind it, in the
/// same object, the gateway's own string code and what became of the request.
pub(crate) fn error_body(error: &Error, code: u8) -> String {
    use std::fmt::Write as _;
    let (kind, outcome) = (error.kind().code(), error.outcome().code());
    let mut body = format!(
        "{{\"ok\":false,\"error\":{{\"code\":{code},\"message\":{},\"kind\":\"{kind}\",\"outcome\":\"{outcome}\"",
        quoted(error.text()),
    );
    if let Some(wait) = error.retry_after() {
        let _ = write!(body, ",\"retry_after_ms\":{}", wait.as_millis().max(1));
    }
    if let Some(failed) = error.as_failed() {
        let _ = write!(body, ",\"backend_code\":{}", quoted(&failed.code));
    }
    body.push_str("}}");
    body
}

fn capabilities() -> String {
    let types = [
        kind::TASK_SUBMIT,
        kind::TASK_QUERY,
        kind::TASK_CANCEL,
        kind::STREAM_SUBSCRIBE,
        kind::STREAM_DATA,
        kind::STREAM_COMPLETE,
        kind::STREAM_ERROR,
        kind::RESPONSE_OK,
        kind::RESPONSE_ERROR,
        kind::PING,
        kind::PONG,
        kind::CAPABILITIES,
    ]
    .map(|kind| kind.to_string())
    .join(",");
    format!(
        "{{\"ok\":true,\"protocol_version\":\"1.0\",\"supported_versions\":[{},{}],\
         \"supported_message_types\":[{types}],\"max_payload_size\":{PAYLOAD_BYTES_MAX},\
         \"features\":[\"pipelining\",\"streams\",\"raw_json\",\"json_envelope\"]}}",
        frame::VERSION,
        wire::binary::VERSION,
    )
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(kind: u8, payload: &'static str) -> Said {
        Version1::meaning(Decoded::Frame {
            version: frame::VERSION,
            kind,
            payload: payload.into(),
            charge: None,
        })
    }

    #[test]
    fn an_empty_task_is_an_empty_object() {
        let Said::Task { payload, .. } = says(kind::TASK_QUERY, "") else { panic!() };
        assert_eq!(payload, "{}");
    }

    #[test]
    fn a_cancel_of_a_stream_is_told_from_a_cancel_of_a_task() {
        assert!(matches!(says(kind::TASK_CANCEL, r#"{"stream":"s"}"#), Said::Plain(Answer::End { .. })));
        for task in [r#"{"task_id":"t"}"#, r#"{"task_id":"t","stream":"s"}"#, r#"{"stream":1}"#, "[]", ""] {
            assert!(matches!(says(kind::TASK_CANCEL, task), Said::Task { .. }), "{task}");
        }
    }

    #[test]
    fn bad_subscriptions_are_refused_and_the_connection_stays() {
        for bad in ["", "{}", "[1]", r#"{"subject":"a..b"}"#, r#"{"subject":"a","stream":""}"#] {
            let Said::Plain(Answer::Error(error)) = says(kind::STREAM_SUBSCRIBE, bad) else {
                panic!("{bad}")
            };
            assert_eq!(error.kind().row().ipc, 4, "{bad}");
        }
        let named = says(kind::STREAM_SUBSCRIBE, r#"{"subject":"a.>","stream":"mine"}"#);
        assert!(matches!(named, Said::Subscribe { stream: Some(name), .. } if &*name == "mine"));
    }

    #[test]
    fn replies_and_unknown_types_are_refused() {
        for kind in [0x00, 0x05, 0x06, 0x07, 0x08, 0x10, 0x11, 0xF1, 0xFF] {
            let Said::Plain(Answer::Error(error)) = says(kind, "{}") else { panic!("{kind}") };
            assert_eq!(error.kind().row().ipc, 2);
        }
    }

    #[test]
    fn the_error_body_is_what_old_clients_parse_and_more() {
        let error = Error::new(Kind::RateLimited, "slow \"down\"")
            .with_retry_after(std::time::Duration::from_millis(20));
        let body: serde_json::Value = serde_json::from_str(&error_body(&error, 99)).unwrap();
        assert_eq!(body["ok"], false);
        assert_eq!(body["error"]["code"], 99);
        assert_eq!(body["error"]["message"], "slow \"down\"");
        assert_eq!(body["error"]["kind"], "rate_limited");
        assert_eq!(body["error"]["outcome"], "not_sent");
        assert_eq!(body["error"]["retry_after_ms"], 20);
    }

    #[test]
    fn capabilities_are_json_and_true() {
        let body: serde_json::Value = serde_json::from_str(&capabilities()).unwrap();
        assert_eq!(body["max_payload_size"], 4_194_298);
        assert_eq!(body["protocol_version"], "1.0");
        assert_eq!(body["supported_versions"], serde_json::json!([1, 2]));
        assert_eq!(body["supported_message_types"].as_array().unwrap().len(), 12);
    }
}
