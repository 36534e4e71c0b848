//! Whether something grows: a line through its samples by least squares, and how sure its slope is.
//!
//! Samples of memory hang together: what is held now is held in five seconds, too. As many independent samples as
//! there seem to be are counted, or noise would be taken for growth.

use serde_json::{Value, json};

/// Fewer samples say nothing.
const SAMPLES_MIN: usize = 8;

/// A line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slope {
    pub(super) samples: usize,
    /// From the first sample to the last.
    pub(super) seconds: f64,
    pub(super) mean: f64,
    /// By how much it grows in a second.
    pub(super) per_second: f64,
    /// Half of the interval around it that has the true slope with 95 % certainty.
    pub(super) margin: f64,
}

impl Slope {
    /// Through points of seconds and values; `None` if they are too few.
    pub(super) fn through(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < SAMPLES_MIN {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a run has fewer than 2^53 samples")]
        let count = points.len() as f64;
        let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
        let (time, value) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - time).powi(2)).sum();
        if spread <= 0.0 {
            return None;
        }
        let per_second =
            points.iter().map(|point| (point.0 - time) * (point.1 - value)).sum::<f64>() / spread;
        let rest: Vec<_> =
            points.iter().map(|point| point.1 - value - per_second * (point.0 - time)).collect();
        let squares: f64 = rest.iter().map(|rest| rest * rest).sum();
        let independent = (count / inflation(&rest, squares)).max(3.0);
        // Residuals of what is independent, two degrees of freedom less for the line.
        let error =
            (squares / count * independent / (independent - 2.0) / (spread * independent / count)).sqrt();
        // The 97.5 % quantile of Student's t, to some percent.
        let quantile = 1.96 + 2.4 / (independent - 2.0) + 8.0 / (independent - 2.0).powi(3);
        let seconds = points[points.len() - 1].0 - points[0].0;
        Some(Self { samples: points.len(), seconds, mean: value, per_second, margin: quantile * error })
    }

    /// How much the line rises over all of its time.
    pub(super) fn growth(&self) -> f64 {
        self.per_second * self.seconds
    }

    /// Whether it grows: for sure, and by more than `noise` over all of its time.
    pub(super) fn grows(&self, noise: f64) -> bool {
        self.per_second - self.margin > 0.0 && self.growth() > noise
    }

    /// For programs.
    pub(super) fn to_json(self) -> Value {
        json!({
            "samples": self.samples,
            "seconds": self.seconds,
            "mean_bytes": self.mean,
            "bytes_per_hour": self.per_second * 3600.0,
            "margin_95_bytes_per_hour": self.margin * 3600.0,
            "growth_bytes": self.growth(),
        })
    }
}

/// How many samples are worth one that is independent, by how much what is left beside the line resembles itself
/// some samples later, weighted as by Newey and West (Econometrica 55, 1987). At least 1.
fn inflation(rest: &[f64], squares: f64) -> f64 {
    if squares <= 0.0 {
        return 1.0;
    }
    let lags = rest.len().isqrt();
    let resembles =
        |lag: usize| rest.iter().zip(&rest[lag..]).map(|(one, later)| one * later).sum::<f64>() / squares;
    #[expect(clippy::cast_precision_loss, reason = "lags are as few as the root of the samples")]
    let weight = |lag: usize| 1.0 - lag as f64 / (lags + 1) as f64;
    (1.0 + 2.0 * (1..=lags).map(|lag| weight(lag) * resembles(lag)).sum::<f64>()).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: f64 = 1024.0 * 1024.0;

    /// A sample every five seconds for an hour: a level, so much more an hour, and noise of both kinds.
    fn series(per_hour: f64, noise: f64, seed: u64) -> Vec<(f64, f64)> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut wandering = 0.0;
        let sample = |index: u32| {
            let seconds = f64::from(index) * 5.0;
            wandering = 0.8 * wandering + noise * (rng.f64() - 0.5);
            (seconds, 30.0 * MEBIBYTE + per_hour * seconds / 3600.0 + wandering + noise * (rng.f64() - 0.5))
        };
        (0..720).map(sample).collect()
    }

    #[test]
    fn what_grows_is_found() {
        let mut within = 0;
        for seed in 0..100 {
            let slope = Slope::through(&series(4.0 * MEBIBYTE, MEBIBYTE, seed)).unwrap();
            assert!(slope.grows(MEBIBYTE), "{slope:?}");
            within += u32::from((slope.per_second - 4.0 * MEBIBYTE / 3600.0).abs() < slope.margin);
        }
        assert!(within >= 85, "the interval had the truth {within} times of 100");
        let steps: Vec<_> =
            (0..100).map(|index| (f64::from(index), f64::from(index / 10) * MEBIBYTE)).collect();
        assert!(Slope::through(&steps).unwrap().grows(MEBIBYTE));
    }

    #[test]
    fn what_is_flat_or_falls_is_not() {
        let mut for_sure = 0;
        for seed in 0..100 {
            let slope = Slope::through(&series(0.0, MEBIBYTE, seed)).unwrap();
            assert!(!slope.grows(MEBIBYTE), "{slope:?}");
            for_sure += u32::from(slope.grows(0.0));
        }
        assert!(for_sure <= 10, "noise was taken for growth {for_sure} times of 100");
        assert!(!Slope::through(&series(-4.0 * MEBIBYTE, MEBIBYTE, 1)).unwrap().grows(0.0));
        let level: Vec<_> = (0..100).map(|index| (f64::from(index), MEBIBYTE)).collect();
        assert!(!Slope::through(&level).unwrap().grows(0.0));
    }

    #[test]
    fn a_little_growth_for_sure_is_within_the_noise() {
        let slope = Slope::through(&series(0.5 * MEBIBYTE, 0.0, 1)).unwrap();
        assert!(slope.grows(0.0) && !slope.grows(MEBIBYTE), "{slope:?}");
    }

    #[test]
    fn few_samples_say_nothing() {
        assert!(Slope::through(&series(1.0, 0.0, 1)[..SAMPLES_MIN - 1]).is_none());
    }
}
