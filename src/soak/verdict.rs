//! The verdict: what has to hold, line by line, and whether it does.

use serde_json::{Value, json};

use super::breach::Breach;
use super::faults::Fault;
use super::ledger::Ledger;
use super::readings::Reading;
use super::slope::Slope;
use crate::client::Via;

/// Growth of the memory over the judged time that is noise, at least: in bytes, and as a share of the mean.
const NOISE_BYTES: f64 = 1024.0 * 1024.0;
const NOISE_SHARE: f64 = 0.03;
/// In a time as short as this, in seconds, an allocator still grows to what the load needs, and more is noise.
const SHORT: f64 = 120.0;
const SHORT_NOISE_SHARE: f64 = 0.2;

/// A fault that was inflicted.
#[derive(Clone, Debug)]
pub(super) struct Inflicted {
    pub(super) fault: &'static Fault,
    /// When it began, in seconds from the start.
    pub(super) at_s: f64,
    /// How it showed, or why it did not.
    pub(super) showed: Result<String, String>,
    /// How long after it every door answered again, in seconds; `None` if one did not.
    pub(super) recovered_s: Option<f64>,
}

/// A line of the verdict.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) name: &'static str,
    pub(super) holds: bool,
    pub(super) text: String,
}

impl Judged {
    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        json!({"name": self.name, "holds": self.holds, "text": self.text})
    }
}

/// Each request was answered once and truly, and by every door, unless the run was interrupted before that.
pub(super) fn answers(ledger: &Ledger, doors: &[Via], is_interrupted: bool) -> Judged {
    let total = ledger.total();
    let silent: Vec<_> = doors
        .iter()
        .map(|door| door.name())
        .filter(|name| !is_interrupted && !ledger.latencies().rows().any(|row| row.0 == *name))
        .collect();
    let is_whole = total.asked == total.answered + total.failed + total.left;
    let text = if !ledger.breaches().is_empty() {
        let breaches: Vec<_> =
            ledger.breaches().iter().map(|(breach, count)| format!("{count} {}", breach.name())).collect();
        breaches.join(", ")
    } else if !silent.is_empty() {
        format!("no answer at all by {}", silent.join(", "))
    } else {
        format!(
            "{} requests: {} answered, {} told an error, {} left by their clients; each once, and what the \
             responder saw ({} times) agrees",
            total.asked,
            total.answered,
            total.failed,
            total.left,
            ledger.sightings(),
        )
    };
    Judged { name: "answers", holds: ledger.breaches().is_empty() && silent.is_empty() && is_whole, text }
}

/// Every fault showed, and was recovered from.
pub(super) fn faults(inflicted: &[Inflicted], wanted: usize, is_interrupted: bool) -> Judged {
    let bad: Vec<_> = inflicted
        .iter()
        .filter_map(|Inflicted { fault, at_s, showed, recovered_s }| match (showed, recovered_s) {
            (Err(why), _) => Some(format!("{} at {at_s:.0} s: {why}", fault.name)),
            (_, None) => Some(format!("{} at {at_s:.0} s: {}", fault.name, Breach::NotRecovered.name())),
            _ => None,
        })
        .collect();
    let longest = inflicted.iter().filter_map(|one| one.recovered_s).fold(0.0, f64::max);
    let text = if !bad.is_empty() {
        bad.join("; ")
    } else if wanted == 0 {
        "none were asked for".to_owned()
    } else if inflicted.is_empty() {
        "none came before the end".to_owned()
    } else {
        format!(
            "{} inflicted, each showed, and every door answered again after {longest:.2} s at most",
            inflicted.len()
        )
    };
    Judged {
        name: "faults",
        holds: bad.is_empty() && (wanted == 0 || is_interrupted || !inflicted.is_empty()),
        text,
    }
}

/// The memory does not grow. A run that was interrupted may have been too short for a verdict.
pub(super) fn memory(slope: Option<&Slope>, is_interrupted: bool) -> Judged {
    const MEBIBYTE: f64 = 1024.0 * 1024.0;
    let name = "memory";
    let Some(slope) = slope else {
        return Judged { name, holds: is_interrupted, text: "too few samples to judge it".to_owned() };
    };
    let share = if slope.seconds < SHORT { SHORT_NOISE_SHARE } else { NOISE_SHARE };
    let noise = NOISE_BYTES.max(slope.mean * share);
    let text = format!(
        "{:.1} MiB resident, {:+.2} ± {:.2} MiB/h (95 %), {:+.2} MiB over the {:.0} s after warm-up; growth is \
         a slope above 0 for sure that comes to more than {:.2} MiB in that time",
        slope.mean / MEBIBYTE,
        slope.per_second * 3600.0 / MEBIBYTE,
        slope.margin * 3600.0 / MEBIBYTE,
        slope.growth() / MEBIBYTE,
        slope.seconds,
        noise / MEBIBYTE,
    );
    Judged { name, holds: !slope.grows(noise), text }
}

/// What was held is given back.
pub(super) fn given_back(before: &Reading, after: Option<&Reading>) -> Judged {
    let name = "given back";
    let Some(after) = after else {
        return Judged { name, holds: false, text: "the gateway could not be read at the end".to_owned() };
    };
    let above = after.above(before);
    let text = if above.is_empty() {
        format!(
            "{} descriptors, {} threads, and no call, stream, slot or byte more than before the load",
            after.descriptors, after.threads
        )
    } else {
        let held: Vec<_> =
            above.iter().map(|(name, before, now)| format!("{name} is {now} and was {before}")).collect();
        held.join(", ")
    };
    Judged { name, holds: above.is_empty(), text }
}

/// Everything that was started still ran at the end.
pub(super) fn processes(check: &Result<(), String>) -> Judged {
    let text = check.clone().err().unwrap_or_else(|| "the gateway ran from start to end".to_owned());
    Judged { name: "processes", holds: check.is_ok(), text }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::soak::FAULTS;
    use crate::soak::ledger::Terms;

    fn inflicted(showed: Result<String, String>, recovered_s: Option<f64>) -> Inflicted {
        Inflicted { fault: FAULTS[0], at_s: 60.0, showed, recovered_s }
    }

    #[test]
    fn a_fault_that_did_nothing_or_was_not_recovered_from_fails() {
        let good = inflicted(Ok("2 reconnects".to_owned()), Some(0.5));
        assert!(faults(std::slice::from_ref(&good), 1, false).holds);
        assert!(faults(&[], 0, false).holds);
        assert!(!faults(&[], 1, false).holds, "it was to be inflicted");
        assert!(faults(&[], 1, true).holds, "it was ended before");
        for bad in
            [inflicted(Err("no request failed".to_owned()), Some(0.5)), inflicted(Ok(String::new()), None)]
        {
            let judged = faults(&[good.clone(), bad], 1, true);
            assert!(!judged.holds && judged.text.contains(FAULTS[0].name), "{judged:?}");
        }
    }

    #[test]
    fn memory_that_rises_fails_and_what_cannot_be_judged_does() {
        const MEBIBYTE: f64 = 1024.0 * 1024.0;
        let series = |per_minute: f64| -> Vec<_> {
            (0..720)
                .map(|index| f64::from(index) * 5.0)
                .map(|seconds| (seconds, (30.0 + seconds / 60.0 * per_minute) * MEBIBYTE))
                .collect()
        };
        let judged = |per_minute| memory(Slope::through(&series(per_minute)).as_ref(), false);
        assert!(judged(0.0).holds);
        assert!(judged(0.01).holds, "{:?}", judged(0.01));
        assert!(!judged(0.05).holds, "{:?}", judged(0.05));
        assert!(!memory(None, false).holds);
        assert!(memory(None, true).holds);
    }

    #[test]
    fn a_door_that_never_answered_fails() {
        let second = Duration::from_secs(1);
        let ledger = Ledger::new(Terms { patience: second, horizon: second, entries_max: 1 });
        let judged = answers(&ledger, &[Via::Grpc], false);
        assert!(!judged.holds && judged.text.contains("grpc"), "{judged:?}");
        assert!(answers(&ledger, &[Via::Grpc], true).holds);
    }
}
