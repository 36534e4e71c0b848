//! Where the answer to one request arrives. The first answer is taken; a second, or one for a request that
//! was given up, is counted and dropped. Where many may answer, they go into a queue of their own until its end.
//!
//! The slot belongs to the request: its [`Waiting`] end frees it when dropped, and whoever still holds a
//! [`ReplyHandle`] keeps nothing but the empty shell.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use contract::{Charge, Error, Kind, Message, Outcome};
use tokio::sync::Notify;

use super::broker::{Broker, Meters};
use crate::backend::cancel::{Cancel, Reason};
use crate::backend::incoming;
use crate::backend::memory::{Memory, no_room};
use crate::backend::replies::{Replies, Responder, Source};

#[derive(Debug)]
struct Slot {
    state: Mutex<State>,
    released: Notify,
    meters: Arc<Meters>,
    terms: Terms,
}

/// Which answers are taken.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) payload_bytes_max: usize,
    /// What waits to be taken is charged to it.
    pub(super) memory: Memory,
    /// Whether the acknowledgement of a stream is none.
    pub(super) skips_acknowledgements: bool,
    /// Where they go, if there may be many.
    pub(super) replies: Option<Arc<Replies<Asker>>>,
}

#[derive(Debug)]
enum State {
    Open(Option<Waker>),
    /// With what it costs; `None` is that there was no room for it.
    Answered(Option<(Message, Option<Charge>)>),
    Closed,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every write is one assignment, so a panic elsewhere cannot leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to answer one request. Cloning shares it: whoever is first answers.
#[derive(Clone, Debug)]
pub struct ReplyHandle(Arc<Slot>);

/// Why an answer was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The request is answered already, or nobody waits for it any more.
    #[error("the request is answered or given up")]
    Late,
    /// The payload is larger than the broker takes. The request still waits.
    #[error("the answer is larger than the broker takes")]
    TooLarge,
}

impl ReplyHandle {
    pub(super) fn new(meters: &Arc<Meters>, terms: Terms) -> Self {
        let (state, released) = (Mutex::new(State::Open(None)), Notify::new());
        Self(Arc::new(Slot { state, released, meters: Arc::clone(meters), terms }))
    }

    /// Answers the request; the acknowledgement of a stream may be no answer ([`Manner`](crate::backend::cancel::Manner)).
    /// Where many may answer, all but the last say so by the header [`incoming::MORE`].
    pub fn send(&self, answer: Message) -> Result<(), NotTaken> {
        if answer.payload.len() > self.0.terms.payload_bytes_max {
            return Err(NotTaken::TooLarge);
        }
        if let Some(replies) = &self.0.terms.replies {
            let skipped =
                self.0.terms.skips_acknowledgements && incoming::is_acknowledgement(&answer.payload);
            if skipped || replies.push(answer.headers, answer.payload) {
                return Ok(());
            }
            self.0.meters.late_replies.increment();
            return Err(NotTaken::Late);
        }
        let mut state = self.0.state();
        let State::Open(waker) = &mut *state else {
            self.0.meters.late_replies.increment();
            return Err(NotTaken::Late);
        };
        if self.0.terms.skips_acknowledgements && incoming::is_acknowledgement(&answer.payload) {
            return Ok(());
        }
        let (waker, memory, bytes) = (waker.take(), &self.0.terms.memory, answer.payload.len());
        let kept = memory.fits(bytes).then(|| (answer, memory.charge_always(bytes)));
        *state = State::Answered(kept);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Resolves when nobody waits for the answer any more: it was taken, or the request was given up.
    pub async fn released(&self) {
        // Made before the look, so that a release between the two is not missed.
        let released = self.0.released.notified();
        if !matches!(*self.0.state(), State::Closed) {
            released.await;
        }
    }

    /// The receiving end. Make one of a handle.
    pub(super) fn wait(&self, cancel: Option<Asker>) -> Waiting {
        self.0.meters.waiting.add(1);
        Waiting { slot: Arc::clone(&self.0), cancel }
    }

    /// What an answer of many messages holds. Make one of a handle.
    pub(super) fn read(&self) -> Streamed {
        self.0.meters.waiting.add(1);
        Streamed(self.clone())
    }

    /// Nobody will wait: what is sent from now on is late.
    pub(super) fn release(&self) {
        *self.0.state() = State::Closed;
        self.0.released.notify_waiters();
    }
}

/// The receiving end of a slot; frees it when dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    slot: Arc<Slot>,
    /// What to say, and where, if it is dropped before the answer came.
    cancel: Option<Asker>,
}

impl Future for Waiting {
    type Output = Result<Message, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { slot, cancel } = &mut *self;
        let mut state = slot.state();
        match &mut *state {
            State::Answered(kept) => {
                let kept = kept.take();
                *state = State::Closed;
                drop(state);
                let Some((message, _charge)) = kept else { return Poll::Ready(Err(no_room())) };
                if let (true, Some(asker)) = (incoming::says_more(&message.headers), cancel.take()) {
                    asker.give_up(Some(Reason::OverLimit));
                }
                Poll::Ready(Ok(message))
            }
            State::Open(waker) => {
                match waker {
                    Some(known) => known.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            State::Closed => Poll::Pending,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.slot.state(), State::Closed);
        self.slot.released.notify_waiters();
        self.slot.meters.waiting.add(-1);
        if let (State::Open(_), Some(asker)) = (before, self.cancel.take()) {
            asker.give_up(None);
        }
    }
}

/// Who can take a request back.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) broker: Broker,
    pub(super) cancel: Cancel,
}

impl Responder for Asker {
    fn settle(self) {}

    fn give_up(mut self, reason: Option<Reason>) {
        if let Some(reason) = reason {
            self.cancel.because(reason);
        }
        self.broker.tell(&self.cancel);
    }
}

/// What an answer of many messages holds: the right to answer is released when it is dropped.
#[derive(Debug)]
pub(super) struct Streamed(ReplyHandle);

impl Source for Streamed {
    type Responder = Asker;

    fn lost(&self) -> Error {
        Error::new(Kind::Unavailable, "the broker is closed").with_outcome(Outcome::Unknown)
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.0.release();
        self.0.0.meters.waiting.add(-1);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn terms(payload_bytes_max: usize) -> Terms {
        Terms { payload_bytes_max, memory: Memory::default(), skips_acknowledgements: false, replies: None }
    }

    fn answer(text: &'static str) -> Message {
        Message { payload: Bytes::from_static(text.as_bytes()), ..Message::default() }
    }

    #[tokio::test]
    async fn the_first_answer_is_taken_and_the_rest_are_late() {
        let meters = Arc::new(Meters::default());
        let handle = ReplyHandle::new(&meters, terms(10));
        let waiting = handle.wait(None);
        assert_eq!(meters.waiting.get(), 1);
        assert_eq!(handle.send(answer("much too large")), Err(NotTaken::TooLarge));
        assert_eq!(handle.send(answer("first")), Ok(()));
        assert_eq!(handle.clone().send(answer("second")), Err(NotTaken::Late));
        assert_eq!(&waiting.await.unwrap().payload[..], b"first");
        assert_eq!(handle.send(answer("third")), Err(NotTaken::Late));
        assert_eq!((meters.waiting.get(), meters.late_replies.get()), (0, 2));
    }

    #[tokio::test]
    async fn dropping_the_request_releases_the_responder() {
        let meters = Arc::new(Meters::default());
        let handle = ReplyHandle::new(&meters, terms(10));
        let waiting = handle.wait(None);
        let responder = tokio::spawn({
            let handle = handle.clone();
            async move { handle.released().await }
        });
        drop(waiting);
        responder.await.unwrap();
        handle.released().await;
        assert_eq!(meters.waiting.get(), 0);
    }
}
