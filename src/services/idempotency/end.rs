//! The end of an execution, as it is kept and told again: an acceptance, a message, or a failure.
//!
//! What is kept is copied into memory of its own: a payload is a slice of what the connection read, and keeping
//! it would keep all of that.

use bytes::Bytes;
use bytestring::ByteString;
use contract::{Error, Failed, Headers, Kind, Message, Outcome, Reply};

/// What an entry costs besides its payload, headers and texts: its place in the table and in the order of ages.
pub(super) const ENTRY_BYTES: usize = 512;

/// How an execution ended.
#[derive(Clone, Debug)]
pub enum End {
    /// A publish was handed over.
    Accepted,
    /// An answer.
    Message(Message),
    /// A failure.
    Failure(Failure),
    /// An answer that is not kept: a stream, or one that is too large. Whoever comes later is told that.
    NotKept,
}

/// A failure without its cause, which was logged.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What went wrong.
    pub kind: Kind,
    /// What became of the request.
    pub outcome: Outcome,
    /// The text for the peer.
    pub text: ByteString,
    /// The responder's own no.
    pub failed: Option<Failed>,
}

impl End {
    /// What `outcome` is when it is kept.
    pub fn of(outcome: &Result<Reply, Error>) -> Self {
        match outcome {
            Ok(Reply::Accepted) => Self::Accepted,
            Ok(Reply::Message(message)) => Self::Message(copied(message)),
            Ok(Reply::Stream(_)) => Self::NotKept,
            Err(error) => Self::Failure(Failure {
                kind: error.kind(),
                outcome: error.outcome(),
                text: error.text().into(),
                failed: error.as_failed().map(|failed| Failed {
                    body: Bytes::copy_from_slice(&failed.body),
                    code: ByteString::from(failed.code.to_string()),
                    ..*failed
                }),
            }),
        }
    }

    /// Whether it has to be kept: something happened, or may have.
    pub fn counts(&self) -> bool {
        !matches!(self, Self::Failure(failure) if failure.outcome == Outcome::NotSent)
    }

    /// The answer to whoever asks the same again.
    pub fn tell(&self) -> Result<Reply, Error> {
        match self {
            Self::Accepted => Ok(Reply::Accepted),
            Self::Message(message) => Ok(Reply::Message(message.clone())),
            Self::Failure(failure) => Err(failure.tell()),
            Self::NotKept => {
                let text = "the request with this idempotency key was done, and its answer is not kept";
                Err(Error::new(Kind::Conflict, text).with_outcome(Outcome::Done))
            }
        }
    }

    /// What it costs to keep, in bytes.
    pub(super) fn bytes(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Self::Accepted | Self::NotKept => 0,
                Self::Message(message) => message.payload.len() + message.headers.bytes(),
                Self::Failure(Failure { text, failed, .. }) => {
                    text.len() + failed.as_ref().map_or(0, |failed| failed.body.len() + failed.code.len())
                }
            }
    }
}

impl Failure {
    fn tell(&self) -> Error {
        let text = self.text.to_string();
        let error = match &self.failed {
            Some(failed) => Error::failed(failed.clone(), text),
            None => Error::new(self.kind, text),
        };
        error.with_outcome(self.outcome)
    }
}

fn copied(message: &Message) -> Message {
    let mut headers = Headers::new();
    for (name, value) in message.headers.iter() {
        let added = headers.append_past_limits(name.to_string(), value.to_string());
        added.expect("what is in one list is a header in another");
    }
    Message { headers, payload: Bytes::copy_from_slice(&message.payload) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_again_and_shares_nothing_with_what_was_read() {
        let read = Bytes::from(vec![b'x'; 64 * 1024]);
        let mut message = Message { payload: read.slice(..5), ..Message::default() };
        message.headers.append("A", "1").unwrap();
        let end = End::of(&Ok(Reply::Message(message)));
        let Ok(Reply::Message(told)) = end.tell() else { panic!("{end:?}") };
        assert_eq!(
            (&told.payload[..], told.headers.get("A").map(|value| &**value)),
            (&b"xxxxx"[..], Some("1"))
        );
        assert_ne!(told.payload.as_ptr(), read.as_ptr());
        assert_eq!(end.bytes(), ENTRY_BYTES + 7);
    }

    #[test]
    fn a_no_of_the_responder_is_told_again_with_its_own_statuses() {
        let failed = Failed { body: "{}".into(), code: "c".into(), http: 404, grpc: 5, counts: true };
        let end = End::of(&Err(Error::failed(failed, "no")));
        let error = end.tell().unwrap_err();
        assert_eq!((error.kind(), error.http(), error.grpc(), error.text()), (Kind::Failed, 404, 5, "no"));
        assert!(error.as_failed().unwrap().counts && end.counts());
    }

    #[test]
    fn only_what_was_not_sent_does_not_count() {
        for (outcome, counts) in [(Outcome::NotSent, false), (Outcome::Unknown, true), (Outcome::Done, true)]
        {
            let end = End::of(&Err(Error::new(Kind::TimedOut, "").with_outcome(outcome)));
            assert_eq!(end.counts(), counts, "{outcome:?}");
            assert_eq!(end.tell().unwrap_err().outcome(), outcome);
        }
        assert!(End::Accepted.counts() && End::NotKept.counts());
    }

    #[test]
    fn what_is_not_kept_is_done_and_says_so() {
        let error = End::NotKept.tell().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Conflict, Outcome::Done));
    }
}
