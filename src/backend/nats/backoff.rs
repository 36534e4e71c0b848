//! The waits between attempts to connect: exponential with full jitter.
//!
//! Each wait is drawn evenly from zero to a bound that doubles. When a server comes back, a thousand gateways
//! that lost it at the same instant arrive spread over the whole bound; with a wait that is only partly
//! random they would arrive in waves.

use std::time::Duration;

/// The bound of the first wait.
const BASE: Duration = Duration::from_millis(100);

/// The waits of one run of attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    attempts: u32,
    delay_max: Duration,
}

impl Backoff {
    /// Waits of at most `delay_max`.
    pub(super) fn new(delay_max: Duration) -> Self {
        Self { attempts: 0, delay_max }
    }

    /// The wait before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let bound = self.bound();
        self.attempts = self.attempts.saturating_add(1);
        bound.mul_f64(fastrand::f64())
    }

    /// Begins anew after a connection that lived for `lived`, if that was longer than the longest wait: a server
    /// that takes connections only to drop them is not back.
    pub(super) fn settle(&mut self, lived: Duration) {
        if lived > self.delay_max {
            self.attempts = 0;
        }
    }

    /// What the next wait will not exceed.
    pub(super) fn bound(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        BASE.saturating_mul(factor).min(self.delay_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        let bounds: Vec<_> = (0..6)
            .map(|_| {
                let bound = backoff.bound();
                assert!(backoff.next() <= bound);
                bound.as_millis()
            })
            .collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn only_a_connection_that_lasted_begins_anew() {
        let mut backoff = Backoff { attempts: 7, delay_max: Duration::from_secs(1) };
        backoff.settle(Duration::from_millis(900));
        assert_eq!(backoff.bound(), Duration::from_secs(1));
        backoff.settle(Duration::from_millis(1100));
        assert_eq!(backoff.bound(), BASE);
    }

    #[test]
    fn no_number_of_attempts_overflows() {
        let mut backoff = Backoff { attempts: u32::MAX - 1, delay_max: Duration::from_secs(5) };
        for _ in 0..4 {
            assert!(backoff.next() <= Duration::from_secs(5));
        }
        assert_eq!(Backoff { attempts: 40, ..backoff }.bound(), Duration::from_secs(5));
    }

    #[test]
    fn waits_fill_the_whole_bound() {
        let waits: Vec<_> = (0..2000)
            .map(|_| Backoff { attempts: 10, delay_max: Duration::from_secs(1) }.next().as_millis())
            .collect();
        for tenth in 0..10 {
            let within = waits.iter().filter(|wait| (tenth * 100..(tenth + 1) * 100).contains(*wait)).count();
            // 200 are expected; 100 is more than seven standard deviations away.
            assert!(within > 100, "{tenth}: {within}");
        }
    }
}
