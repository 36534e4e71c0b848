//! What a soak found: as JSON with everything, and as tables with the verdict.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::breach::Finding;
use super::latencies::Quantiles;
use super::ledger::Ledger;
use super::plan::Plan;
use super::readings::Reading;
use super::slope::Slope;
use super::verdict::{Inflicted, Judged};
use crate::client::Via;

/// What was found.
#[derive(Debug)]
pub struct Report {
    pub(super) plan: Plan,
    pub(super) machine: Value,
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) doors: Vec<Via>,
    /// How long there was load, in seconds.
    pub(super) seconds: f64,
    pub(super) is_interrupted: bool,
    pub(super) ledger: Ledger,
    pub(super) news: Value,
    pub(super) inflicted: Vec<Inflicted>,
    pub(super) before: Reading,
    pub(super) readings: Vec<Reading>,
    pub(super) after: Option<Reading>,
    pub(super) slope: Option<Slope>,
    pub(super) verdict: Vec<Judged>,
}

impl Report {
    /// Adds a fact about the machine or its programs.
    pub fn add_fact(&mut self, name: &str, value: Value) {
        self.machine[name] = value;
    }

    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.verdict.iter().all(|judged| judged.holds)
    }

    /// Whether it was ended before its time.
    pub fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }

    /// Everything, for programs and for keeping.
    pub fn to_json(&self) -> Value {
        let total = self.ledger.total();
        let errors: Vec<_> = self
            .ledger
            .errors()
            .iter()
            .map(|((kind, outcome), count)| json!({"kind": kind, "outcome": outcome, "count": count}))
            .collect();
        let weather: serde_json::Map<_, _> = self
            .ledger
            .tallies()
            .iter()
            .map(|(name, tally)| {
                let counts = json!({"asked": tally.asked, "answered": tally.answered, "failed": tally.failed,
                                    "left": tally.left});
                ((*name).to_owned(), counts)
            })
            .collect();
        let faults: Vec<_> = self
            .inflicted
            .iter()
            .map(|one| {
                json!({"fault": one.fault.name, "at_s": one.at_s, "recovered_s": one.recovered_s,
                       "showed": one.showed.as_ref().ok(), "problem": one.showed.as_ref().err()})
            })
            .collect();
        let breaches: serde_json::Map<_, _> = self
            .ledger
            .breaches()
            .iter()
            .map(|(breach, count)| (breach.name().to_owned(), json!(count)))
            .collect();
        json!({
            "holds": self.holds(),
            "interrupted": self.is_interrupted,
            "verdict": self.verdict.iter().map(Judged::to_json).collect::<Vec<_>>(),
            "machine": self.machine,
            "plan": {
                "duration_s": self.plan.duration.as_secs_f64(),
                "requests_per_second": self.rate,
                "connections": self.plan.connections,
                "faults": self.plan.faults.iter().map(|fault| fault.name).collect::<Vec<_>>(),
                "fault_every_s": self.plan.fault_every.as_secs_f64(),
                "fault_holds_s": self.plan.hold().as_secs_f64(),
                "deadline_s": self.plan.deadline().as_secs_f64(),
                "seed": self.plan.seed,
            },
            "seconds": self.seconds,
            "requests": {
                "asked": total.asked,
                "answered": total.answered,
                "failed": total.failed,
                "left": total.left,
                "held_back": self.ledger.held_back(),
                "sightings": self.ledger.sightings(),
            },
            "errors": errors,
            "weather": weather,
            "doors": self.ledger.latencies().to_json(),
            "news": self.news,
            "faults": faults,
            "breaches": breaches,
            "findings": self.ledger.findings().iter().map(Finding::to_json).collect::<Vec<_>>(),
            "memory": self.slope.map(Slope::to_json),
            "before": self.before.to_json(),
            "after": self.after.as_ref().map(Reading::to_json),
            "readings": self.readings.iter().map(Reading::to_json).collect::<Vec<_>>(),
        })
    }

    /// Tables and the verdict, for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes everything");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let plan = &self.plan;
        let doors = self.doors.len();
        writeln!(
            text,
            "Soak of {:.0} s{}: {:.0} requests/s by {doors} doors, {} connections, seed {}\n",
            self.seconds,
            if self.is_interrupted { " (interrupted)" } else { "" },
            self.rate,
            plan.connections,
            plan.seed,
        )?;
        writeln!(text, "| door      | answers | quiet p50 ms |   p99 ms | fault p50 ms |   p99 ms |")?;
        writeln!(text, "|-----------|--------:|-------------:|---------:|-------------:|---------:|")?;
        for (door, answers, quiet, fault) in self.ledger.latencies().rows() {
            let [quiet, fault] = [quiet, fault].map(cells);
            writeln!(
                text,
                "| {door:<9} | {answers:>7} | {:>12} | {:>8} | {:>12} | {:>8} |",
                quiet.0, quiet.1, fault.0, fault.1
            )?;
        }
        writeln!(text, "\n| asked while      |    asked | answered |   errors |     left |")?;
        writeln!(text, "|------------------|---------:|---------:|---------:|---------:|")?;
        for (weather, tally) in self.ledger.tallies() {
            writeln!(
                text,
                "| {weather:<16} | {:>8} | {:>8} | {:>8} | {:>8} |",
                tally.asked, tally.answered, tally.failed, tally.left
            )?;
        }
        let errors: Vec<_> = self
            .ledger
            .errors()
            .iter()
            .map(|((kind, outcome), count)| format!("{count} {kind} ({outcome})"))
            .collect();
        if !errors.is_empty() {
            writeln!(text, "\nErrors told: {}", errors.join(", "))?;
        }
        if self.ledger.held_back() > 0 {
            writeln!(text, "Not asked, for too many were in flight: {}", self.ledger.held_back())?;
        }
        if !self.inflicted.is_empty() {
            writeln!(text, "\n| fault            |  at s | recovered s | showed |")?;
            writeln!(text, "|------------------|------:|------------:|--------|")?;
        }
        for one in &self.inflicted {
            let recovered = one.recovered_s.map_or("never".to_owned(), |seconds| format!("{seconds:.2}"));
            let showed = one.showed.as_ref().unwrap_or_else(|why| why);
            writeln!(text, "| {:<16} | {:>5.0} | {recovered:>11} | {showed} |", one.fault.name, one.at_s)?;
        }
        writeln!(text)?;
        for finding in self.ledger.findings() {
            writeln!(text, "breach: {finding}")?;
        }
        for judged in &self.verdict {
            let word = if judged.holds { "ok  " } else { "FAIL" };
            writeln!(text, "{word}  {:<10}  {}", judged.name, judged.text)?;
        }
        Ok(())
    }
}

fn cells(quantiles: Option<Quantiles>) -> (String, String) {
    let cell = |value: f64| format!("{value:.2}");
    quantiles.map_or_else(Default::default, |quantiles| (cell(quantiles.p50), cell(quantiles.p99)))
}
