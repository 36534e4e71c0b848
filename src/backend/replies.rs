//! An answer of many messages: the bounded queue between who brings its parts and who reads them.
//!
//! The same for every backend, since what bounds an answer is the route's and not the transport's. Whoever brings a
//! part never waits and learns at once whether it was taken: a bound that breaks ends the answer there, tells the
//! responder, and gives the reader what came before it. Nothing is ever left out of the middle, because what is left
//! out of an answer makes it another answer.
//!
//! | file | holds |
//! |---|---|
//! | `reader` | the reading end: one message, or a stream whose time is watched |
//! | `meters` | how many are open, and how each ended |

mod meters;
mod reader;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use contract::{ByteBudget, Charge, Error, Headers, Kind, Message, Outcome, SHARED_BYTES};
use tokio::time::Instant;

pub(crate) use self::meters::ReplyMeters;
pub(crate) use self::reader::{Reader, Source};
use super::cancel::Reason;
use super::incoming;

/// What may wait for one reader while memory is short, as it costs: enough for what comes at once to one who reads.
const SHORT_BYTES: usize = 32 << 10;

/// How much of an answer of many messages a route lets through. The request's own deadline bounds the wait for the
/// first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyBounds {
    /// Messages of one answer, at least 2.
    pub messages_max: usize,
    /// Bytes of headers and payloads of one answer.
    pub bytes_max: usize,
    /// The longest time between two messages.
    pub gap: Duration,
    /// The longest time from the request to the last message.
    pub total: Duration,
    /// Messages that may wait for a slow reader, at least 1.
    pub queue_messages_max: usize,
    /// Bytes that may wait for a slow reader. One message may wait whatever its size.
    pub queue_bytes_max: usize,
}

/// Who is told that nobody wants the rest. Dropping it unasked tells nothing more than it would for any request.
pub(crate) trait Responder: Send + 'static {
    /// The answer is whole, or the responder ended it itself: there is nothing to say.
    fn settle(self);

    /// The rest is not wanted; without a reason it is the peer or the deadline, as the time says.
    fn give_up(self, reason: Option<Reason>);
}

/// How an answer ended.
#[derive(Debug)]
enum End {
    /// With its last message.
    Complete,
    /// With a no of the responder, which is taken when it is told.
    Failed(Option<Error>),
    /// Over the route's count.
    Messages,
    /// Over the route's bytes.
    Bytes,
    /// Nothing came for too long.
    Gap,
    /// It took too long as a whole.
    Total,
    /// Its reader did not keep up.
    Slow,
    /// The backend cannot bring more; it knows why.
    Lost,
    /// Its reader went.
    Cancelled,
}

impl End {
    /// What the responder is told; `None` is nothing.
    fn reason(&self) -> Option<Reason> {
        match self {
            Self::Complete | Self::Failed(_) | Self::Lost => None,
            Self::Messages | Self::Bytes => Some(Reason::OverLimit),
            Self::Gap | Self::Total => Some(Reason::TimedOut),
            Self::Slow => Some(Reason::SlowConsumer),
            Self::Cancelled => Some(Reason::Cancelled),
        }
    }

    /// What the reader is told instead of a next message. Whatever the end, parts of the answer were given.
    fn error(&mut self) -> Option<Error> {
        let error = match self {
            Self::Complete | Self::Cancelled | Self::Lost => return None,
            Self::Failed(error) => return error.take(),
            Self::Messages => {
                Error::new(Kind::TooLarge, "the answer has more messages than this route allows")
            }
            Self::Bytes => Error::new(Kind::TooLarge, "the answer has more bytes than this route allows"),
            Self::Gap => Error::new(Kind::TimedOut, "the next message of the answer did not come in time"),
            Self::Total => Error::new(Kind::TimedOut, "the answer was not whole within this route's time"),
            Self::Slow => Error::new(Kind::SlowConsumer, "the answer was not read as fast as it came"),
        };
        Some(error.with_outcome(Outcome::Unknown))
    }
}

/// The queue of one answer.
pub(crate) struct Replies<T> {
    bounds: ReplyBounds,
    /// What its parts are charged to while they wait.
    memory: Option<ByteBudget>,
    /// When the whole answer is due.
    due: Instant,
    state: Mutex<State<T>>,
}

struct State<T> {
    parts: VecDeque<Part>,
    /// Of `parts`.
    bytes: usize,
    messages_came: usize,
    bytes_came: usize,
    /// When the last message came.
    came: Option<Instant>,
    end: Option<End>,
    /// Taken when the answer ends.
    responder: Option<T>,
    reader: Option<Waker>,
}

impl<T> State<T> {
    fn clear(&mut self) {
        self.parts.clear();
        self.bytes = 0;
    }
}

#[derive(Debug)]
struct Part {
    message: Message,
    more: bool,
    /// Until it is taken.
    charge: Option<Charge>,
}

impl Part {
    /// What `count` of them cost that have so many `bytes` together: also a message of no bytes does. Room for another is
    /// there in a queue that has just grown.
    fn cost(count: usize, bytes: usize) -> usize {
        count.saturating_mul(2 * size_of::<Self>() + SHARED_BYTES).saturating_add(bytes)
    }

    fn bytes(&self) -> usize {
        self.message.headers.bytes() + self.message.payload.len()
    }
}

/// How the time of an answer stands.
#[derive(Debug)]
enum Time {
    /// To be looked at again then, and not before.
    Runs(Instant),
    /// It has ended, in this word; whether the backend knows why.
    Over { end: &'static str, lost: bool },
}

/// What a reader finds.
#[derive(Debug)]
enum Taken {
    /// The next message.
    Part(Message),
    /// There is no more; the error to tell, unless the backend knows it better or it is complete.
    End { error: Option<Error>, lost: bool },
}

impl<T: Responder> Replies<T> {
    /// An empty queue for the answer to a request that is sent now. What waits in it is charged to `memory`.
    pub(crate) fn new(bounds: ReplyBounds, memory: Option<ByteBudget>) -> Arc<Self> {
        let state = State {
            parts: VecDeque::new(),
            bytes: 0,
            messages_came: 0,
            bytes_came: 0,
            came: None,
            end: None,
            responder: None,
            reader: None,
        };
        Arc::new(Self { bounds, memory, due: Instant::now() + bounds.total, state: Mutex::new(state) })
    }

    /// Says who is told if the answer is given up. The answer may have ended since the request was sent.
    pub(crate) fn arm(&self, responder: T) {
        let mut state = self.lock();
        match &state.end {
            None => state.responder = Some(responder),
            Some(end) => {
                let reason = end.reason();
                drop(state);
                tell(responder, reason);
            }
        }
    }

    /// Takes a message of the responder; `false` is that the answer had ended before.
    pub(crate) fn push(&self, headers: Headers, payload: Bytes) -> bool {
        let read = incoming::part(headers, payload);
        let now = Instant::now();
        let mut state = self.lock();
        if let (None, Some(came)) = (&state.end, state.came) {
            // Whoever reads may not have looked in time; when a message came does not depend on who looks.
            if let Some(end) = self.overdue(came, now) {
                Self::end(state, end);
                return false;
            }
        }
        if state.end.is_some() {
            return false;
        }
        let mut part = match read {
            Ok((message, more)) => Part { message, more, charge: None },
            Err(error) => {
                Self::end(state, End::Failed(Some(error)));
                return true;
            }
        };
        let bytes = part.bytes();
        state.messages_came += 1;
        state.bytes_came += bytes;
        state.came = Some(now);
        let broken = if state.messages_came > self.bounds.messages_max {
            Some(End::Messages)
        } else if state.bytes_came > self.bounds.bytes_max {
            Some(End::Bytes)
        } else if state.parts.len() >= self.bounds.queue_messages_max.max(1)
            || !state.parts.is_empty() && state.bytes + bytes > self.bounds.queue_bytes_max
        {
            Some(End::Slow)
        } else if !state.parts.is_empty() && self.is_too_dear(state.parts.len() + 1, state.bytes + bytes) {
            // The rest of it is lost anyway, and whoever does not read would keep this for long.
            state.clear();
            Some(End::Slow)
        } else {
            None
        };
        if let Some(end) = broken {
            Self::end(state, end);
            return true;
        }
        let more = part.more;
        // It has arrived, so it is counted even past the limit.
        let cost = Part::cost(1, bytes + part.message.headers.list_bytes());
        part.charge = self.memory.as_ref().map(|memory| memory.charge_always(cost));
        state.bytes += bytes;
        state.parts.push_back(part);
        if more {
            let reader = state.reader.take();
            drop(state);
            wake(reader);
        } else {
            Self::end(state, End::Complete);
        }
        true
    }

    /// Ends it with an error of the backend's own: the responder has nothing to be told.
    pub(crate) fn fail(&self, error: Error) {
        Self::end(self.lock(), End::Failed(Some(error)));
    }

    /// Ends it because nothing more can come; the reader's [`Source::lost`] says why.
    pub(crate) fn lose(&self) {
        Self::end(self.lock(), End::Lost);
    }

    /// Whether so many messages are more than may wait while memory is as short as it is.
    fn is_too_dear(&self, messages: usize, bytes: usize) -> bool {
        let Some(memory) = self.memory.as_ref().filter(|memory| memory.is_short()) else { return false };
        memory.is_pressed() || Part::cost(messages, bytes) > SHORT_BYTES
    }

    fn overdue(&self, came: Instant, now: Instant) -> Option<End> {
        if now >= self.due {
            Some(End::Total)
        } else if now >= came + self.bounds.gap {
            Some(End::Gap)
        } else {
            None
        }
    }

    /// The first end counts.
    fn end(mut state: MutexGuard<'_, State<T>>, end: End) {
        if state.end.is_some() {
            return;
        }
        let reason = end.reason();
        state.end = Some(end);
        let (reader, responder) = (state.reader.take(), state.responder.take());
        drop(state);
        wake(reader);
        if let Some(responder) = responder {
            tell(responder, reason);
        }
    }

    /// Whether the answer is one message (which is taken), many (of which none is), or none at all.
    fn poll_first(&self, context: &mut Context<'_>) -> Poll<First> {
        let mut state = self.lock();
        match state.parts.front() {
            Some(Part { more: true, .. }) => Poll::Ready(First::OfMany),
            Some(_) => {
                let part = state.parts.pop_front().expect("it was there a line ago");
                state.bytes -= part.bytes();
                Poll::Ready(First::Only(part.message))
            }
            None => {
                if let Some(end) = &mut state.end {
                    return Poll::Ready(First::Nothing(end.error()));
                }
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next part.
    fn poll_take(&self, context: &mut Context<'_>) -> Poll<Taken> {
        let mut state = self.lock();
        if let Some(part) = state.parts.pop_front() {
            state.bytes -= part.bytes();
            return Poll::Ready(Taken::Part(part.message));
        }
        if let Some(end) = &mut state.end {
            return Poll::Ready(Taken::End { error: end.error(), lost: matches!(end, End::Lost) });
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ends it if its time is over. For one that has begun.
    fn expire(&self) -> Time {
        let state = self.lock();
        if let Some(end) = &state.end {
            return Time::Over { end: end.name(), lost: matches!(end, End::Lost) };
        }
        let now = Instant::now();
        let came = state.came.unwrap_or(now);
        let Some(end) = self.overdue(came, now) else {
            return Time::Runs(self.due.min(came + self.bounds.gap));
        };
        let name = end.name();
        Self::end(state, end);
        Time::Over { end: name, lost: false }
    }

    /// Nobody reads any more. Says how it had ended.
    fn close(&self) -> &'static str {
        let mut state = self.lock();
        state.clear();
        match &state.end {
            Some(end) => end.name(),
            // Before the first message the clock says whether its peer or its deadline gave it up.
            None if state.came.is_none() => {
                state.end = Some(End::Cancelled);
                let responder = state.responder.take();
                drop(state);
                if let Some(responder) = responder {
                    responder.give_up(None);
                }
                End::Cancelled.name()
            }
            None => {
                Self::end(state, End::Cancelled);
                End::Cancelled.name()
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic elsewhere can only leave counts that are ahead of the queue, which ends early then.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Replies<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Replies").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// What an answer begins with.
#[derive(Debug)]
enum First {
    /// The one message that it is.
    Only(Message),
    /// Further ones follow.
    OfMany,
    /// An error, unless the backend knows it better.
    Nothing(Option<Error>),
}

fn tell(responder: impl Responder, reason: Option<Reason>) {
    match reason {
        Some(_) => responder.give_up(reason),
        None => responder.settle(),
    }
}

fn wake(reader: Option<Waker>) {
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests;
