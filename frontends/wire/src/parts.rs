//! What a message is made of before it is known to make sense, the same in both forms.
//!
//! Both decoders end here, so that what is missing, impossible or too large is refused by one set of rules
//! with one set of words.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use contract::{
    Error, HeaderError, Headers, Kind, Pattern, QueuePolicy, QueueWish, Subject, SubjectError, TraceContext,
};

use crate::message::{Id, Inbound, PING_BYTES_MAX, Question};

/// What a peer may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Hello,
    Publish,
    Request,
    Subscribe,
    Unsubscribe,
    Cancel,
    Ping,
}

impl Verb {
    pub(crate) const ALL: [Self; 7] = [
        Self::Hello,
        Self::Publish,
        Self::Request,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Cancel,
        Self::Ping,
    ];

    /// The word for it in JSON and in texts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Publish => "publish",
            Self::Request => "request",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Cancel => "cancel",
            Self::Ping => "ping",
        }
    }

    /// Whether it is a question with headers, a deadline and a trace.
    pub(crate) fn asks(self) -> bool {
        matches!(self, Self::Publish | Self::Request | Self::Subscribe)
    }

    /// Whether it may carry a payload.
    pub(crate) fn has_payload(self) -> bool {
        matches!(self, Self::Publish | Self::Request | Self::Ping)
    }
}

/// The parts of a message, each as it was said. Parts that the verb has no use for are let go.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) id: Option<Id>,
    pub(crate) subject: Option<ByteString>,
    pub(crate) headers: Headers,
    pub(crate) timeout_ms: Option<u32>,
    pub(crate) idempotent: bool,
    pub(crate) traceparent: Option<ByteString>,
    pub(crate) tracestate: Option<ByteString>,
    pub(crate) position: Option<Bytes>,
    pub(crate) queue_policy: Option<ByteString>,
    pub(crate) queue_messages_max: Option<u32>,
    pub(crate) queue_bytes_max: Option<u32>,
    pub(crate) payload: Bytes,
}

impl Parts {
    /// The message that they make.
    pub(crate) fn inbound(mut self, verb: Verb) -> Result<Inbound, Error> {
        if !verb.has_payload() && !self.payload.is_empty() {
            return Err(malformed(format!("{} has no payload", verb.name())));
        }
        Ok(match verb {
            Verb::Hello => Inbound::Hello { id: self.id },
            Verb::Publish => {
                let subject = Subject::parse(self.subject(verb)?).map_err(subject_error)?;
                Inbound::Publish { id: self.id.take(), subject, question: self.question()? }
            }
            Verb::Request => {
                let subject = Subject::parse(self.subject(verb)?).map_err(subject_error)?;
                Inbound::Request { id: self.id(verb)?, subject, question: self.question()? }
            }
            Verb::Subscribe => {
                let pattern = Pattern::parse(self.subject(verb)?).map_err(subject_error)?;
                Inbound::Subscribe { id: self.id(verb)?, pattern, question: self.question()? }
            }
            Verb::Unsubscribe => Inbound::Unsubscribe { id: self.id(verb)? },
            Verb::Cancel => Inbound::Cancel { id: self.id(verb)? },
            Verb::Ping if self.payload.len() > PING_BYTES_MAX => {
                return Err(Error::new(Kind::TooLarge, "the payload of a ping has at most 125 bytes"));
            }
            Verb::Ping => Inbound::Ping { id: self.id, payload: self.payload },
        })
    }

    fn id(&mut self, verb: Verb) -> Result<Id, Error> {
        self.id.take().ok_or_else(|| malformed(format!("{} needs an id", verb.name())))
    }

    fn subject(&mut self, verb: Verb) -> Result<ByteString, Error> {
        self.subject.take().ok_or_else(|| malformed(format!("{} needs a subject", verb.name())))
    }

    fn question(self) -> Result<Question, Error> {
        if self.timeout_ms == Some(0) {
            return Err(Error::new(Kind::Invalid, "timeout_ms is at least 1; leave it out for the default"));
        }
        // A trace that cannot be read is no reason to refuse: a new one is started (W3C Trace Context, 3.2.2).
        let trace =
            self.traceparent.and_then(|parent| TraceContext::parse(&parent, self.tracestate.as_ref()).ok());
        let queue = queue(self.queue_policy.as_deref(), self.queue_messages_max, self.queue_bytes_max)?;
        Ok(Question {
            headers: self.headers,
            payload: self.payload,
            timeout: self.timeout_ms.map(|ms| Duration::from_millis(ms.into())),
            idempotent: self.idempotent,
            trace,
            position: self.position,
            queue,
        })
    }
}

/// What the peer asks of its queue, if anything.
fn queue(
    policy: Option<&str>,
    messages_max: Option<u32>,
    bytes_max: Option<u32>,
) -> Result<Option<QueueWish>, Error> {
    let known = |name| {
        QueuePolicy::parse(name).ok_or_else(|| {
            let known = QueuePolicy::ALL.map(QueuePolicy::name).join(", ");
            Error::new(Kind::Invalid, format!("queue_policy is one of {known}"))
        })
    };
    let size = |number: Option<u32>| number.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    let wish = QueueWish {
        policy: policy.map(known).transpose()?,
        messages_max: size(messages_max),
        bytes_max: size(bytes_max),
    };
    Ok((wish != QueueWish::default()).then_some(wish))
}

/// Not a message.
pub(crate) fn malformed(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Kind::Malformed, text)
}

/// A header that no message may have.
pub(crate) fn header_error(error: HeaderError) -> Error {
    let kind = match error {
        HeaderError::Name | HeaderError::Value => Kind::Invalid,
        HeaderError::TooMany | HeaderError::TooLarge => Kind::TooLarge,
    };
    Error::new(kind, error.to_string())
}

fn subject_error(error: SubjectError) -> Error {
    Error::new(Kind::Invalid, error.to_string())
}
