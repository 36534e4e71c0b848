//! What a shared store holds under a key: that somebody executes it, or how it ended; as bytes with a version.
//!
//! Written and read by gateways of different versions, side by side, so the form is fixed: all numbers are big-endian,
//! lengths stand before what they measure, and what cannot be read is never guessed at.

use bytes::Bytes;
use bytestring::ByteString;
use contract::error::TABLE;
use contract::{Failed, Headers, Kind, Message, Outcome};

use super::end::{End, Failure};
use super::key::Digest;

/// The first byte of each. Another form is another number.
const VERSION: u8 = 1;

const CLAIMED: u8 = 0;
const ACCEPTED: u8 = 1;
const MESSAGE: u8 = 2;
const FAILURE: u8 = 3;
const FAILED: u8 = 4;
const NOT_KEPT: u8 = 5;

/// What is known of a key.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Of the request that has the key.
    pub(super) fingerprint: Digest,
    /// From when on it means nothing, in milliseconds since 1970.
    pub(super) until_ms: u64,
    pub(super) state: State,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    /// Whoever chose this number executes it, and puts `until_ms` off as long as it does.
    Claimed(u128),
    /// It was executed.
    Ended(End),
}

impl Record {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Draft(vec![VERSION]);
        out.0.push(match &self.state {
            State::Claimed(_) => CLAIMED,
            State::Ended(End::Accepted) => ACCEPTED,
            State::Ended(End::Message(_)) => MESSAGE,
            State::Ended(End::Failure(Failure { failed: None, .. })) => FAILURE,
            State::Ended(End::Failure(Failure { failed: Some(_), .. })) => FAILED,
            State::Ended(End::NotKept) => NOT_KEPT,
        });
        out.0.extend(self.fingerprint.0);
        out.0.extend(self.until_ms.to_be_bytes());
        match &self.state {
            State::Claimed(nonce) => out.0.extend(nonce.to_be_bytes()),
            State::Ended(End::Accepted | End::NotKept) => {}
            State::Ended(End::Message(message)) => out.message(message),
            State::Ended(End::Failure(failure)) => out.failure(failure),
        }
        out.0.into()
    }

    /// Reads one; `None` if it is none that this version knows.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        if rest.number::<1>()? != [VERSION] {
            return None;
        }
        let [form] = rest.number()?;
        let fingerprint = Digest(rest.number()?);
        let until_ms = u64::from_be_bytes(rest.number()?);
        let state = match form {
            CLAIMED => State::Claimed(u128::from_be_bytes(rest.number()?)),
            ACCEPTED => State::Ended(End::Accepted),
            MESSAGE => State::Ended(End::Message(rest.message()?)),
            FAILURE => State::Ended(End::Failure(rest.failure(false)?)),
            FAILED => State::Ended(End::Failure(rest.failure(true)?)),
            NOT_KEPT => State::Ended(End::NotKept),
            _ => return None,
        };
        rest.0.is_empty().then_some(Self { fingerprint, until_ms, state })
    }
}

/// The bytes as they grow.
struct Draft(Vec<u8>);

impl Draft {
    fn text(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("what came in a message is below 4 GiB");
        self.0.extend(length.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, message: &Message) {
        let count = u16::try_from(message.headers.len()).expect("a message has fewer headers");
        self.0.extend(count.to_be_bytes());
        for (name, value) in message.headers.iter() {
            self.text(name.as_bytes());
            self.text(value.as_bytes());
        }
        self.text(&message.payload);
    }

    fn failure(&mut self, failure: &Failure) {
        self.text(failure.kind.code().as_bytes());
        self.text(failure.outcome.code().as_bytes());
        self.text(failure.text.as_bytes());
        if let Some(failed) = &failure.failed {
            self.text(&failed.body);
            self.text(failed.code.as_bytes());
            self.0.extend(failed.http.to_be_bytes());
            self.0.extend([failed.grpc, u8::from(failed.counts)]);
        }
    }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*number)
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = usize::try_from(u32::from_be_bytes(self.number()?)).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Bytes::copy_from_slice(bytes))
    }

    fn text(&mut self) -> Option<ByteString> {
        ByteString::try_from(self.bytes()?).ok()
    }

    fn message(&mut self) -> Option<Message> {
        let mut headers = Headers::new();
        for _ in 0..u16::from_be_bytes(self.number()?) {
            headers.append_past_limits(self.text()?, self.text()?).ok()?;
        }
        Some(Message { headers, payload: self.bytes()? })
    }

    fn failure(&mut self, has_body: bool) -> Option<Failure> {
        let code = self.text()?;
        let kind = TABLE.iter().find(|row| *row.code == *code)?.kind;
        let code = self.text()?;
        let outcomes = [Outcome::NotSent, Outcome::Unknown, Outcome::Done];
        let outcome = outcomes.into_iter().find(|outcome| *outcome.code() == *code)?;
        let text = self.text()?;
        if has_body && kind != Kind::Failed {
            return None;
        }
        let failed = if has_body { Some(self.failed()?) } else { None };
        Some(Failure { kind, outcome, text, failed })
    }

    fn failed(&mut self) -> Option<Failed> {
        let (body, code) = (self.bytes()?, self.text()?);
        let http = u16::from_be_bytes(self.number()?);
        let [grpc, counts] = self.number()?;
        let counts = match counts {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Failed { body, code, http, grpc, counts })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_message() -> impl Strategy<Value = State> {
        let headers = prop::collection::vec(("[!-9;-~]{1,12}", "[ -~]{0,20}"), 0..5);
        (headers, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(entries, payload)| {
            let mut headers = Headers::new();
            for (name, value) in entries {
                headers.append(name, value).unwrap();
            }
            State::Ended(End::Message(Message { headers, payload: payload.into() }))
        })
    }

    fn any_failure() -> impl Strategy<Value = State> {
        let outcome = prop::sample::select(vec![Outcome::NotSent, Outcome::Unknown, Outcome::Done]);
        let body = prop::collection::vec(any::<u8>(), 0..50);
        let failed = (body, ".{0,9}", any::<u16>(), any::<u8>(), any::<bool>()).prop_map(
            |(body, code, http, grpc, counts)| Failed {
                body: body.into(),
                code: code.into(),
                http,
                grpc,
                counts,
            },
        );
        (0..TABLE.len(), outcome, ".{0,20}", failed).prop_map(|(row, outcome, text, failed)| {
            let kind = TABLE[row].kind;
            let failed = (kind == Kind::Failed).then_some(failed);
            State::Ended(End::Failure(Failure { kind, outcome, text: text.into(), failed }))
        })
    }

    fn any_state() -> impl Strategy<Value = State> {
        prop_oneof![
            any::<u128>().prop_map(State::Claimed),
            Just(State::Ended(End::Accepted)),
            Just(State::Ended(End::NotKept)),
            any_message(),
            any_failure(),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(state in any_state(), fingerprint in any::<[u8; 32]>(), until_ms in any::<u64>()) {
            let record = Record { fingerprint: Digest(fingerprint), until_ms, state };
            let bytes = record.encode();
            let read = Record::decode(&bytes).expect("it was written so");
            prop_assert_eq!(format!("{read:?}"), format!("{record:?}"));
            prop_assert_eq!(read.encode(), bytes);
        }

        #[test]
        fn what_is_cut_or_longer_is_none(state in any_state(), cut in any::<prop::sample::Index>()) {
            let bytes = Record { fingerprint: Digest([7; 32]), until_ms: 1, state }.encode();
            prop_assert!(Record::decode(&bytes[..cut.index(bytes.len())]).is_none());
            prop_assert!(Record::decode(&[&bytes[..], b"\0"].concat()).is_none());
        }

        #[test]
        fn no_bytes_make_it_panic(
            state in any_state(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            noise in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut bytes = Record { fingerprint: Digest([7; 32]), until_ms: 1, state }.encode().to_vec();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            // What it takes for a record is one: it writes the same bytes.
            for bytes in [bytes, noise] {
                if let Some(record) = Record::decode(&bytes) {
                    prop_assert_eq!(&record.encode()[..], &bytes[..]);
                }
            }
        }
    }

    #[test]
    fn the_form_of_version_one_is_fixed() {
        let message = Message { headers: Headers::new(), payload: "hi".into() };
        let state = State::Ended(End::Message(message));
        let bytes = Record { fingerprint: Digest([0xAA; 32]), until_ms: 258, state }.encode();
        let expected =
            [&[1, 2][..], &[0xAA; 32], &[0, 0, 0, 0, 0, 0, 1, 2], &[0, 0], &[0, 0, 0, 2], b"hi"].concat();
        assert_eq!(bytes, expected);
    }
}
