//! The slow start after a trouble: what is admitted at once grows to its limit over a while.
//!
//! When a backend comes back, or memory is there again, everybody who was refused asks at the same moment, and the first
//! second of health would be the next outage. So from the end of a trouble on a limit holds in part only, and the part
//! grows with the time. While the trouble lasts the least of it holds, so that nobody slips in between its end and the
//! moment in which that is noticed.
//!
//! A state with the time passed in, and without a lock: two threads that see the same end begin the same ramp.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What of a limit holds at the beginning: 1 of so many. Enough to see whether it goes well, in tenths of a limit that
/// was chosen for a healthy backend.
const FIRST_PART: u128 = 10;

/// What can be in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Memory: new work is refused.
    Memory,
    /// The backend: it cannot be reached.
    Backend,
}

/// Whether there is trouble, and when there was.
#[derive(Debug)]
pub struct Ramp {
    /// What the clock counts from.
    epoch: Instant,
    troubled: [AtomicBool; 2],
    /// When the last trouble ended, in microseconds since the epoch, plus 1; 0 when no ramp is under way.
    began: AtomicU64,
    begun_total: AtomicU64,
    refused_total: AtomicU64,
}

impl Default for Ramp {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            troubled: [const { AtomicBool::new(false) }; 2],
            began: AtomicU64::new(0),
            begun_total: AtomicU64::new(0),
            refused_total: AtomicU64::new(0),
        }
    }
}

impl Ramp {
    /// Notes whether there is trouble of this kind at `now`. Its end begins a ramp.
    pub fn observe(&self, trouble: Trouble, is_troubled: bool, now: Instant) {
        let known = &self.troubled[trouble as usize];
        // Relaxed, like all here: each is a fact by itself, and nobody reads other memory by it.
        if known.load(Ordering::Relaxed) == is_troubled {
            return;
        }
        if is_troubled {
            known.store(true, Ordering::Relaxed);
            return;
        }
        // Before the flag falls, so that nobody sees neither.
        self.began.store(self.microseconds(now), Ordering::Relaxed);
        if known.swap(false, Ordering::Relaxed) {
            self.begun_total.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What of `limit` holds at `now`, if a ramp takes `length`: at least 1 unless it is 0, and all of it when there
    /// is no ramp. A `length` of zero is no ramp.
    pub fn part_of(&self, limit: usize, now: Instant, length: Duration) -> usize {
        if self.is_level() || length.is_zero() {
            return limit;
        }
        let (began, is_troubled) = (self.began.load(Ordering::Relaxed), self.is_troubled());
        let length = length.as_micros();
        let gone = if is_troubled { 0 } else { u128::from(self.microseconds(now).saturating_sub(began)) };
        if gone >= length {
            // Unless another began in this moment.
            let _ = self.began.compare_exchange(began, 0, Ordering::Relaxed, Ordering::Relaxed);
            return limit;
        }
        let whole = limit as u128;
        let part = whole / FIRST_PART + (whole - whole / FIRST_PART) * gone / length;
        usize::try_from(part).map_or(limit, |part| part.max(1).min(limit))
    }

    /// Whether every limit holds whole. Cheap, and asked first.
    pub fn is_level(&self) -> bool {
        self.began.load(Ordering::Relaxed) == 0 && !self.is_troubled()
    }

    /// Whether there is trouble now.
    pub fn is_troubled(&self) -> bool {
        self.troubled.iter().any(|known| known.load(Ordering::Relaxed))
    }

    /// Counts a request that was refused because of the ramp.
    pub fn note_refused(&self) {
        self.refused_total.fetch_add(1, Ordering::Relaxed);
    }

    /// Ramps that began.
    pub fn begun_total(&self) -> u64 {
        self.begun_total.load(Ordering::Relaxed)
    }

    /// Requests refused because of a ramp.
    pub fn refused_total(&self) -> u64 {
        self.refused_total.load(Ordering::Relaxed)
    }

    fn microseconds(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch).as_micros();
        // 2^64 microseconds are 584,000 years.
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(9);

    #[test]
    fn a_limit_holds_in_part_during_a_trouble_and_grows_evenly_after_it() {
        let ramp = Ramp::default();
        let now = Instant::now();
        let at = |seconds| ramp.part_of(100, now + Duration::from_secs(seconds), LENGTH);
        assert_eq!(at(0), 100);
        ramp.observe(Trouble::Backend, false, now);
        assert_eq!((at(0), ramp.begun_total()), (100, 0), "nothing has ended");
        ramp.observe(Trouble::Backend, true, now);
        assert_eq!((at(0), at(100)), (10, 10));
        ramp.observe(Trouble::Backend, false, now);
        assert_eq!((at(0), at(3), at(6), at(8)), (10, 40, 70, 90));
        assert_eq!((at(9), at(0), ramp.begun_total()), (100, 100, 1), "it is over for good");
    }

    #[test]
    fn it_begins_when_the_last_trouble_ends() {
        let ramp = Ramp::default();
        let now = Instant::now();
        ramp.observe(Trouble::Memory, true, now);
        ramp.observe(Trouble::Backend, true, now);
        ramp.observe(Trouble::Memory, false, now);
        let later = now + LENGTH;
        assert_eq!(ramp.part_of(100, later, LENGTH), 10);
        ramp.observe(Trouble::Backend, false, later);
        assert_eq!(ramp.part_of(100, later + LENGTH / 9, LENGTH), 20);
    }

    #[test]
    fn small_and_boundless_limits_and_none_at_all() {
        let ramp = Ramp::default();
        let now = Instant::now();
        ramp.observe(Trouble::Memory, true, now);
        assert_eq!(ramp.part_of(0, now, LENGTH), 0);
        assert_eq!(ramp.part_of(1, now, LENGTH), 1);
        assert_eq!(ramp.part_of(usize::MAX, now, LENGTH), usize::MAX / 10);
        assert_eq!(ramp.part_of(100, now, Duration::ZERO), 100, "it is off");
    }
}
