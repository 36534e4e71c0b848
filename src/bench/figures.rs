//! From what was counted to figures, and from the figures of many runs to their medians.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::load::Counts;
use super::plan::Load;
use super::rows::Row;

/// The quantiles that are told, by name.
const QUANTILES: [(&str, f64); 5] =
    [("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("p99.9_ms", 0.999), ("max_ms", 1.0)];

/// What one run of a row under a load showed.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The row.
    pub row: &'static Row,
    /// The load.
    pub load: Load,
    /// Good answers.
    pub requests: u64,
    /// Failures by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// The figures themselves by name: `requests_per_second`, the quantiles of latency, and where the system
    /// tells it `cpu_us_per_request` of the process that serves.
    pub values: BTreeMap<&'static str, f64>,
}

impl Figures {
    /// From the counts of a row, the CPU time that its process used within the measured time, and the answers
    /// within it.
    pub(super) fn new(
        row: &'static Row,
        load: Load,
        duration: Duration,
        counts: &Counts,
        cpu: Option<Duration>,
        answered: u64,
    ) -> Self {
        let mut values = BTreeMap::new();
        #[expect(clippy::cast_precision_loss, reason = "counts of what a person waits for")]
        let (ok, answered) = (counts.ok as f64, answered as f64);
        values.insert("requests_per_second", ok / duration.as_secs_f64());
        if counts.ok > 0 {
            for (name, quantile) in QUANTILES {
                let nanoseconds = counts.latencies.value_at_quantile(quantile);
                values.insert(name, Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3);
            }
        }
        if let Some(cpu) = cpu.filter(|_| answered > 0.0) {
            values.insert("cpu_us_per_request", cpu.as_secs_f64() * 1e6 / answered);
        }
        Self { row, load, requests: counts.ok, errors: counts.errors.clone(), values }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "row": self.row.name,
            "loop": self.load.name(),
            "requests": self.requests,
            "errors": self.errors,
            "figures": self.values,
        })
    }
}

/// A figure over all runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
}

impl Summary {
    /// Of at least one value; `None` of none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, lowest, highest })
    }

    /// For programs.
    pub fn to_json(self) -> Value {
        json!({"median": self.median, "lowest": self.lowest, "highest": self.highest})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::ROWS;

    #[test]
    fn medians_of_odd_and_even_numbers_of_runs() {
        let of = |values: &[f64]| Summary::of(values.to_vec());
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(Summary { median: 2.0, lowest: 1.0, highest: 3.0 }));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Some(Summary { median: 2.5, lowest: 1.0, highest: 4.0 }));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn cpu_is_shared_out_over_what_was_answered_meanwhile() {
        let mut counts = Counts::new();
        counts.ok = 1000;
        counts.latencies.record_n(2_000_000, 1000).unwrap();
        let (load, cpu) = (Load::Closed { in_flight: 1 }, Some(Duration::from_millis(10)));
        let figures = Figures::new(ROWS[0], load, Duration::from_secs(2), &counts, cpu, 500);
        assert!((figures.values["requests_per_second"] - 500.0).abs() < 1e-6);
        assert!((figures.values["cpu_us_per_request"] - 20.0).abs() < 1e-6);
        assert!((figures.values["p99_ms"] - 2.0).abs() < 0.01);
    }
}
