//! Properties of any message: it survives its own form, fits its limit, and no bytes whatever break a parser.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use bytestring::ByteString;
use contract::{Delivery, Error, Failed, Kind, Message, Outcome, Pattern, QueuePolicy, Subject};
use proptest::prelude::*;

use super::*;
use crate::binary::client::{self, Heard};
use crate::fuzzing;
use crate::json::{self, Decoded as Document};
use crate::message::Outbound;

fn headers() -> impl Strategy<Value = Headers> {
    let header = ("[!-9;-~]{1,12}", "[^\r\n\0]{0,12}");
    prop::collection::vec(header, 0..4).prop_map(|entries| {
        let mut headers = Headers::new();
        // Names that differ by case or repeat are kept together, as JSON keeps them.
        for (name, value) in entries {
            headers.append(name, value).unwrap();
        }
        headers
    })
}

fn payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just(Bytes::new()),
        Just(Bytes::from_static(b"{\"a\": [1.0, \"\\u00e4\n\"]}")),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from),
        (0..1000_u32).prop_map(|number| number.to_string().into()),
    ]
}

fn position() -> impl Strategy<Value = Option<Bytes>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from))
}

fn question() -> impl Strategy<Value = Question> {
    let trace = prop::option::of(prop::option::of("[a-z]{1,4}=[a-z]{1,4}")).prop_map(|state| {
        let state = state?.map(ByteString::from);
        TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", state.as_ref()).ok()
    });
    (headers(), payload(), prop::option::of(1..=u32::MAX), any::<bool>(), trace).prop_map(
        |(headers, payload, timeout, idempotent, trace)| Question {
            headers,
            payload,
            timeout: timeout.map(|ms| Duration::from_millis(ms.into())),
            idempotent,
            trace,
            position: None,
            queue: None,
        },
    )
}

fn queue() -> impl Strategy<Value = Option<QueueWish>> {
    let size = || prop::option::of(any::<u32>().prop_map(|size| usize::try_from(size).unwrap()));
    let policy = prop::option::of(prop::sample::select(&QueuePolicy::ALL[..]));
    (policy, size(), size()).prop_map(|(policy, messages_max, bytes_max)| {
        let wish = QueueWish { policy, messages_max, bytes_max };
        (wish != QueueWish::default()).then_some(wish)
    })
}

fn id() -> impl Strategy<Value = Id> {
    any::<u64>().prop_map(Id::Number)
}

fn subject() -> impl Strategy<Value = Subject> {
    "[a-zä\"\\\\$]{1,5}(\\.[a-z0-9]{1,5}){0,3}".prop_map(|text| Subject::parse(text).unwrap())
}

fn inbound() -> impl Strategy<Value = Inbound> {
    prop_oneof![
        prop::option::of(id()).prop_map(|id| Inbound::Hello { id }),
        (prop::option::of(id()), subject(), question())
            .prop_map(|(id, subject, question)| Inbound::Publish { id, subject, question }),
        (id(), subject(), question()).prop_map(|(id, subject, question)| Inbound::Request {
            id,
            subject,
            question
        }),
        (id(), "[a-z*]\\.[a-z*](\\.>)?", question(), position(), queue()).prop_map(
            |(id, pattern, question, position, queue)| {
                let question =
                    Question { payload: Bytes::new(), idempotent: false, position, queue, ..question };
                Inbound::Subscribe { id, pattern: Pattern::parse(pattern).unwrap(), question }
            }
        ),
        id().prop_map(|id| Inbound::Unsubscribe { id }),
        id().prop_map(|id| Inbound::Cancel { id }),
        (prop::option::of(id()), payload()).prop_map(|(id, payload)| Inbound::Ping { id, payload }),
    ]
}

fn error() -> impl Strategy<Value = Error> {
    let kinds: Vec<Kind> = contract::error::TABLE.iter().map(|row| row.kind).collect();
    let outcomes = vec![Outcome::NotSent, Outcome::Unknown, Outcome::Done];
    let failed = prop::option::of((payload(), "[^\0]{0,8}"));
    let wait = prop::option::of(1..=u32::MAX);
    (prop::sample::select(kinds), prop::sample::select(outcomes), "[^\0]{0,20}", wait, failed).prop_map(
        |(kind, outcome, text, wait, failed)| {
            let error = match failed {
                None => Error::new(kind, text),
                Some((body, code)) => {
                    let code = code.into();
                    Error::failed(Failed { body, code, http: 502, grpc: 2, counts: false }, text)
                }
            };
            let error = error.with_outcome(outcome);
            wait.map(|ms| Duration::from_millis(ms.into())).into_iter().fold(error, Error::with_retry_after)
        },
    )
}

fn written(outbound: &Outbound<'_>, bytes_max: usize) -> (Heard, Value) {
    let (mut frame, mut line) = (BytesMut::new(), BytesMut::new());
    binary::encode(outbound, bytes_max, &mut frame);
    json::encode(outbound, bytes_max, &mut line);
    assert!(frame.len() <= bytes_max && line.len() <= bytes_max);
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len());
    json::validate(&line).unwrap();
    let heard = client::hear(frame[5], frame.freeze().slice(6..)).unwrap();
    (heard, serde_json::from_slice(&line).unwrap())
}

/// The payload that a line carries, in whichever form.
fn payload_of(line: &Value, key: &str) -> Option<Value> {
    match (line.get(key), line.get(format!("{key}_base64"))) {
        (Some(json), None) => Some(json.clone()),
        (None, Some(base64)) => Some(STANDARD.decode(base64.as_str().unwrap()).unwrap().into()),
        _ => None,
    }
}

fn expected(payload: &[u8]) -> Option<Value> {
    let json = serde_json::from_slice(payload).ok();
    (!payload.is_empty()).then(|| json.unwrap_or_else(|| payload.to_vec().into()))
}

/// A responder's own error header may be of any length.
#[test]
fn a_header_too_long_for_its_field_is_left_out() {
    let mut headers = Headers::new();
    headers.append_past_limits("A", "x".repeat(70_000)).unwrap();
    headers.append_past_limits("B", "1").unwrap();
    let delivery = Arc::new(Delivery::new(Subject::from_static("a"), headers, Bytes::new()));
    let (heard, _) =
        written(&Outbound::Delivery { id: &Id::Number(1), delivery: &delivery }, FRAME_BYTES_MAX);
    let Heard::Delivery { delivery, .. } = heard else { panic!("{heard:?}") };
    assert_eq!(delivery.headers.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["B"]);
}

proptest! {
    #[test]
    fn what_a_client_says_is_understood(message in inbound()) {
        let mut frame = BytesMut::new();
        client::say(&message, FRAME_BYTES_MAX, &mut frame).unwrap();
        let heard = hear([&frame[..]]);
        prop_assert_eq!(format!("{:?}", heard[0].as_ref().unwrap()), format!("{message:?}"));
        let line = show(&message).to_string();
        let Ok(Document::Envelope(same)) = json::decode(line.clone().into()) else { panic!("{line}") };
        prop_assert_eq!(show(&same), show(&message));
    }

    #[test]
    fn a_reply_is_understood(id in id(), headers in headers(), payload in payload(), more in any::<bool>()) {
        let message = Message { headers, payload };
        let (heard, line) = written(&Outbound::Reply { id: &id, message: &message, more }, FRAME_BYTES_MAX);
        prop_assert_eq!(payload_of(&line, "payload"), expected(&message.payload));
        prop_assert_eq!(line.get("more").is_some(), more);
        prop_assert_eq!(
            line.get("headers").map_or(0, |headers| headers.as_object().unwrap().values()
                .map(|value| value.as_array().map_or(1, Vec::len)).sum()),
            message.headers.len()
        );
        prop_assert_eq!(format!("{heard:?}"), format!("{:?}", Heard::Reply { id, message, more }));
    }

    #[test]
    fn a_delivery_is_understood(
        id in id(), subject in subject(), headers in headers(), payload in payload(), position in position(),
    ) {
        let mut delivery = Delivery::new(subject, headers, payload);
        delivery.position = position;
        // Shown before it is encoded, which it remembers.
        let sent = delivery.clone();
        let delivery = Arc::new(delivery);
        let (heard, line) = written(&Outbound::Delivery { id: &id, delivery: &delivery }, FRAME_BYTES_MAX);
        prop_assert_eq!(&line["subject"], delivery.subject.as_str());
        prop_assert_eq!(payload_of(&line, "payload"), expected(&delivery.payload));
        prop_assert_eq!(format!("{heard:?}"), format!("{:?}", Heard::Delivery { id, delivery: Box::new(sent) }));
    }

    #[test]
    fn an_error_is_understood(id in prop::option::of(id()), error in error()) {
        let (heard, line) = written(&Outbound::Error { id: id.as_ref(), error: &error }, FRAME_BYTES_MAX);
        let Heard::Error { id: heard_id, failure } = heard else { panic!("{heard:?}") };
        prop_assert_eq!(heard_id, id);
        prop_assert_eq!(&*failure.kind, error.kind().code());
        prop_assert_eq!(&*failure.outcome, error.outcome().code());
        prop_assert_eq!(&*failure.text, error.text());
        prop_assert_eq!(failure.retry_after, error.retry_after());
        prop_assert_eq!(failure.backend_code.as_ref(), error.as_failed().map(|failed| &failed.code));
        let body = error.as_failed().map(|failed| failed.body.clone()).unwrap_or_default();
        prop_assert_eq!(&line["error"]["kind"], error.kind().code());
        prop_assert_eq!(&line["error"]["message"], error.text());
        prop_assert_eq!(payload_of(&line["error"], "body"), expected(&body));
        prop_assert_eq!(failure.body, body);
    }

    #[test]
    fn any_bytes_are_understood_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::version2(&bytes);
        fuzzing::envelope(&bytes);
        fuzzing::scanner(&bytes);
    }

    #[test]
    fn a_message_with_a_flaw_is_understood_or_refused(
        message in inbound(), flaws in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut frame = BytesMut::new();
        client::say(&message, FRAME_BYTES_MAX, &mut frame).unwrap();
        let mut line = show(&message).to_string().into_bytes();
        for (place, byte) in flaws {
            // The length stays, so that what is inside is read.
            let place_in_frame = 4 + place.index(frame.len() - 4);
            frame[place_in_frame] = byte;
            let place_in_line = place.index(line.len());
            line[place_in_line] = byte;
        }
        fuzzing::version2(&frame);
        fuzzing::envelope(&line);
        fuzzing::scanner(&line);
    }
}

#[test]
fn what_is_too_large_is_told() {
    let id = Id::Number(7);
    let limit = 8 * 1024;
    for payload in [Bytes::from(vec![b'1'; limit]), Bytes::from(vec![0; limit])] {
        let message = Message { headers: Headers::new(), payload: payload.clone() };
        let (heard, line) = written(&Outbound::Reply { id: &id, message: &message, more: true }, limit);
        let Heard::Error { failure, .. } = heard else { panic!("{heard:?}") };
        assert_eq!((&*failure.kind, &*failure.outcome), ("too_large", "done"));
        assert_eq!((&line["error"]["kind"], &line["id"]), (&json!("too_large"), &json!(7)));

        let subject = Subject::from_static("a");
        let delivery = Delivery::new(subject, Headers::new(), payload.clone());
        let (heard, line) = written(&Outbound::Delivery { id: &id, delivery: &delivery.into() }, limit);
        assert!(matches!(heard, Heard::Gap { lost, .. } if lost == NonZeroU64::new(1)));
        assert_eq!(line, json!({"op": "gap", "id": 7, "lost": 1}));

        let failed = Failed { body: payload, code: "c".into(), http: 502, grpc: 2, counts: false };
        let error = Error::failed(failed, "no");
        let (heard, line) = written(&Outbound::Error { id: Some(&id), error: &error }, limit);
        let Heard::Error { failure, .. } = heard else { panic!("{heard:?}") };
        assert!(failure.body.is_empty() && failure.text.contains("no"));
        assert_eq!((&*failure.kind, failure.backend_code.as_deref()), ("failed", Some("c")));
        assert!(line["error"]["message"].as_str().unwrap().ends_with("no"));
    }
}

#[test]
fn a_message_of_exactly_the_limit_passes() {
    let id = Id::Number(7);
    for (form, rest) in [("binary", 18), ("json", "{'op':'reply','id':7,'payload':}".len())] {
        for (over, passes) in [(0, true), (1, false)] {
            let limit = 8 * 1024;
            let message =
                Message { headers: Headers::new(), payload: vec![b'1'; limit - rest + over].into() };
            let outbound = Outbound::Reply { id: &id, message: &message, more: false };
            let mut written = BytesMut::new();
            if form == "binary" {
                binary::encode(&outbound, limit, &mut written);
            } else {
                // A number of so many digits is none; a text is.
                let message = Message {
                    payload: format!("\"{}\"", "x".repeat(limit - rest + over - 2)).into(),
                    ..message
                };
                json::encode(
                    &Outbound::Reply { id: &id, message: &message, more: false },
                    limit,
                    &mut written,
                );
            }
            assert_eq!(written.len() == limit, passes, "{form}");
            assert!(written.len() <= limit);
        }
    }
}

#[test]
fn long_texts_and_names_are_cut_or_left_out_in_version_2() {
    let id = Id::Number(7);
    let error = Error::new(Kind::Internal, "ä".repeat(5000));
    let (heard, _) = written(&Outbound::Error { id: Some(&id), error: &error }, FRAME_BYTES_MAX);
    let Heard::Error { failure, .. } = heard else { panic!("{heard:?}") };
    assert_eq!(&*failure.text, "ä".repeat(512));
    let mut headers = Headers::new();
    headers.append("x".repeat(256), "lost").unwrap();
    headers.append("x".repeat(255), "kept").unwrap();
    let message = Message { headers, payload: Bytes::new() };
    let (heard, line) =
        written(&Outbound::Reply { id: &id, message: &message, more: false }, FRAME_BYTES_MAX);
    let Heard::Reply { message, .. } = heard else { panic!("{heard:?}") };
    assert_eq!(message.headers.iter().map(|(_, value)| &**value).collect::<Vec<_>>(), ["kept"]);
    assert_eq!(line["headers"].as_object().unwrap().len(), 2);
}

#[test]
fn a_payload_shares_the_memory_of_what_was_read() {
    let line =
        Bytes::from_static(b"{\"op\":\"request\",\"id\":\"q\",\"subject\":\"a.b\",\"payload\":{\"x\":1}}");
    let Ok(Document::Envelope(Inbound::Request { subject, question, .. })) = json::decode(line.clone())
    else {
        panic!()
    };
    let within = |part: &[u8]| line.as_ptr_range().contains(&part.as_ptr());
    assert!(within(&question.payload) && within(&subject.to_bytes()));
    assert_eq!(question.payload, "{\"x\":1}");
}
