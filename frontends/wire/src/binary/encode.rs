//! From what a peer is told to a frame, without an allocation: sizes first, then the pieces in order.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use contract::{Delivery, Error, Format, Headers, Kind, Outcome};

use super::{FIXED_BYTES, VERSION, flag, kind, tag};
use crate::frame::{HEADER_BYTES, header};
use crate::message::{Id, Outbound, milliseconds};
use crate::sink::Sink;

/// Bytes of the longest text or code that an error tells; longer ones are cut.
const TEXT_BYTES_MAX: usize = 1024;
/// Bytes of the longest header name that fits its field; others are left out.
const HEADER_NAME_BYTES_MAX: usize = 255;

/// Writes one frame. It has at most `frame_bytes_max` bytes (at least 8 KiB): a reply that is larger becomes an
/// error `too_large` with the outcome `done`, a delivery becomes a gap of one, and a failure loses the
/// backend's body. Says whether a reply or a delivery was written as it is.
pub fn encode(message: &Outbound<'_>, frame_bytes_max: usize, sink: &mut impl Sink) -> bool {
    let mut frame = Frame { frame_bytes_max, sink };
    match message {
        Outbound::Welcome { id, limits } => {
            frame.always(kind::WELCOME, *id, &[], &format!("{{{}}}", limits.members()).into());
        }
        Outbound::Accepted { id } => frame.always(kind::ACCEPTED, Some(id), &[], &Bytes::new()),
        Outbound::Reply { id, message, more } => {
            let flags = if *more { flag::MORE } else { 0 };
            let put = frame.put(kind::REPLY, flags, Some(id), &[], Some(&message.headers), &message.payload);
            if put.is_err() {
                let error = Error::new(Kind::TooLarge, "the reply is larger than a frame");
                frame.error(Some(id), &error.with_outcome(Outcome::Done));
                return false;
            }
        }
        Outbound::Error { id, error } => frame.error(*id, error),
        Outbound::Delivery { id, delivery } => {
            // The fields are encoded once for all listeners; the payload is shared as it is.
            let fields = delivery.encoded(Format::Ipc2, fields_of);
            let begun = frame.begin(kind::DELIVERY, 0, Some(id), fields.len(), delivery.payload.len());
            if begun.is_err() {
                frame.gap(id, Some(1));
                return false;
            }
            frame.sink.copy(&fields);
            frame.payload(&delivery.payload);
        }
        Outbound::Gap { id, lost } => frame.gap(id, lost.map(u64::from)),
        Outbound::End { id } => frame.always(kind::END, Some(id), &[], &Bytes::new()),
        Outbound::Pong { id, payload } => frame.always(kind::PONG, *id, &[], payload),
        Outbound::GoAway { retry_after } => {
            let wait = milliseconds(*retry_after).to_be_bytes();
            frame.always(kind::GO_AWAY, None, &[Some((tag::RETRY_AFTER_MS, &wait))], &Bytes::new());
        }
    }
    true
}

/// A tag and its value, if there is one.
pub(super) type Field<'a> = Option<(u8, &'a [u8])>;

/// The frame would be too large, and nothing of it was written.
pub(super) struct TooLarge;

/// Writes frames.
pub(super) struct Frame<'a, S> {
    pub(super) frame_bytes_max: usize,
    pub(super) sink: &'a mut S,
}

impl<S: Sink> Frame<'_, S> {
    fn error(&mut self, id: Option<&Id>, error: &Error) {
        let wait = error.retry_after().map(|wait| milliseconds(wait).to_be_bytes());
        let failed = error.as_failed();
        let mut fields = [
            Some((tag::KIND, error.kind().code().as_bytes())),
            Some((tag::OUTCOME, error.outcome().code().as_bytes())),
            Some((tag::TEXT, clip(error.text()))),
            wait.as_ref().map(|wait| (tag::RETRY_AFTER_MS, &wait[..])),
            failed.map(|failed| (tag::BACKEND_CODE, clip(&failed.code))),
        ];
        let body = failed.map(|failed| failed.body.clone()).unwrap_or_default();
        if self.put(kind::ERROR, 0, id, &fields, None, &body).is_err() {
            let text = format!("(its body of {} bytes is larger than a frame) {}", body.len(), error.text());
            fields[2] = Some((tag::TEXT, clip(&text)));
            self.always(kind::ERROR, id, &fields, &Bytes::new());
        }
    }

    fn gap(&mut self, id: &Id, lost: Option<u64>) {
        let lost = lost.map(u64::to_be_bytes);
        let field = lost.as_ref().map(|lost| (tag::LOST, &lost[..]));
        self.always(kind::GAP, Some(id), &[field], &Bytes::new());
    }

    /// Writes what is always small.
    fn always(&mut self, kind: u8, id: Option<&Id>, fields: &[Field<'_>], payload: &Bytes) {
        let put = self.put(kind, 0, id, fields, None, payload);
        assert!(put.is_ok(), "a message without headers and a foreign payload fits any frame");
    }

    /// Writes a frame whole, or nothing of it if it would be too large.
    pub(super) fn put(
        &mut self,
        kind: u8,
        flags: u8,
        id: Option<&Id>,
        fields: &[Field<'_>],
        headers: Option<&Headers>,
        payload: &Bytes,
    ) -> Result<(), TooLarge> {
        let of_fields: usize = fields.iter().flatten().map(|(_, value)| 3 + value.len()).sum();
        let of_headers: usize = passing(headers).map(|(name, value)| 3 + 1 + name.len() + value.len()).sum();
        self.begin(kind, flags, id, of_fields + of_headers, payload.len())?;
        self.fields(fields, headers);
        self.payload(payload);
        Ok(())
    }

    /// Writes all that stands before the fields of a frame, or nothing if the frame would be too large.
    fn begin(
        &mut self,
        kind: u8,
        flags: u8,
        id: Option<&Id>,
        fields_bytes: usize,
        payload_bytes: usize,
    ) -> Result<(), TooLarge> {
        let fields_bytes = u16::try_from(fields_bytes).map_err(|_| TooLarge)?;
        let body_bytes = FIXED_BYTES + usize::from(fields_bytes) + payload_bytes;
        if HEADER_BYTES + body_bytes > self.frame_bytes_max {
            return Err(TooLarge);
        }
        let (flags, number) = match id {
            None => (flags, 0),
            Some(Id::Number(number)) => (flags | flag::ID, *number),
            Some(Id::Text(_)) => unreachable!("the binary form hears numbers only, and makes up no ids"),
        };
        let mut fixed = [0; HEADER_BYTES + FIXED_BYTES];
        fixed[..6].copy_from_slice(&header(VERSION, kind, body_bytes));
        fixed[6] = flags;
        fixed[8..16].copy_from_slice(&number.to_be_bytes());
        fixed[16..].copy_from_slice(&fields_bytes.to_be_bytes());
        self.sink.copy(&fixed);
        Ok(())
    }

    fn fields(&mut self, fields: &[Field<'_>], headers: Option<&Headers>) {
        for (tag, value) in fields.iter().flatten() {
            self.field(*tag, value.len());
            self.sink.copy(value);
        }
        for (name, value) in passing(headers) {
            self.field(tag::HEADER, 1 + name.len() + value.len());
            self.sink.copy(&[u8::try_from(name.len()).expect("long names are left out")]);
            self.sink.copy(name.as_bytes());
            self.sink.copy(value.as_bytes());
        }
    }

    fn payload(&mut self, payload: &Bytes) {
        if !payload.is_empty() {
            self.sink.share(payload.clone());
        }
    }

    fn field(&mut self, tag: u8, bytes: usize) {
        let [high, low] = u16::try_from(bytes).expect("all fields together fit 16 bits").to_be_bytes();
        self.sink.copy(&[tag, high, low]);
    }
}

/// The fields of a delivery, which are the same for whoever gets it.
fn fields_of(delivery: &Delivery) -> Bytes {
    let subject = delivery.subject.as_str().as_bytes();
    let position = delivery.position.as_deref().map(|position| (tag::POSITION, position));
    let mut bytes = BytesMut::new();
    Frame { frame_bytes_max: usize::MAX, sink: &mut bytes }
        .fields(&[Some((tag::SUBJECT, subject)), position], Some(&delivery.headers));
    bytes.freeze()
}

/// The headers that fit their field, whose length has 16 bits, and so has the name's 8.
fn passing(headers: Option<&Headers>) -> impl Iterator<Item = (&ByteString, &ByteString)> {
    headers.into_iter().flat_map(Headers::iter).filter(|(name, value)| fits(name, value))
}

fn fits(name: &str, value: &str) -> bool {
    let bytes = 1 + name.len() + value.len();
    let fits = name.len() <= HEADER_NAME_BYTES_MAX && u16::try_from(bytes).is_ok();
    if !fits {
        tracing::debug!(bytes, "a header that is too long for version 2 was left out");
    }
    fits
}

/// The text, cut at a character if it is too long.
fn clip(text: &str) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
