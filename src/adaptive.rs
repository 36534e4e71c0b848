//! An adaptive limit: as many calls at once as the backend answers without their waiting for each other.
//!
//! It is the gradient algorithm of Netflix's concurrency-limits (`Gradient2Limit`): the latency of the last moment is
//! held against that of the long run. While the two agree the limit grows by a little; when the short one is longer by
//! more than a tolerance, calls queue somewhere, and the limit shrinks in proportion. A gradient and not a fixed
//! latency, because a gateway does not know what is slow for the services behind it.
//!
//! The numbers below are those of that implementation. What is measured is the mean over a window of time and not each
//! call, so that one slow request is not taken for an overload.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Calls that a window must have to be judged: fewer say nothing about queues.
const CALLS_MIN: u32 = 10;
/// How much it grows while all is well: calls that may queue.
const QUEUE: f64 = 4.0;
/// The part of the way to the new limit that one window goes.
const SMOOTHING: f64 = 0.2;
/// The steepest fall of one window, before smoothing.
const GRADIENT_MIN: f64 = 0.5;
/// Windows that the long run looks back on.
const LONG_WINDOWS: f64 = 600.0;
/// Windows at the beginning whose plain mean is the long run, so that the first one alone does not rule.
const WARM_UP: u32 = 10;
/// When the long run is more than twice the short one, a bad time is over; it is forgotten faster then.
const RECOVERY: f64 = 0.95;

/// Between which bounds a limit adapts, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveSettings {
    /// The least it falls to, at least 1.
    pub calls_min: usize,
    /// The most it grows to, at least `calls_min`.
    pub calls_max: usize,
    /// What it begins with.
    pub calls_start: usize,
    /// How much longer than in the long run calls may take, in percent of it, at least 100.
    pub tolerance_percent: u32,
    /// How long latencies are gathered before they are judged.
    pub window: Duration,
}

impl AdaptiveSettings {
    fn clamp(&self, limit: usize) -> usize {
        limit.clamp(self.calls_min, self.calls_max.max(self.calls_min))
    }
}

/// The limit of one route.
#[derive(Debug, Default)]
pub struct AdaptiveLimit {
    /// 0 until something was measured.
    current: AtomicUsize,
    gradient: Mutex<Gradient>,
}

impl AdaptiveLimit {
    /// The limit now, within the bounds of these settings.
    pub fn current(&self, settings: &AdaptiveSettings) -> usize {
        match self.current.load(Ordering::Relaxed) {
            0 => settings.clamp(settings.calls_start),
            limit => settings.clamp(limit),
        }
    }

    /// A call ended at `now` after `latency`, with `in_flight` of them under way, itself included. Returns the limit
    /// if it was judged anew.
    pub fn observe(
        &self,
        settings: &AdaptiveSettings,
        now: Instant,
        latency: Duration,
        in_flight: usize,
    ) -> Option<usize> {
        // Who finds it locked leaves its latency out: one of many is not worth a wait.
        let mut gradient = self.gradient.try_lock().ok()?;
        let mean = gradient.add(settings.window, now, latency, in_flight)?;
        let limit = gradient.judge(settings, self.current(settings), mean);
        self.current.store(limit, Ordering::Relaxed);
        Some(limit)
    }
}

/// What was measured.
#[derive(Debug, Default)]
struct Gradient {
    began: Option<Instant>,
    sum: Duration,
    calls: u32,
    in_flight: usize,
    /// The limit with its fraction, so that small steps add up.
    exact: f64,
    /// Latency in the long run, in seconds.
    long: f64,
    windows: u32,
}

impl Gradient {
    /// Gathers; at the end of a window its mean latency in seconds, and a new window begins.
    fn add(&mut self, window: Duration, now: Instant, latency: Duration, in_flight: usize) -> Option<f64> {
        let began = *self.began.get_or_insert(now);
        self.sum += latency;
        self.calls += 1;
        self.in_flight = self.in_flight.max(in_flight);
        if now.saturating_duration_since(began) < window || self.calls < CALLS_MIN {
            return None;
        }
        let mean = self.sum.as_secs_f64() / f64::from(self.calls);
        (self.began, self.sum, self.calls) = (Some(now), Duration::ZERO, 0);
        // Below a nanosecond nothing was measured, and a quotient would mean nothing.
        Some(mean.max(1e-9))
    }

    fn judge(&mut self, settings: &AdaptiveSettings, current: usize, short: f64) -> usize {
        let in_flight = std::mem::take(&mut self.in_flight);
        self.windows = self.windows.saturating_add(1);
        let weight =
            if self.windows <= WARM_UP { 1.0 / f64::from(self.windows) } else { 2.0 / (LONG_WINDOWS + 1.0) };
        self.long += (short - self.long) * weight;
        if self.long / short > 2.0 {
            self.long *= RECOVERY;
        }
        // Half of the limit was not even used: how it went says nothing about the other half.
        if in_flight < current / 2 {
            return current;
        }
        let tolerance = f64::from(settings.tolerance_percent) / 100.0;
        let gradient = (tolerance * self.long / short).clamp(GRADIENT_MIN, 1.0);
        // After a change of the bounds, or at first, the fraction is of another limit.
        let exact = if whole(self.exact) == current { self.exact } else { float(current) };
        let next = exact * (1.0 - SMOOTHING) + (exact * gradient + QUEUE) * SMOOTHING;
        self.exact = next.clamp(float(settings.clamp(0)), float(settings.clamp(usize::MAX)));
        whole(self.exact)
    }
}

#[expect(clippy::cast_precision_loss, reason = "limits are below a million")]
fn float(limit: usize) -> f64 {
    limit as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limits are between 0 and a million"
)]
fn whole(limit: f64) -> usize {
    limit as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: AdaptiveSettings = AdaptiveSettings {
        calls_min: 5,
        calls_max: 100,
        calls_start: 50,
        tolerance_percent: 150,
        window: Duration::from_millis(100),
    };

    /// A limit under calls of a given latency, a window at a time.
    struct Bench {
        limit: AdaptiveLimit,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { limit: AdaptiveLimit::default(), now: Instant::now() }
        }

        /// Windows in which all calls take so long and the limit is used to a share.
        fn windows(&mut self, windows: usize, latency_ms: u64, used_percent: usize) -> usize {
            for _ in 0..windows {
                for _ in 0..20 {
                    self.now += Duration::from_millis(10);
                    let in_flight = self.limit.current(&SETTINGS) * used_percent / 100;
                    let latency = Duration::from_millis(latency_ms);
                    self.limit.observe(&SETTINGS, self.now, latency, in_flight);
                }
            }
            self.limit.current(&SETTINGS)
        }
    }

    #[test]
    fn it_grows_under_an_even_latency_falls_when_that_grows_and_recovers() {
        let mut bench = Bench::new();
        assert_eq!(bench.limit.current(&SETTINGS), 50);
        let grown = bench.windows(50, 10, 100);
        assert!(grown > 80, "{grown}");
        let fallen = bench.windows(15, 100, 100);
        assert!(fallen < 30, "{fallen}");
        let recovered = bench.windows(100, 10, 100);
        assert!(recovered > 80, "{recovered}");
    }

    #[test]
    fn what_is_within_the_tolerance_is_no_reason_to_fall() {
        let mut bench = Bench::new();
        let before = bench.windows(20, 10, 100);
        assert!(bench.windows(10, 14, 100) >= before);
    }

    #[test]
    fn it_stops_at_its_bounds_and_other_bounds_hold_at_once() {
        let mut bench = Bench::new();
        assert_eq!(bench.windows(200, 10, 100), SETTINGS.calls_max);
        let bounds = |calls_min, calls_max| AdaptiveSettings { calls_min, calls_max, ..SETTINGS };
        assert_eq!(bench.limit.current(&bounds(5, 60)), 60);
        assert_eq!(bench.limit.current(&bounds(120, 200)), 120);
    }

    #[test]
    fn a_limit_that_is_not_used_does_not_move() {
        let mut bench = Bench::new();
        assert_eq!(bench.windows(50, 10, 40), 50);
        assert_eq!(bench.windows(50, 1000, 40), 50);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds_and_falls_by_a_tenth_of_it_at_most(
            latencies in prop::collection::vec(0_u64..5000, 1..300),
        ) {
            let mut bench = Bench::new();
            let mut before = bench.limit.current(&SETTINGS);
            for latency in latencies {
                let limit = bench.windows(1, latency, 100);
                prop_assert!((SETTINGS.calls_min..=SETTINGS.calls_max).contains(&limit));
                // A window of `windows` can be two of the limit's own.
                prop_assert!(float(limit) >= float(before) * 0.9 * 0.9 - 2.0, "{before} to {limit}");
                before = limit;
            }
        }
    }
}
