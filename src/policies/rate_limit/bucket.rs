//! A rate limit in one atomic number: the generic cell rate algorithm (ITU-T I.371), kept as the theoretical
//! arrival time of the next request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::nanoseconds;
use crate::route::Rate;

/// The state of one limit: the time, in nanoseconds, at which it would be unspent again.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

/// A [`Rate`] in the algorithm's terms.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Nanoseconds a request costs.
    interval: u64,
    /// Nanoseconds that may be spent ahead.
    burst: u64,
}

impl Pace {
    /// The pace of a rate. Rates are held between one in 11 days and one a nanosecond.
    pub fn of(rate: Rate) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1..=10^15")]
        let interval = (1e9 / rate.per_second).clamp(1.0, 1e15) as u64;
        Self { interval, burst: interval.saturating_mul(u64::from(rate.burst.max(1))) }
    }
}

impl Bucket {
    /// Spends one request at `now`, or says how long to wait for the next.
    pub fn spend(&self, pace: Pace, now: Instant) -> Result<(), Duration> {
        let now = nanoseconds(now);
        let next = |unspent: u64| {
            let after = unspent.max(now).saturating_add(pace.interval);
            (after - now <= pace.burst).then_some(after)
        };
        // Relaxed: the number is all there is; it publishes no other memory.
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Ok(()),
            Err(unspent) => {
                let wait = unspent.max(now).saturating_add(pace.interval) - now - pace.burst;
                Err(Duration::from_nanos(wait))
            }
        }
    }

    /// Gives one request back. What has been unspent meanwhile by time passing is not given twice: spending
    /// counts from now at the earliest.
    pub fn refund(&self, pace: Pace) {
        let less = |unspent: u64| Some(unspent.saturating_sub(pace.interval));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Whether nothing is spent at `now`, so that forgetting the bucket changes nothing.
    pub fn is_unspent(&self, now: Instant) -> bool {
        self.0.load(Ordering::Relaxed) <= nanoseconds(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace(per_second: f64, burst: u32) -> Pace {
        Pace::of(Rate { per_second, burst })
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (bucket, pace, start) = (Bucket::default(), pace(10.0, 5), Instant::now());
        let taken = (0..10).filter(|_| bucket.spend(pace, start).is_ok()).count();
        assert_eq!(taken, 5);
        let wait = bucket.spend(pace, start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(bucket.spend(pace, start + wait).is_ok());
        assert!(bucket.spend(pace, start + wait).is_err());
    }

    #[test]
    fn from_many_threads_no_more_than_the_burst() {
        let (bucket, pace, start) = (Bucket::default(), pace(0.001, 100), Instant::now());
        let taken = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mine = (0..1000).filter(|_| bucket.spend(pace, start).is_ok()).count();
                    taken.fetch_add(mine, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(taken.into_inner(), 100);
    }

    proptest! {
        /// Against the plain token bucket it is equivalent to, over any schedule with refunds.
        #[test]
        fn equals_a_token_bucket(
            burst in 1u32..20, steps in prop::collection::vec((0u64..300, any::<bool>()), 1..200),
        ) {
            let (bucket, pace, start) = (Bucket::default(), pace(10.0, burst), Instant::now());
            // In milliseconds of credit: a request costs 100, `burst` of them can be saved.
            let (mut credit, mut clock) = (u64::from(burst) * 100, 0);
            for (wait, refund) in steps {
                clock += wait;
                credit = (credit + wait).min(u64::from(burst) * 100);
                let now = start + Duration::from_millis(clock);
                let taken = bucket.spend(pace, now).is_ok();
                prop_assert_eq!(taken, credit >= 100);
                if taken {
                    credit -= 100;
                    if refund {
                        bucket.refund(pace);
                        credit += 100;
                    }
                }
            }
        }
    }
}
