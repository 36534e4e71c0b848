//! The byte budget: how much memory all connections together may hold in buffers and waiting replies.
//!
//! One counter for the process, because memory is one thing: a limit per connection times a limit on
//! connections is either too small to be useful or too large to protect. A [`Charge`] gives its bytes back
//! when dropped, so no path can forget to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A shared, bounded count of bytes. Cloning shares it.
#[derive(Clone, Debug)]
pub struct ByteBudget(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    used: AtomicUsize,
    bytes_max: usize,
}

impl ByteBudget {
    /// A budget of `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Counts { used: AtomicUsize::new(0), bytes_max }))
    }

    /// Takes `bytes` if they fit; `None` when they would pass the limit. Never waits.
    pub fn charge(&self, bytes: usize) -> Option<Charge> {
        let mut charge = Charge { budget: self.clone(), bytes: 0 };
        charge.grow(bytes).then_some(charge)
    }

    /// Takes `bytes` even past the limit: for what has already happened (a reply that has arrived) and must
    /// be counted so that new work is refused until it is gone.
    pub fn charge_always(&self, bytes: usize) -> Charge {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
        Charge { budget: self.clone(), bytes }
    }

    /// Bytes taken now. May pass [`Self::bytes_max`] by what [`Self::charge_always`] took.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }
}

/// Bytes taken from a [`ByteBudget`], given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: ByteBudget,
    bytes: usize,
}

impl Charge {
    /// Takes `more` bytes if they fit, and says whether they did.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        let limit = self.budget.0.bytes_max;
        let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= limit);
        // Relaxed: the count guards an amount, it publishes no other memory.
        let taken = self.budget.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if taken {
            self.bytes += more;
        }
        taken
    }

    /// Takes `more` bytes even past the limit; see [`ByteBudget::charge_always`].
    pub fn grow_always(&mut self, more: usize) {
        self.budget.0.used.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
    }

    /// Gives `fewer` bytes back; at most what is held.
    pub fn shrink(&mut self, fewer: usize) {
        let back = fewer.min(self.bytes);
        self.budget.0.used.fetch_sub(back, Ordering::Relaxed);
        self.bytes -= back;
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_taken() {
        let budget = ByteBudget::new(100);
        let mut charge = budget.charge(60).unwrap();
        assert!(budget.charge(41).is_none());
        assert!(charge.grow(40));
        assert!(!charge.grow(1));
        charge.shrink(90);
        assert_eq!((charge.bytes(), budget.used()), (10, 10));
        drop(charge);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_has_happened_is_counted_past_the_limit() {
        let budget = ByteBudget::new(10);
        let charge = budget.charge_always(25);
        assert_eq!(budget.used(), 25);
        assert!(budget.charge(1).is_none());
        drop(charge);
        assert!(budget.charge(10).is_some());
    }

    #[test]
    fn a_charge_near_the_largest_number_does_not_wrap() {
        let budget = ByteBudget::new(usize::MAX);
        let _one = budget.charge(1).unwrap();
        assert!(budget.charge(usize::MAX).is_none());
    }
}
