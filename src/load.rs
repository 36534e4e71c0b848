//! The load of the whole gateway: what memory it holds, and whether it comes out of a trouble.
//!
//! A value of its own, because doors charge it, the hub looks at it and rules refuse by it, and because it outlives every
//! reload.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contract::{ByteBudget, Marks};

use crate::ramp::Ramp;

/// The bounds of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadSettings {
    /// Bytes that may be held at once. Fixed with the first of all rules.
    pub memory_bytes_max: usize,
    /// What is done how near to it.
    pub marks: Marks,
    /// How long what is admitted at once takes to grow to its limit after a trouble; zero: it does not take any time.
    pub slow_start: Duration,
}

/// Nothing is refused before everything is spent, and there is no slow start.
impl Default for LoadSettings {
    fn default() -> Self {
        let marks = Marks { short: 50, low: 70, high: 85 };
        Self { memory_bytes_max: usize::MAX, marks, slow_start: Duration::ZERO }
    }
}

/// The load, kept across reloads.
#[derive(Debug)]
pub struct Load {
    /// What memory is held.
    pub memory: ByteBudget,
    /// The slow start after a trouble.
    pub ramp: Ramp,
    refused_total: AtomicU64,
}

impl Load {
    /// No load yet.
    pub fn new(settings: &LoadSettings) -> Self {
        let memory = ByteBudget::new(settings.memory_bytes_max);
        Self { memory, ramp: Ramp::default(), refused_total: AtomicU64::new(0) }
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
