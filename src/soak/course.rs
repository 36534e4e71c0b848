//! The course of a run: its clock, its ledger, and what the load is to do just now.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::breach::Breach;
use super::ledger::Ledger;
use super::news::{Ends, Record};
use super::plan::Plan;
use crate::client::{Lost, Via};

/// The course.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) plan: Plan,
    began: Instant,
    ledger: Mutex<Ledger>,
    /// What became of the news that were published.
    pub(super) record: Mutex<Record>,
    /// Whether every other request is to be answered late.
    pub(super) late: AtomicBool,
    /// Odd while messages may be lost on NATS without anybody's fault, and another number each time.
    storms: AtomicU64,
    /// How often nats-server was ended: every subscription has to hear of each time.
    ends: AtomicU64,
    /// The last news before it was started again.
    last_before: AtomicU64,
    /// The load is to end.
    pub(super) over: CancellationToken,
}

impl Course {
    /// Begins now.
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(plan.terms())),
            plan,
            began: Instant::now(),
            record: Mutex::default(),
            late: AtomicBool::new(false),
            storms: AtomicU64::new(0),
            ends: AtomicU64::new(0),
            last_before: AtomicU64::new(0),
            over: CancellationToken::new(),
        }
    }

    /// The time since the start.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A time of the clock, as a time since the start.
    pub(super) fn at(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.began)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nobody panics with the ledger in hand")
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("nobody panics with the record in hand")
    }

    /// Takes down that the gateway ended a connection, or did not take one.
    pub(super) fn lost(&self, door: Via, lost: &Lost) {
        self.find(Breach::ConnectionLost, door, lost.to_string());
    }

    /// Takes down what is about no request.
    pub(super) fn find(&self, breach: Breach, door: Via, detail: String) {
        let now = self.now();
        let mut ledger = self.ledger();
        ledger.sweep(now);
        ledger.find(breach, None, Some(door), detail);
    }

    /// From now on, until [`Self::calm`], messages on NATS may be lost.
    pub(super) fn storm(&self) {
        self.storms.fetch_or(1, Ordering::Relaxed);
    }

    /// It is over.
    pub(super) fn calm(&self) {
        let before = self.storms.load(Ordering::Relaxed);
        self.storms.store(before + before % 2, Ordering::Relaxed);
    }

    pub(super) fn storms(&self) -> u64 {
        self.storms.load(Ordering::Relaxed)
    }

    /// nats-server is ended now.
    pub(super) fn server_ends(&self) {
        // What it had handed out before is still on its way.
        self.last_before.store(u64::MAX, Ordering::SeqCst);
        self.ends.fetch_add(1, Ordering::SeqCst);
    }

    /// It is started again now.
    pub(super) fn server_returns(&self) {
        self.last_before.store(self.record().last(), Ordering::SeqCst);
    }

    pub(super) fn ends(&self) -> Ends {
        // In this order: an end that is not counted yet has no message after it.
        let count = self.ends.load(Ordering::SeqCst);
        Ends { count, last_before: self.last_before.load(Ordering::SeqCst) }
    }
}
