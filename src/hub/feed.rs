//! One pattern: who listens on it, and whether its subscription is being opened, in force or over.
//!
//! Its lock is held for a moment by whoever comes or goes, and by the pump once a message. A listener is in
//! the list from the moment it asks, so that it gets everything from the opening on, and so that those who
//! ask while it opens are answered together.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use contract::{Delivery, Error, Pattern};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clearance::Clearance;
use super::listener::Listener;
use super::meters::Tally;
use super::ring::Put;
use crate::route::Route;
use crate::rules::Rules;

/// A pattern with its listeners.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) pattern: Pattern,
    state: Mutex<State>,
    /// Told when the last listener left; for the pump.
    left: Notify,
}

#[derive(Debug, Default)]
struct State {
    listeners: Vec<Arc<Listener>>,
    opened: bool,
    ended: bool,
    /// When the last listener left, unless another came.
    idle_since: Option<Instant>,
}

/// Whether a feed is still wanted.
#[derive(Debug)]
pub(super) enum Rest {
    /// Somebody listens.
    InUse,
    /// Nobody listens; look again at this time.
    Until(Instant),
    /// It is over.
    Ended,
}

impl Feed {
    pub(super) fn new(pattern: Pattern) -> Self {
        Self { pattern, state: Mutex::default(), left: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every write leaves it whole, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a listener; false when it is over, and a feed of its own must be opened.
    pub(super) fn join(&self, listener: &Arc<Listener>) -> bool {
        let mut state = self.state();
        if state.ended {
            return false;
        }
        state.idle_since = None;
        state.listeners.push(Arc::clone(listener));
        if state.opened {
            // Nobody polls it yet, so there is nobody to wake.
            listener.open(&mut Vec::new());
        }
        true
    }

    /// Takes a listener away.
    pub(super) fn leave(&self, listener: &Arc<Listener>) {
        let mut state = self.state();
        let Some(place) = state.listeners.iter().position(|known| Arc::ptr_eq(known, listener)) else {
            return;
        };
        let gone = state.listeners.swap_remove(place);
        if state.listeners.is_empty() {
            // A burst of listeners does not keep its memory.
            state.listeners = Vec::new();
            state.idle_since = Some(Instant::now());
            self.left.notify_one();
        }
        drop(state);
        drop(gone);
    }

    /// Resolves when the last listener has left since the last time. For the pump.
    pub(super) async fn left(&self) {
        self.left.notified().await;
    }

    /// Resolves when it is over. For the pump.
    pub(super) async fn over(&self) {
        while !self.state().ended {
            self.left().await;
        }
    }

    /// Ends it if nobody has listened for `linger`.
    pub(super) fn rest(&self, linger: Duration) -> Rest {
        let mut state = self.state();
        let due = state.idle_since.map(|since| since + linger);
        match due {
            _ if state.ended => Rest::Ended,
            None => Rest::InUse,
            Some(due) if due > Instant::now() => Rest::Until(due),
            Some(_) => {
                state.ended = true;
                self.left.notify_one();
                Rest::Ended
            }
        }
    }

    /// The subscription is in force: answers all who wait for it.
    pub(super) fn open(&self, wakers: &mut Vec<Waker>) {
        let mut state = self.state();
        state.opened = true;
        for listener in &state.listeners {
            listener.open(wakers);
        }
    }

    /// It is over, for all who listen: they get `outcome` after what they have unread.
    pub(super) fn end(&self, outcome: &Result<(), Error>, wakers: &mut Vec<Waker>) {
        let mut state = self.state();
        state.ended = true;
        let listeners = std::mem::take(&mut state.listeners);
        drop(state);
        for listener in listeners {
            listener.end(outcome.as_ref().map_err(copy).copied(), wakers);
        }
    }

    /// Gives a message to all who may read it, by the rules in force and by those each was let in by.
    pub(super) fn hand_out(
        &self,
        delivery: &Arc<Delivery>,
        rules: &Arc<Rules>,
        clearance: &mut Clearance,
        wakers: &mut Vec<Waker>,
    ) -> Tally {
        let mut tally = Tally::default();
        let state = self.state();
        if state.listeners.is_empty() {
            return tally;
        }
        let now = clearance.route(rules, &delivery.subject);
        // Listeners of one age stand together mostly, so one older answer is remembered.
        let mut before = (Arc::clone(rules), now.clone());
        for listener in &state.listeners {
            if !Arc::ptr_eq(&before.0, &listener.rules) {
                let route = clearance.route(&listener.rules, &delivery.subject);
                before = (Arc::clone(&listener.rules), route);
            }
            let may = |route: &Option<Arc<Route>>| {
                route.as_ref().is_some_and(|route| route.allows(&listener.origin))
            };
            if may(&now) && may(&before.1) {
                let (put, grown) = listener.put(delivery, wakers);
                tally.add(listener.policy, put, grown);
            } else {
                tally.skipped += 1;
            }
        }
        tally
    }

    /// Tells all of messages that were lost before they got here.
    pub(super) fn gap(&self, lost: Option<NonZeroU64>, wakers: &mut Vec<Waker>) {
        for listener in &self.state().listeners {
            listener.gap(lost, wakers);
        }
    }

    /// Cuts every queue down to `cost_max` bytes.
    pub(super) fn trim(&self, cost_max: usize, wakers: &mut Vec<Waker>) -> Tally {
        let mut tally = Tally::default();
        for listener in &self.state().listeners {
            let (lost, grown) = listener.trim(cost_max, wakers);
            tally.add(listener.policy, Put { lost, ..Put::default() }, grown);
        }
        tally
    }

    /// Whether any listener was let in by these rules.
    pub(super) fn has_listeners_of(&self, rules: &Arc<Rules>) -> bool {
        self.state().listeners.iter().any(|listener| Arc::ptr_eq(&listener.rules, rules))
    }

    /// Messages unread by the listener that has most of them.
    pub(super) fn unread_most(&self) -> usize {
        self.state().listeners.iter().map(|listener| listener.unread()).max().unwrap_or(0)
    }
}

/// The same error for one more listener, without its cause, which is for one log line.
fn copy(error: &Error) -> Error {
    let text = error.text().to_owned();
    let copy = match error.as_failed() {
        Some(failed) => Error::failed(failed.clone(), text),
        None => Error::new(error.kind(), text),
    };
    let copy = copy.with_outcome(error.outcome());
    match error.retry_after() {
        Some(after) => copy.with_retry_after(after),
        None => copy,
    }
}
