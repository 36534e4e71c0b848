//! How long answers took, by door, in quiet times and while a fault was at work.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::client::Via;

/// From a microsecond to ten minutes, in nanoseconds, to two digits.
const LATENCY_NS: (u64, u64) = (1_000, 600_000_000_000);

/// The times of one door.
#[derive(Clone, Debug)]
struct Times {
    quiet: Histogram<u64>,
    fault: Histogram<u64>,
}

/// The times of all doors.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies {
    /// By the name of the door.
    times: BTreeMap<&'static str, Times>,
}

/// Two quantiles, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

impl Latencies {
    pub(super) fn record(&mut self, door: Via, is_quiet: bool, took: Duration) {
        let new = || {
            let histogram = Histogram::new_with_bounds(LATENCY_NS.0, LATENCY_NS.1, 2);
            histogram.expect("the bounds are in order and two digits are few")
        };
        let times = self.times.entry(door.name()).or_insert_with(|| Times { quiet: new(), fault: new() });
        let histogram = if is_quiet { &mut times.quiet } else { &mut times.fault };
        histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Door by door: the answers, and how long they took in quiet times and in faults.
    pub(super) fn rows(
        &self,
    ) -> impl Iterator<Item = (&'static str, u64, Option<Quantiles>, Option<Quantiles>)> {
        self.times.iter().map(|(door, times)| {
            let answers = times.quiet.len() + times.fault.len();
            (*door, answers, quantiles(&times.quiet), quantiles(&times.fault))
        })
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let told = |quantiles: Option<Quantiles>| {
            quantiles.map(|Quantiles { p50, p99 }| json!({"p50_ms": p50, "p99_ms": p99}))
        };
        let rows = self.rows().map(|(door, answers, quiet, fault)| {
            (door.to_owned(), json!({"answers": answers, "quiet": told(quiet), "fault": told(fault)}))
        });
        Value::Object(rows.collect())
    }
}

fn quantiles(histogram: &Histogram<u64>) -> Option<Quantiles> {
    let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile)).as_secs_f64() * 1e3;
    (!histogram.is_empty()).then(|| Quantiles { p50: at(0.5), p99: at(0.99) })
}
