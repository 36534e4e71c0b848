//! The byte budget: how much memory all connections together may hold in buffers and waiting replies.
//!
//! One counter for the process, because memory is one thing: a limit per connection times a limit on
//! connections is either too small to be useful or too large to protect. A [`Charge`] gives its bytes back
//! when dropped, so no path can forget to.
//!
//! Two watermarks below the limit say when to refuse new work: from the high one on, until the low one is reached
//! again. What is left above them is for the work that is going on. Between the two nothing changes, so that a
//! gateway near its limit does not flap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A shared, bounded count of bytes. Cloning shares it.
#[derive(Clone, Debug)]
pub struct ByteBudget(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    used: AtomicUsize,
    bytes_max: usize,
    high: AtomicUsize,
    low: AtomicUsize,
    pressed: AtomicBool,
    pressed_total: AtomicU64,
    released_total: AtomicU64,
}

impl ByteBudget {
    /// A budget of `bytes_max` bytes, pressed when it is spent.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Counts {
            used: AtomicUsize::new(0),
            bytes_max,
            high: AtomicUsize::new(bytes_max),
            low: AtomicUsize::new(bytes_max.saturating_sub(1)),
            pressed: AtomicBool::new(false),
            pressed_total: AtomicU64::new(0),
            released_total: AtomicU64::new(0),
        }))
    }

    /// Sets the watermarks, in percent of the limit.
    pub fn set_watermarks(&self, high_percent: usize, low_percent: usize) {
        let share = |percent: usize| (self.0.bytes_max / 100).saturating_mul(percent.min(100));
        self.0.high.store(share(high_percent).max(1), Ordering::Relaxed);
        self.0.low.store(share(low_percent.min(high_percent)), Ordering::Relaxed);
    }

    /// Whether new work is to be refused: from the high watermark on, until the low one is reached again. Looking
    /// is what turns it over.
    pub fn is_pressed(&self) -> bool {
        let (counts, used) = (&*self.0, self.used());
        // Relaxed, like all here: nobody reads other memory by what this says.
        if counts.pressed.load(Ordering::Relaxed) {
            if used > counts.low.load(Ordering::Relaxed) {
                return true;
            }
            if counts.pressed.swap(false, Ordering::Relaxed) {
                counts.released_total.fetch_add(1, Ordering::Relaxed);
            }
            return false;
        }
        if used < counts.high.load(Ordering::Relaxed) {
            return false;
        }
        if !counts.pressed.swap(true, Ordering::Relaxed) {
            counts.pressed_total.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Times that it became pressed.
    pub fn pressed_total(&self) -> u64 {
        self.0.pressed_total.load(Ordering::Relaxed)
    }

    /// Times that it was pressed and is not any more.
    pub fn released_total(&self) -> u64 {
        self.0.released_total.load(Ordering::Relaxed)
    }

    /// The bytes from which on it is pressed.
    pub fn high_bytes(&self) -> usize {
        self.0.high.load(Ordering::Relaxed)
    }

    /// The bytes at which it is not pressed any more.
    pub fn low_bytes(&self) -> usize {
        self.0.low.load(Ordering::Relaxed)
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

    /// Another charge of `bytes` to the same budget, even past the limit.
    #[must_use]
    pub fn another(&self, bytes: usize) -> Self {
        self.budget.charge_always(bytes)
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
    fn between_the_watermarks_nothing_changes() {
        let budget = ByteBudget::new(1000);
        budget.set_watermarks(80, 50);
        let mut charge = budget.charge(799).unwrap();
        assert!(!budget.is_pressed());
        assert!(charge.grow(1) && budget.is_pressed());
        charge.shrink(299);
        assert!(budget.is_pressed(), "501 bytes are above the low watermark");
        charge.shrink(1);
        assert!(!budget.is_pressed());
        assert!(charge.grow(299) && !budget.is_pressed(), "799 bytes are below the high watermark");
        assert_eq!((budget.pressed_total(), budget.released_total()), (1, 1));
    }

    #[test]
    fn a_charge_near_the_largest_number_does_not_wrap() {
        let budget = ByteBudget::new(usize::MAX);
        let _one = budget.charge(1).unwrap();
        assert!(budget.charge(usize::MAX).is_none());
    }
}
