//! What ended lately: counts in a ring of time slots, so that old calls are forgotten a slot at a time.
//!
//! A slot is a tenth of the window. A call is therefore remembered for nine tenths of the window to all of it, in a
//! fixed room, and without touching more than one slot.

use std::time::Duration;

/// Slots of a window.
pub(super) const SLOTS: usize = 10;

/// What a number of calls came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u32,
    pub(super) faults: u32,
    pub(super) slow: u32,
}

/// The ring. Empty at first.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// Milliseconds of a slot, as of the last call: with another number the slots mean other times.
    slot_ms: u64,
    slots: [Slot; SLOTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Which slot since the beginning of time its counts are of.
    number: u64,
    counts: Counts,
}

impl Window {
    /// Adds a call that ended at `now`.
    pub(super) fn add(&mut self, window: Duration, now: Duration, fault: bool, slow: bool) {
        let number = self.turn_to(window, now);
        let current = &mut self.slots[place(number)];
        if current.number != number {
            *current = Slot { number, counts: Counts::default() };
        }
        let counts = &mut current.counts;
        counts.calls = counts.calls.saturating_add(1);
        counts.faults = counts.faults.saturating_add(u32::from(fault));
        counts.slow = counts.slow.saturating_add(u32::from(slow));
    }

    /// The calls of the window that ends at `now`.
    pub(super) fn counts(&mut self, window: Duration, now: Duration) -> Counts {
        let number = self.turn_to(window, now);
        let mut sum = Counts::default();
        for slot in self.slots.iter().filter(|slot| slot.number + SLOTS as u64 > number) {
            sum.calls = sum.calls.saturating_add(slot.counts.calls);
            sum.faults = sum.faults.saturating_add(slot.counts.faults);
            sum.slow = sum.slow.saturating_add(slot.counts.slow);
        }
        sum
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The number of the slot that `now` is in.
    fn turn_to(&mut self, window: Duration, now: Duration) -> u64 {
        let slot_ms = (millis(window) / SLOTS as u64).max(1);
        if slot_ms != self.slot_ms {
            self.clear();
            self.slot_ms = slot_ms;
        }
        millis(now) / slot_ms
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number % SLOTS as u64).expect("a remainder of ten is small")
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_call_is_forgotten_with_its_slot() {
        let mut window = Window::default();
        window.add(WINDOW, at(50), true, false);
        window.add(WINDOW, at(950), false, true);
        assert_eq!(window.counts(WINDOW, at(999)), Counts { calls: 2, faults: 1, slow: 1 });
        assert_eq!(window.counts(WINDOW, at(1000)), Counts { calls: 1, faults: 0, slow: 1 });
        assert_eq!(window.counts(WINDOW, at(60_000)), Counts::default());
    }

    #[test]
    fn another_width_begins_anew() {
        let mut window = Window::default();
        window.add(WINDOW, at(50), true, false);
        assert_eq!(window.counts(WINDOW * 2, at(60)), Counts::default());
    }
}
