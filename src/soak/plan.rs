//! What a soak does, how long and how much of it.

use std::time::Duration;

use super::faults::Fault;
use super::ledger::Terms;

/// How long after its deadline an answer may come: a machine that is busy with faults is given this.
const ALLOWANCE: Duration = Duration::from_secs(10);
/// Requests that the ledger keeps at most: some hundred bytes each.
const ENTRIES_MAX: usize = 2_000_000;
/// A fault is at work so long, at most.
const HOLD_MAX: Duration = Duration::from_secs(5);
/// The deadline of requests, at most and at least.
const DEADLINE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// Samples are taken so often, at most and at least.
const SAMPLES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// The memory of the first time is not judged: a quarter of the run, and no more than this.
const WARMUP_MAX: Duration = Duration::from_mins(10);

/// What is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long there is load.
    pub duration: Duration,
    /// Requests a second over all doors; `None` is half of a maximum that is measured first.
    pub rate: Option<f64>,
    /// Connections over all doors, at least one each.
    pub connections: usize,
    /// The faults, which take turns in an order that the seed says.
    pub faults: Vec<&'static Fault>,
    /// The time from the start of one fault to that of the next.
    pub fault_every: Duration,
    /// What everything that is left to chance comes from.
    pub seed: u64,
}

impl Plan {
    /// How long each fault is at work: a third of the time for it.
    pub fn hold(&self) -> Duration {
        (self.fault_every / 3).min(HOLD_MAX)
    }

    /// How long a request may take. Shorter than a fault, so that requests do not just wait until it is over.
    pub fn deadline(&self) -> Duration {
        (self.hold() / 2).clamp(DEADLINE.0, DEADLINE.1)
    }

    /// The deadline of a request whose answer is meant to be late.
    pub(super) fn short_deadline(&self) -> Duration {
        self.deadline() / 4
    }

    /// How long the memory is not judged.
    pub(super) fn warmup(&self) -> Duration {
        (self.duration / 4).min(WARMUP_MAX)
    }

    /// The time between two samples.
    pub(super) fn sample_every(&self) -> Duration {
        (self.duration / 100).clamp(SAMPLES.0, SAMPLES.1)
    }

    pub(super) fn terms(&self) -> Terms {
        let patience = self.deadline() + ALLOWANCE;
        // What lay in a queue during a fault is seen after it, by a responder that may be as far behind.
        let horizon = patience + self.hold() + ALLOWANCE;
        Terms { patience, horizon, entries_max: ENTRIES_MAX }
    }
}
