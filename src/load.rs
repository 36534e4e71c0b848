//! The load of the whole gateway: what memory it holds, and whether it comes out of a trouble.
//!
//! A value of its own, because doors charge it, the hub looks at it and rules refuse by it, and because it outlives every
//! reload.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contract::{ByteBudget, Marks};

use crate::ramp::Ramp;

/// What the process needs for itself, whatever clients do: its code, threads, tables, and a connection's worth of
/// everything. 4 MiB of memory of its own and 12 MiB of code were measured at rest; the rest is for what the allocator
/// keeps after trouble.
const OWN_BYTES: usize = 24 << 20;
/// Of the rest one part in so many is charged. The other is for what a charged byte costs beside itself: the allocator
/// rounds, has two of a buffer while it grows, and keeps between what is in use what was freed. How much that is depends on
/// what was held before: `tests/e2e/memory.rs` attacks in one way after the other.
const CHARGED_PART: usize = 2;
/// The least that a process can be given.
pub const PROCESS_BYTES_MIN: u64 = 26 << 20;
/// What a peer whose rate is remembered costs: a place in a table that is half full at the least.
const PEER_BYTES: usize = 48;

/// How many bytes may be charged by a process that may have `process_bytes_max` bytes of resident memory, and keeps up to
/// `kept_bytes_max` bytes of answers for who asks again, and `peers_max` peers. 0 if that is too little.
pub fn chargeable(process_bytes_max: usize, kept_bytes_max: usize, peers_max: usize) -> usize {
    let kept = kept_bytes_max.saturating_add(peers_max.saturating_mul(PEER_BYTES));
    process_bytes_max.saturating_sub(OWN_BYTES).saturating_sub(kept) / CHARGED_PART
}

/// The bounds of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadSettings {
    /// Bytes of resident memory that the process may have. Fixed with the first of all rules.
    pub process_bytes_max: usize,
    /// Bytes that may be charged at once: what of those is [`chargeable`].
    pub memory_bytes_max: usize,
    /// What is done how near to it.
    pub marks: Marks,
    /// How long a peer may take nothing while new work is refused.
    pub unread_max: Duration,
    /// How long what is admitted at once takes to grow to its limit after a trouble; zero: it does not take any time.
    pub slow_start: Duration,
}

/// Nothing is refused before everything is spent, and there is no slow start.
impl Default for LoadSettings {
    fn default() -> Self {
        let marks = Marks { short: 50, low: 70, high: 85 };
        Self {
            process_bytes_max: usize::MAX,
            memory_bytes_max: usize::MAX,
            marks,
            unread_max: Duration::MAX,
            slow_start: Duration::ZERO,
        }
    }
}

/// The load, kept across reloads.
#[derive(Debug)]
pub struct Load {
    /// What memory is held.
    pub memory: ByteBudget,
    /// Bytes of resident memory that the process may have, of which what is charged is a part.
    pub process_bytes_max: usize,
    /// The slow start after a trouble.
    pub ramp: Ramp,
    refused_total: AtomicU64,
}

impl Load {
    /// No load yet.
    pub fn new(settings: &LoadSettings) -> Self {
        let memory = ByteBudget::new(settings.memory_bytes_max);
        let process_bytes_max = settings.process_bytes_max;
        Self { memory, process_bytes_max, ramp: Ramp::default(), refused_total: AtomicU64::new(0) }
    }

    /// Counts a request that was refused because memory was short.
    pub fn note_refused(&self) {
        self.refused_total.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests refused because memory was short.
    pub fn refused_total(&self) -> u64 {
        self.refused_total.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_charged_leaves_room_for_the_process_and_for_what_a_byte_costs_beside_itself() {
        assert_eq!(chargeable(64 << 20, 0, 0), 20 << 20);
        assert_eq!(chargeable(64 << 20, 16 << 20, 0), 12 << 20);
        assert_eq!(chargeable(64 << 20, 0, 1 << 20), 0);
        assert_eq!((chargeable(0, 0, 0), chargeable(1 << 30, usize::MAX, usize::MAX)), (0, 0));
        assert!(chargeable(usize::MAX, 0, 0) < usize::MAX);
    }
}
