//! One who listens: whose it is, under which rules it began, and its queue. And the stream that reads it.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use contract::{Delivery, Error, Event, Origin, QueueBounds, QueuePolicy};
use futures_util::Stream;

use super::feed::Feed;
use super::meters::Meters;
use super::ring::{Put, Ring};
use crate::rules::Rules;

/// One who listens on a pattern.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) origin: Arc<Origin>,
    /// The rules that it was let in by: it never sees more than they allow.
    pub(super) rules: Arc<Rules>,
    pub(super) policy: QueuePolicy,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    /// Whether the subscription is in force.
    opened: bool,
    reader: Option<Waker>,
}

impl Listener {
    pub(super) fn new(origin: Arc<Origin>, rules: Arc<Rules>, bounds: QueueBounds) -> Self {
        let state = Mutex::new(State { ring: Ring::new(bounds), opened: false, reader: None });
        Self { origin, rules, policy: bounds.policy, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What the lock guards is whole between any two calls of the ring, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The subscription is in force. Like all that follow, it adds to `wakers` who is to be woken, after every
    /// lock was given back: what a waker does is not known here.
    pub(super) fn open(&self, wakers: &mut Vec<Waker>) {
        let mut state = self.state();
        state.opened = true;
        wakers.extend(state.reader.take());
    }

    /// Gives it a message. Says also by how many bytes its queue costs more now.
    pub(super) fn put(&self, delivery: &Arc<Delivery>, wakers: &mut Vec<Waker>) -> (Put, i64) {
        let mut state = self.state();
        let before = state.ring.cost();
        let put = state.ring.put(delivery);
        let grown = growth(before, state.ring.cost());
        wakers.extend(state.reader.take());
        (put, grown)
    }

    /// Cuts its queue down to `cost_max` bytes. Says how many messages went, and by how many bytes it costs more now.
    pub(super) fn trim(&self, cost_max: usize, wakers: &mut Vec<Waker>) -> (u64, i64) {
        let mut state = self.state();
        let before = state.ring.cost();
        let gone = state.ring.trim(cost_max);
        if gone > 0 {
            wakers.extend(state.reader.take());
        }
        (gone, growth(before, state.ring.cost()))
    }

    /// Tells it of messages that were lost for everybody.
    pub(super) fn gap(&self, lost: Option<NonZeroU64>, wakers: &mut Vec<Waker>) {
        let mut state = self.state();
        state.ring.gap(lost);
        wakers.extend(state.reader.take());
    }

    /// Ends it, after what it has unread.
    pub(super) fn end(&self, outcome: Result<(), Error>, wakers: &mut Vec<Waker>) {
        let mut state = self.state();
        state.ring.end(outcome);
        wakers.extend(state.reader.take());
    }

    /// Messages it has unread.
    pub(super) fn unread(&self) -> usize {
        self.state().ring.len()
    }

    fn poll_opened(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state();
        if state.opened {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = state.ring.take_failure() {
            return Poll::Ready(Err(error));
        }
        state.wake_later(context);
        Poll::Pending
    }

    fn poll_take(&self, context: &mut Context<'_>, meters: &Meters) -> Poll<Option<Result<Event, Error>>> {
        let mut state = self.state();
        let before = state.ring.cost();
        let taken = state.ring.take();
        meters.unread_bytes.add(growth(before, state.ring.cost()));
        if taken.is_pending() {
            state.wake_later(context);
        }
        taken
    }
}

impl State {
    fn wake_later(&mut self, context: &Context<'_>) {
        match &mut self.reader {
            Some(reader) => reader.clone_from(context.waker()),
            None => self.reader = Some(context.waker().clone()),
        }
    }
}

/// By how many bytes something grew.
fn growth(before: usize, after: usize) -> i64 {
    let bytes = |bytes| i64::try_from(bytes).expect("memory is smaller than 2^63 bytes");
    bytes(after) - bytes(before)
}

/// A listener's stream. Dropping it takes the listener away.
#[derive(Debug)]
pub(super) struct Listening {
    feed: Arc<Feed>,
    listener: Arc<Listener>,
    meters: Arc<Meters>,
}

impl Listening {
    /// The stream of a listener that has joined `feed`.
    pub(super) fn new(feed: Arc<Feed>, listener: Arc<Listener>, meters: Arc<Meters>) -> Self {
        meters.listeners.add(1);
        Self { feed, listener, meters }
    }

    /// Resolves when the subscription is in force, or could not be opened.
    pub(super) fn poll_opened(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.listener.poll_opened(context)
    }
}

impl Stream for Listening {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.listener.poll_take(context, &self.meters)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.feed.leave(&self.listener);
        self.meters.listeners.add(-1);
        let (unread, cost) = {
            let mut state = self.listener.state();
            let cost = state.ring.cost();
            (state.ring.discard(), cost)
        };
        self.meters.unread_bytes.add(growth(cost, 0));
        drop(unread);
    }
}
