//! The message that tells a responder that nobody waits for its answer any more.
//!
//! It has headers and no payload, so that a responder finds in it what it saw in the request, by the same names.
//! It is best effort: work that goes on for nobody is waste and no fault, so nothing ever waits to send it.

use std::fmt;

use contract::{ByteBudget, Request, Subject, TraceContext};
use tokio::time::Instant;

use super::outgoing::{REQUEST_ID, RequestId, TRACEPARENT};
use super::replies::ReplyBounds;

/// Why the request was given up: [`Reason`] in words.
pub const CANCEL: &str = "Ipc-Gateway-Cancel";

/// How a route wants its requests carried out.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Where to tell that a request was given up; `None` is nowhere.
    pub cancel_subject: Option<Subject>,
    /// How many messages may answer; `None` is one.
    pub replies: Option<ReplyBounds>,
    /// What waits of many messages is charged to this; `None` is not at all.
    pub memory: Option<ByteBudget>,
    /// Whether a JetStream acknowledgement of the request is no answer to it ([`incoming::is_acknowledgement`]):
    /// it is counted, and the wait goes on.
    ///
    /// [`incoming::is_acknowledgement`]: super::incoming::is_acknowledgement
    pub skips_acknowledgements: bool,
}

/// Why a request was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its peer took it back, or went.
    Cancelled,
    /// Its time was over, or that of this attempt, or that of an answer of many messages.
    TimedOut,
    /// Its answer has more messages or bytes than its route allows.
    OverLimit,
    /// Its peer reads the answer more slowly than it comes.
    SlowConsumer,
}

impl Reason {
    /// The word in the header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::OverLimit => "over_limit",
            Self::SlowConsumer => "slow_consumer",
        }
    }
}

/// What to say if one request is given up.
#[derive(Clone)]
pub struct Cancel {
    /// Where to say it.
    pub subject: Subject,
    id: RequestId,
    trace: TraceContext,
    deadline: Instant,
    /// Why, if that does not depend on the time.
    because: Option<Reason>,
}

impl Cancel {
    /// Of a request that goes out under the name `id`; `None` if its route does not ask for it.
    pub fn of(request: &Request, id: RequestId, manner: Manner) -> Option<Self> {
        let subject = manner.cancel_subject?;
        Some(Self { subject, id, trace: request.trace.clone(), deadline: request.deadline, because: None })
    }

    /// Gives the reason, which otherwise is the clock's to say.
    pub fn because(&mut self, reason: Reason) {
        self.because = Some(reason);
    }

    /// Why it is given up, if that is now.
    pub fn reason(&self) -> Reason {
        if let Some(reason) = self.because {
            return reason;
        }
        if Instant::now() < self.deadline { Reason::Cancelled } else { Reason::TimedOut }
    }

    /// Shows every header of the message.
    pub fn visit(&self, mut each: impl FnMut(&'static str, &str)) {
        each(TRACEPARENT, &self.trace.traceparent());
        each(REQUEST_ID, self.id.as_str());
        each(CANCEL, self.reason().name());
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Cancel")
            .field("subject", &self.subject)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
