//! A flight: one execution under a key, from the request that was first to its end.
//!
//! Whoever holds it owes an end to the entry and to the twins that wait. So every way out of it is an end, the unhappy
//! ones too.

use std::sync::Arc;
use std::time::Duration;

use contract::{Error, Kind, Reply};
use tokio::sync::watch;
use tokio::time::Instant;

use super::end::End;
use super::entries::Entries;
use super::key::Digest;

/// An execution. Every way out of it ends its entry: also a panic, of which nobody knows what it has done.
#[derive(Debug)]
pub(super) struct Flight {
    entries: Arc<Entries>,
    key: Digest,
    window: Duration,
    told: watch::Sender<Option<Arc<End>>>,
    landed: bool,
}

impl Flight {
    pub(super) fn new(
        entries: Arc<Entries>,
        key: Digest,
        window: Duration,
        told: watch::Sender<Option<Arc<End>>>,
    ) -> Self {
        Self { entries, key, window, told, landed: false }
    }

    pub(super) fn key(&self) -> Digest {
        self.key
    }

    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// What is counted for all.
    pub(super) fn entries(&self) -> Arc<Entries> {
        Arc::clone(&self.entries)
    }

    /// It is executed now.
    pub(super) fn executes(&self) {
        self.entries.meters.executed.increment();
    }

    /// Ends it: keeps its end if something happened or may have, else forgets the key.
    pub(super) fn end(self, end: End) {
        let window = self.window;
        self.end_for(end, window);
    }

    /// As [`Self::end`], and keeps it for so long.
    pub(super) fn end_for(mut self, end: End, window: Duration) {
        let keep_until = end.counts().then(|| Instant::now() + window);
        self.land(end, keep_until);
    }

    /// Forgets it, if no twin waits for it: then it must not be ended any more.
    pub(super) fn is_abandoned(&mut self) -> bool {
        // The table has a receiver of its own; and nobody gets another while it is looked at.
        let told = &self.told;
        self.landed = self.landed || self.entries.forget_if(self.key, || told.receiver_count() <= 1);
        self.landed
    }

    /// Ends it before it was executed here, and tells so to whoever waits: whoever comes next is the first.
    pub(super) fn refuse(mut self, error: Error) -> Result<Reply, Error> {
        let outcome = Err(error);
        self.land(End::of(&outcome), None);
        outcome
    }

    fn land(&mut self, end: End, keep_until: Option<Instant>) {
        self.landed = true;
        let end = Arc::new(end);
        self.entries.land(self.key, &end, keep_until);
        self.told.send_replace(Some(end));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            let error = Error::new(Kind::Internal, "the request with this idempotency key was broken off");
            self.land(End::of(&Err(error)), Some(Instant::now() + self.window));
        }
    }
}
