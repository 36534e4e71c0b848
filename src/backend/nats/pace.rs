//! A pace for log lines: what a flapping server does many times a second is told a few times.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lines written in a [`WINDOW`].
const LINES_MAX: u32 = 20;
/// How long a count of lines holds.
const WINDOW: Duration = Duration::from_secs(10);

/// The lines of late.
#[derive(Default)]
pub(super) struct Pace(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Pace {
    /// Whether a line may be written at `now`, and how many were left out before it.
    pub(super) fn take(&self, now: Instant) -> Option<u64> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            lines.since = Some(now);
            lines.written = 0;
        }
        if lines.written == LINES_MAX {
            lines.left_out += 1;
            return None;
        }
        lines.written += 1;
        Some(std::mem::take(&mut lines.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_a_few_lines_and_tells_how_many_are_missing() {
        let (pace, now) = (Pace::default(), Instant::now());
        let written = (0..1000).filter(|_| pace.take(now).is_some()).count();
        assert_eq!(written, LINES_MAX as usize);
        assert_eq!(pace.take(now + WINDOW), Some(1000 - u64::from(LINES_MAX)));
        assert_eq!(pace.take(now + WINDOW), Some(0));
    }
}
