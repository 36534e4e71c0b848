//! Permits: a bounded count of things that run at once, taken without waiting and given back by dropping.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A count with a limit. The limit can change while permits are out; what is over it stays until given back.
#[derive(Debug)]
pub struct Permits {
    used: AtomicUsize,
    limit: AtomicUsize,
}

impl Default for Permits {
    /// Without a limit.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Permits {
    /// At most `limit` at once.
    pub fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    /// Changes the limit.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes one, or none when the limit is reached. Never waits, never allocates.
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        self.take_within(self.limit())
    }

    /// The same under a lower limit, which holds for this one alone.
    pub fn take_within(self: &Arc<Self>, limit: usize) -> Option<Permit> {
        let limit = limit.min(self.limit());
        let more = |used| (used < limit).then(|| used + 1);
        // Relaxed: the count guards a number, it publishes no other memory.
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Permit(Arc::clone(self)))
    }

    /// Takes one even past the limit: for what runs already, and must be counted so that nothing new does until it is over.
    pub fn take_always(self: &Arc<Self>) -> Permit {
        self.used.fetch_add(1, Ordering::Relaxed);
        Permit(Arc::clone(self))
    }

    /// Permits out now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }
}

/// One permit, given back when dropped.
#[derive(Debug)]
pub struct Permit(Arc<Permits>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_the_limit_and_all_come_back() {
        let permits = Arc::new(Permits::new(2));
        let taken: Vec<_> = (0..3).map(|_| permits.take()).collect();
        assert_eq!(taken.iter().flatten().count(), 2);
        drop(taken);
        assert_eq!(permits.used(), 0);
    }

    #[test]
    fn what_runs_already_is_counted_past_the_limit_and_keeps_others_out() {
        let permits = Arc::new(Permits::new(1));
        let running = [permits.take_always(), permits.take_always()];
        assert_eq!((permits.used(), permits.take().is_none()), (2, true));
        let [first, last] = running;
        drop(first);
        assert!(permits.take().is_none());
        drop(last);
        assert!(permits.take().is_some());
    }

    #[test]
    fn from_many_threads_the_limit_holds() {
        // Fewer than there are threads, or nobody would ever be one too many.
        let permits = Arc::new(Permits::new(2));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let permit = permits.take();
                        // With it in hand, so that the others come upon it on a machine with few cores too.
                        std::thread::yield_now();
                        assert!(permits.used() <= 2);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(permits.used(), 0);
    }
}
