//! The budget of further attempts: a share of the requests, so that an outage is not answered with a multiple of the
//! load that caused it.
//!
//! One number: each request that could be tried again earns a part of an attempt, each further attempt spends a whole
//! one, and what can be saved is bounded. It begins full, so that a quiet route has some. (After the retry throttling
//! of gRPC, gRFC A6, which counts failures and successes instead.)

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::RetrySettings;

/// Parts of one attempt: what a request earns is a percentage.
const PARTS: u32 = 100;

/// The budget of a route, and what became of it.
#[derive(Debug, Default)]
pub struct Budget {
    /// Spent so far and not earned back, in parts: so it begins full, whatever its bound is.
    spent: AtomicU32,
    max: AtomicU32,
    ok: AtomicU64,
    failed: AtomicU64,
    exhausted: AtomicU64,
}

impl Budget {
    /// Changes how many attempts can be saved up.
    pub fn set_max(&self, attempts: u32) {
        self.max.store(attempts.saturating_mul(PARTS), Ordering::Relaxed);
    }

    /// A request came that could be tried again.
    pub(super) fn earn(&self, settings: &RetrySettings) {
        let less = |spent: u32| (spent > 0).then(|| spent.saturating_sub(settings.budget_percent));
        // An error is a budget that is full already.
        let _ = self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Takes a further attempt, if there is one left.
    pub(super) fn spend(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        let more = |spent: u32| spent.checked_add(PARTS).filter(|spent| *spent <= max);
        let spent = self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if !spent {
            self.exhausted.fetch_add(1, Ordering::Relaxed);
        }
        spent
    }

    /// A further attempt ended.
    pub(super) fn ended(&self, well: bool) {
        let counter = if well { &self.ok } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Whole attempts that are left.
    pub fn left(&self) -> u32 {
        let (max, spent) = (self.max.load(Ordering::Relaxed), self.spent.load(Ordering::Relaxed));
        max.saturating_sub(spent) / PARTS
    }

    /// Attempts that can be saved up.
    pub fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed) / PARTS
    }

    /// Further attempts that were answered well.
    pub fn ok_total(&self) -> u64 {
        self.ok.load(Ordering::Relaxed)
    }

    /// Further attempts that failed too.
    pub fn failed_total(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Further attempts that were not made, for want of budget.
    pub fn exhausted_total(&self) -> u64 {
        self.exhausted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::retry::tests::SETTINGS;

    #[test]
    fn it_begins_full_and_comes_back_with_traffic() {
        let budget = Budget::default();
        budget.set_max(2);
        assert_eq!([budget.spend(), budget.spend(), budget.spend()], [true, true, false]);
        assert_eq!((budget.left(), budget.exhausted_total()), (0, 1));
        let settings = RetrySettings { budget_percent: 20, ..SETTINGS };
        (0..4).for_each(|_| budget.earn(&settings));
        assert!(!budget.spend(), "four requests earn no whole attempt");
        budget.earn(&settings);
        assert!(budget.spend());
        (0..1000).for_each(|_| budget.earn(&settings));
        assert_eq!(budget.left(), 2, "no more than can be saved");
    }

    #[test]
    fn from_many_threads_no_more_is_spent_than_there_is() {
        let budget = Budget::default();
        budget.set_max(1000);
        let spent: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1000).filter(|_| budget.spend()).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((spent, budget.left()), (1000, 0));
    }
}
