//! Version 2 of the IPC protocol as a client speaks it (`docs/protocols/ipc-v2.md`).

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;
use contract::{Headers, Kind};
use wire::binary::{FIXED_BYTES, VERSION, flag, kind, tag};
use wire::frame::{FRAME_BYTES_MAX, HEADER_BYTES, header};

use super::stream::Dialect;
use super::{Call, Failure, Heard, Lost, Say, What, failure};

/// The dialect. It keeps nothing: every answer names its question.
#[derive(Debug, Default)]
pub(super) struct Version2 {
    /// The fields of the message being written, kept to be filled again.
    fields: BytesMut,
}

impl Dialect for Version2 {
    fn encode(&mut self, id: u64, say: &Say, out: &mut BytesMut) -> Result<(), Failure> {
        let (kind, call) = match say {
            Say::Request(call) => (kind::REQUEST, Some(call)),
            Say::Publish(call) => (kind::PUBLISH, Some(call)),
            Say::Subscribe(call) => (kind::SUBSCRIBE, Some(call)),
            Say::Unsubscribe => (kind::UNSUBSCRIBE, None),
            Say::Cancel => (kind::CANCEL, None),
            Say::Ping => (kind::PING, None),
        };
        self.fields.clear();
        if let Some(call) = call {
            self.write_fields(call)?;
        }
        let payload = call.map(|call| &*call.payload).unwrap_or_default();
        let body_bytes = FIXED_BYTES + self.fields.len() + payload.len();
        let fields_bytes = u16::try_from(self.fields.len());
        let fits = HEADER_BYTES + body_bytes <= FRAME_BYTES_MAX;
        let (Ok(fields_bytes), true) = (fields_bytes, fits) else {
            let text = format!("the message is over the {FRAME_BYTES_MAX} bytes of a frame");
            return Err(Failure::new(Kind::TooLarge, text));
        };
        let idempotent = call.is_some_and(|call| call.idempotent) && kind != kind::SUBSCRIBE;
        out.extend_from_slice(&header(VERSION, kind, body_bytes));
        out.extend_from_slice(&[flag::ID | if idempotent { flag::IDEMPOTENT } else { 0 }, 0]);
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&fields_bytes.to_be_bytes());
        out.extend_from_slice(&self.fields);
        out.extend_from_slice(payload);
        Ok(())
    }

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Heard>, Lost> {
        let Some(&[a, b, c, d, version, kind]) = input.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if version == 1 {
            // The gateway answers in version 1 what it cannot answer in another, above all "not version 2".
            return super::v1::refusal(input);
        }
        if version != VERSION || !(HEADER_BYTES + FIXED_BYTES..=FRAME_BYTES_MAX).contains(&length) {
            return Err(Lost::Protocol(format!("a frame of {length} bytes of version {version}")));
        }
        if input.len() < length {
            return Ok(None);
        }
        let frame = input.split_to(length).freeze();
        let (flags, mut fixed) = (frame[HEADER_BYTES], &frame[HEADER_BYTES + 2..]);
        let id = (flags & flag::ID != 0).then_some(fixed.get_u64());
        let payload_at = HEADER_BYTES + FIXED_BYTES + usize::from(fixed.get_u16());
        if payload_at > frame.len() {
            return Err(Lost::Protocol("fields longer than their frame".to_owned()));
        }
        let fields = Fields::read(&frame.slice(HEADER_BYTES + FIXED_BYTES..payload_at))?;
        let payload = frame.slice(payload_at..);
        let what = match kind {
            kind::REPLY => What::Reply { headers: fields.headers, payload, more: flags & flag::MORE != 0 },
            kind::ACCEPTED => What::Accepted,
            kind::ERROR => What::Failed(fields.failure(payload)),
            kind::DELIVERY => What::Delivery {
                subject: fields.subject.map(String::from).unwrap_or_default(),
                headers: fields.headers,
                payload,
            },
            kind::GAP => What::Gap(fields.lost),
            kind::END => What::End,
            kind::PONG => What::Pong,
            kind::GO_AWAY => What::GoAway,
            other => return Err(Lost::Protocol(format!("type 0x{other:02x}"))),
        };
        Ok(Some(Heard { id, what }))
    }
}

impl Version2 {
    fn write_fields(&mut self, call: &Call) -> Result<(), Failure> {
        self.field(tag::SUBJECT, &[call.subject.as_bytes()])?;
        for (name, value) in call.headers.iter() {
            let Ok(length) = u8::try_from(name.len()) else {
                return Err(Failure::new(Kind::TooLarge, "the name of a header has at most 255 bytes"));
            };
            self.field(tag::HEADER, &[&[length], name.as_bytes(), value.as_bytes()])?;
        }
        if let Some(timeout) = call.timeout {
            let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
            self.field(tag::TIMEOUT_MS, &[&milliseconds.to_be_bytes()])?;
        }
        if let Some(parent) = &call.traceparent {
            self.field(tag::TRACEPARENT, &[parent.as_bytes()])?;
        }
        Ok(())
    }

    fn field(&mut self, tag: u8, pieces: &[&[u8]]) -> Result<(), Failure> {
        let Ok(bytes) = u16::try_from(pieces.iter().map(|piece| piece.len()).sum::<usize>()) else {
            return Err(Failure::new(Kind::TooLarge, "a subject or a header is over 65535 bytes"));
        };
        self.fields.extend_from_slice(&[tag]);
        self.fields.extend_from_slice(&bytes.to_be_bytes());
        for piece in pieces {
            self.fields.extend_from_slice(piece);
        }
        Ok(())
    }
}

/// The fields of what is heard.
#[derive(Default)]
struct Fields {
    subject: Option<ByteString>,
    headers: Headers,
    kind: Option<ByteString>,
    outcome: Option<ByteString>,
    retry_after: Option<Duration>,
    text: Option<ByteString>,
    backend_code: Option<ByteString>,
    lost: Option<u64>,
}

impl Fields {
    fn read(bytes: &Bytes) -> Result<Self, Lost> {
        let mut fields = Self::default();
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let whole = rest
                .first_chunk::<3>()
                .map(|[_, high, low]| 3 + usize::from(*high) * 256 + usize::from(*low));
            let Some(whole) = whole.filter(|whole| *whole <= rest.len()) else {
                return Err(Lost::Protocol("a field longer than the fields".to_owned()));
            };
            let mut value = rest.split_to(whole);
            let tag = value[0];
            value.advance(3);
            fields.take(tag, &value).ok_or_else(|| Lost::Protocol(format!("the field 0x{tag:02x}")))?;
        }
        Ok(fields)
    }

    /// Takes one field; unknown ones are skipped, `None` is one that cannot be read.
    fn take(&mut self, tag: u8, value: &Bytes) -> Option<()> {
        let text = |value: Bytes| ByteString::try_from(value).ok();
        match tag {
            tag::SUBJECT => self.subject = Some(text(value.clone())?),
            tag::HEADER => {
                let name_end = 1 + usize::from(*value.first()?);
                let name = text(value.get(1..name_end).map(|_| value.slice(1..name_end))?)?;
                self.headers.append_past_limits(name, text(value.slice(name_end..))?).ok()?;
            }
            tag::KIND => self.kind = Some(text(value.clone())?),
            tag::OUTCOME => self.outcome = Some(text(value.clone())?),
            tag::RETRY_AFTER_MS => {
                let milliseconds = u32::from_be_bytes(value.as_ref().try_into().ok()?);
                self.retry_after = Some(Duration::from_millis(milliseconds.into()));
            }
            tag::TEXT => self.text = Some(text(value.clone())?),
            tag::BACKEND_CODE => self.backend_code = Some(text(value.clone())?),
            tag::LOST => self.lost = Some(u64::from_be_bytes(value.as_ref().try_into().ok()?)),
            _ => {}
        }
        Some(())
    }

    fn failure(self, body: Bytes) -> Failure {
        let kind = self.kind.as_deref().map_or(Kind::Internal, failure::kind);
        let new = Failure::new(kind, self.text.map(String::from).unwrap_or_default());
        Failure {
            outcome: self.outcome.as_deref().and_then(failure::outcome).unwrap_or(new.outcome),
            retry_after: self.retry_after,
            backend_code: self.backend_code.map(String::from),
            body,
            ..new
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::{Error, Failed, Message, Outcome};
    use wire::{Id, Inbound, Outbound};

    use super::*;

    fn call() -> Call {
        let mut headers = Headers::new();
        headers.append("X-A", "1").unwrap();
        Call {
            subject: "a.b".to_owned(),
            payload: "hello".into(),
            headers,
            timeout: Some(Duration::from_millis(250)),
            idempotent: true,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        }
    }

    fn encoded(say: &Say) -> Bytes {
        let mut out = BytesMut::new();
        Version2::default().encode(7, say, &mut out).unwrap();
        out.freeze()
    }

    fn heard(outbound: &Outbound<'_>) -> Heard {
        let mut bytes = BytesMut::new();
        wire::binary::encode(outbound, FRAME_BYTES_MAX, &mut bytes);
        let whole = bytes.clone();
        for end in 0..whole.len() {
            assert!(
                Version2::default().decode(&mut BytesMut::from(&whole[..end])).unwrap().is_none(),
                "{end}"
            );
        }
        let heard = Version2::default().decode(&mut bytes).unwrap().unwrap();
        assert!(bytes.is_empty());
        heard
    }

    #[test]
    fn the_gateway_understands_what_is_said() {
        let frame = encoded(&Say::Request(call()));
        let said = wire::binary::decode(frame[5], frame.slice(HEADER_BYTES..)).unwrap();
        let Inbound::Request { id: Id::Number(7), subject, question } = said else { panic!("{said:?}") };
        assert_eq!((subject.as_str(), &*question.payload), ("a.b", &b"hello"[..]));
        assert_eq!(question.headers.get("x-a").map(|value| &**value), Some("1"));
        assert_eq!(question.timeout, Some(Duration::from_millis(250)));
        assert!(question.idempotent);
        assert_eq!(question.trace.unwrap().trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");

        for say in [
            Say::Publish(call()),
            Say::Subscribe(Call { payload: Bytes::new(), ..call() }),
            Say::Unsubscribe,
            Say::Cancel,
            Say::Ping,
        ] {
            let frame = encoded(&say);
            assert!(wire::binary::decode(frame[5], frame.slice(HEADER_BYTES..)).is_ok(), "{say:?}");
        }
    }

    #[test]
    fn the_gateway_is_understood() {
        let id = Id::Number(9);
        let mut message = Message { payload: "yes".into(), ..Message::default() };
        message.headers.append("X-B", "2").unwrap();
        let reply = heard(&Outbound::Reply { id: &id, message: &message, more: true });
        let What::Reply { headers, payload, more: true } = reply.what else { panic!("{reply:?}") };
        assert_eq!((reply.id, &*payload, headers), (Some(9), &b"yes"[..], message.headers));

        let failed = Failed { body: "no".into(), code: "c".into(), http: 404, grpc: 5, counts: false };
        let error = Error::failed(failed, "text").with_retry_after(Duration::from_millis(20));
        let heard_error = heard(&Outbound::Error { id: Some(&id), error: &error });
        let What::Failed(failure) = heard_error.what else { panic!("{heard_error:?}") };
        assert_eq!((failure.kind, failure.outcome, &*failure.text), (Kind::Failed, Outcome::Done, "text"));
        assert_eq!((failure.backend_code.as_deref(), &*failure.body), (Some("c"), &b"no"[..]));
        assert_eq!(failure.retry_after, Some(Duration::from_millis(20)));

        assert!(matches!(heard(&Outbound::Gap { id: &id, lost: None }).what, What::Gap(None)));
        let gap = heard(&Outbound::Gap { id: &id, lost: std::num::NonZeroU64::new(3) });
        assert!(matches!(gap.what, What::Gap(Some(3))));
        assert!(matches!(heard(&Outbound::Accepted { id: &id }).what, What::Accepted));
        assert!(matches!(heard(&Outbound::End { id: &id }).what, What::End));
    }

    #[test]
    fn what_fits_no_frame_is_refused_before_it_is_sent() {
        let large = Call { payload: vec![0; FRAME_BYTES_MAX].into(), ..call() };
        let mut out = BytesMut::new();
        let refused = Version2::default().encode(1, &Say::Request(large), &mut out).unwrap_err();
        assert_eq!((refused.kind, out.len()), (Kind::TooLarge, 0));
    }

    #[test]
    fn a_refusal_in_version_1_is_understood() {
        let body = br#"{"ok":false,"error":{"code":1,"message":"Unsupported protocol version","kind":"unsupported"}}"#;
        let mut input = BytesMut::from(&header(1, 0x11, body.len())[..]);
        input.extend_from_slice(body);
        let heard = Version2::default().decode(&mut input).unwrap().unwrap();
        assert!(matches!(heard.what, What::Failed(Failure { kind: Kind::Unsupported, .. })));
        assert_eq!(heard.id, None);
    }
}
