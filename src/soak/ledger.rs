//! The ledger: what each request was told, what the responder saw of it, and whether the two agree.
//!
//! Requests are numbered in the order in which they are asked, so the ledger is a queue: what is older than the
//! horizon is judged for the last time and forgotten, and memory is that of the horizon, however long the run.
//! Time is passed in, from the start of the run, so that histories can be made up in tests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use contract::{Kind, Outcome};

use super::breach::{Breach, Finding};
use super::latencies::Latencies;
use crate::client::Via;

/// Findings that are kept; further ones are counted.
const FINDINGS_MAX: usize = 100;
/// The name, in tables, of the times when no fault is at work.
pub(super) const QUIET: &str = "quiet";

/// What the ledger holds requests to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The longest that a request may be without an answer: the longest deadline and an allowance.
    pub(super) patience: Duration,
    /// How long a request is kept: beyond it, the responder must not see it any more.
    pub(super) horizon: Duration,
    /// Requests that are kept at most.
    pub(super) entries_max: usize,
}

/// A request, before it is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    pub(super) door: Via,
    /// Whether the gateway may do it twice.
    pub(super) idempotent: bool,
    /// Whether the responder is to answer no.
    pub(super) wants_no: bool,
    /// Whether how long it takes says something about the gateway.
    pub(super) timed: bool,
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The responder's answer, with the number in it, if it is whole.
    Reply(Option<u64>),
    /// A no.
    Failed(Kind, Outcome),
}

#[derive(Debug)]
struct Entry {
    asking: Asking,
    at: Duration,
    /// The fault at work when it was asked.
    fault: Option<&'static str>,
    told: Option<Answer>,
    /// How often the responder saw it; more than 255 are as bad as 255.
    seen: u8,
    /// Its client went away, and nothing is owed to it.
    left: bool,
}

/// What became of the requests asked in one kind of weather.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) left: u64,
}

/// The ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    terms: Terms,
    entries: VecDeque<Entry>,
    /// The number of the first of `entries`.
    first: u64,
    /// The number of the first whose patience is not over.
    patient: u64,
    now: Duration,
    fault: Option<&'static str>,
    findings: Vec<Finding>,
    breaches: BTreeMap<Breach, u64>,
    tallies: BTreeMap<&'static str, Tally>,
    errors: BTreeMap<(&'static str, &'static str), u64>,
    latencies: Latencies,
    seen: u64,
    /// Requests that were not asked, because too many were in flight.
    held_back: u64,
    /// Requests that failed of those asked since the fault began.
    failed_in_fault: u64,
    /// Since when doors have to answer again, and which did.
    recovering: (Duration, BTreeSet<&'static str>),
}

impl Ledger {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            entries: VecDeque::new(),
            first: 0,
            patient: 0,
            now: Duration::ZERO,
            fault: None,
            findings: Vec::new(),
            breaches: BTreeMap::new(),
            tallies: BTreeMap::new(),
            errors: BTreeMap::new(),
            latencies: Latencies::default(),
            seen: 0,
            held_back: 0,
            failed_in_fault: 0,
            recovering: (Duration::ZERO, BTreeSet::new()),
        }
    }

    /// Takes a request down, asked `at`, and gives its number; `None` if there are too many, and then it must
    /// not be asked.
    pub(super) fn ask(&mut self, asking: Asking, at: Duration) -> Option<u64> {
        if self.entries.len() >= self.terms.entries_max {
            self.held_back += 1;
            return None;
        }
        let number = self.first + self.entries.len() as u64;
        self.tally(self.fault).asked += 1;
        self.entries.push_back(Entry { asking, at, fault: self.fault, told: None, seen: 0, left: false });
        Some(number)
    }

    /// A request was not asked, because too many of its connection were in flight.
    pub(super) fn hold_back(&mut self) {
        self.held_back += 1;
    }

    /// Takes down what a client of `door` was told about what it called `number`.
    pub(super) fn told(&mut self, door: Via, number: Option<u64>, answer: Answer, now: Duration) {
        self.now = self.now.max(now);
        let Some(number) = number else {
            let detail = format!("{answer:?}, which belongs to no request");
            return self.find(Breach::ForeignAnswer, None, Some(door), detail);
        };
        if number < self.first {
            let detail = format!("{answer:?}, when the request was closed long ago");
            return self.find(Breach::SecondAnswer, Some(number), Some(door), detail);
        }
        let fault = self.fault;
        let Some(entry) = self.entry(number) else {
            let detail = format!("{answer:?}, before it was asked");
            return self.find(Breach::ForeignAnswer, Some(number), Some(door), detail);
        };
        let Asking { door: own, wants_no, timed, .. } = entry.asking;
        let (asked, weather) = (entry.at, entry.fault);
        if own != door || entry.left {
            let detail = format!("{answer:?}, to a request of door {}", own.name());
            return self.find(Breach::ForeignAnswer, Some(number), Some(door), detail);
        }
        if let Some(before) = entry.told {
            let detail = format!("{answer:?} after {before:?}");
            return self.find(Breach::SecondAnswer, Some(number), Some(door), detail);
        }
        entry.told = Some(answer);
        let seen = entry.seen;
        let is_to_it = match answer {
            Answer::Reply(of) => of == Some(number) && !wants_no,
            Answer::Failed(kind, _) => kind != Kind::Failed || wants_no,
        };
        if !is_to_it {
            self.find(Breach::ForeignAnswer, Some(number), Some(door), format!("{answer:?}"));
        }
        match answer {
            Answer::Failed(kind, outcome) if kind != Kind::Failed => {
                self.tally(weather).failed += 1;
                self.failed_in_fault += u64::from(fault.is_some() && weather == fault);
                *self.errors.entry((kind.code(), outcome.code())).or_default() += 1;
                if outcome == Outcome::NotSent && seen > 0 {
                    let detail = format!("the responder saw it, and then it was told {answer:?}");
                    self.find(Breach::NotSentButSeen, Some(number), Some(door), detail);
                }
            }
            _ => {
                self.tally(weather).answered += 1;
                if asked >= self.recovering.0 {
                    self.recovering.1.insert(door.name());
                }
                if timed {
                    let is_quiet = fault.is_none() && weather.is_none();
                    self.latencies.record(door, is_quiet, now.saturating_sub(asked));
                }
            }
        }
    }

    /// The client of a request went away before it was answered.
    pub(super) fn left(&mut self, number: u64) {
        let Some(entry) = self.entry(number) else { return };
        entry.left = true;
        let weather = entry.fault;
        self.tally(weather).left += 1;
    }

    /// The responder began to deal with a request.
    pub(super) fn seen(&mut self, number: u64, now: Duration) {
        self.now = self.now.max(now);
        self.seen += 1;
        if number < self.first {
            let horizon = self.terms.horizon;
            let detail = format!("the responder saw it more than {horizon:?} after it was asked");
            return self.find(Breach::SeenLate, Some(number), None, detail);
        }
        let Some(entry) = self.entry(number) else {
            let detail = "the responder saw it before it was asked".to_owned();
            return self.find(Breach::ForeignAnswer, Some(number), None, detail);
        };
        entry.seen = entry.seen.saturating_add(1);
        let (asking, seen, told) = (entry.asking, entry.seen, entry.told);
        if seen > 1 && !asking.idempotent {
            let detail = format!("seen {seen} times, told {told:?}");
            self.find(Breach::SeenTwice, Some(number), Some(asking.door), detail);
        }
        if let Some(Answer::Failed(_, Outcome::NotSent)) = told {
            let detail = format!("told {told:?}, and then the responder saw it");
            self.find(Breach::NotSentButSeen, Some(number), Some(asking.door), detail);
        }
    }

    /// Judges what has waited too long, and closes what is over the horizon.
    pub(super) fn sweep(&mut self, now: Duration) {
        self.now = self.now.max(now);
        let Terms { patience, horizon, .. } = self.terms;
        self.judge(|entry| entry.at + patience < now, |entry| entry.at + horizon < now);
    }

    /// Judges everything for the last time: nobody asks any more, and the responder has told all it saw.
    pub(super) fn close(&mut self) {
        self.judge(|_| true, |_| true);
    }

    fn judge(&mut self, is_overdue: impl Fn(&Entry) -> bool, is_over: impl Fn(&Entry) -> bool) {
        loop {
            let number = self.patient;
            let Some(entry) = self.entry(number).filter(|entry| is_overdue(entry)) else { break };
            let unanswered = entry.told.is_none() && !entry.left;
            let door = entry.asking.door;
            self.patient += 1;
            if unanswered {
                let detail = format!("none within {:?}", self.terms.patience);
                self.find(Breach::NoAnswer, Some(number), Some(door), detail);
            }
        }
        while self.first < self.patient && self.entries.front().is_some_and(&is_over) {
            self.retire();
        }
    }

    fn retire(&mut self) {
        let Some(entry) = self.entries.front() else { return };
        let (number, door) = (self.first, entry.asking.door);
        let is_done = match entry.told {
            Some(Answer::Reply(_)) => true,
            Some(Answer::Failed(_, outcome)) => outcome == Outcome::Done,
            None => false,
        };
        if is_done && entry.seen == 0 {
            let detail = format!("told {:?}", entry.told);
            self.find(Breach::AnsweredButNotSeen, Some(number), Some(door), detail);
        }
        self.entries.pop_front();
        self.first += 1;
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }

    fn tally(&mut self, weather: Option<&'static str>) -> &mut Tally {
        self.tallies.entry(weather.unwrap_or(QUIET)).or_default()
    }

    /// Takes a finding down.
    pub(super) fn find(&mut self, breach: Breach, request: Option<u64>, door: Option<Via>, detail: String) {
        *self.breaches.entry(breach).or_default() += 1;
        if self.findings.len() < FINDINGS_MAX {
            let asked_in = request.and_then(|number| self.entry(number)).and_then(|entry| entry.fault);
            let fault = asked_in.or(self.fault);
            self.findings.push(Finding { breach, request, door, fault, at: self.now, detail });
        }
    }

    /// From now on this fault is at work, or none.
    pub(super) fn set_fault(&mut self, fault: Option<&'static str>) {
        self.fault = fault;
        self.failed_in_fault = 0;
    }

    /// The fault at work.
    pub(super) fn fault(&self) -> Option<&'static str> {
        self.fault
    }

    /// Requests that failed of those asked since the fault began.
    pub(super) fn failed_in_fault(&self) -> u64 {
        self.failed_in_fault
    }

    /// From `now` on every door has to answer again.
    pub(super) fn expect_recovery(&mut self, now: Duration) {
        self.recovering = (now, BTreeSet::new());
    }

    /// The first of these doors that has not answered a request that was asked since then.
    pub(super) fn lacking(&self, doors: &[Via]) -> Option<Via> {
        doors.iter().copied().find(|door| !self.recovering.1.contains(door.name()))
    }

    /// What was found, but for what is over the bound.
    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Breaches by kind.
    pub(super) fn breaches(&self) -> &BTreeMap<Breach, u64> {
        &self.breaches
    }

    /// What became of the requests, by the fault at work when they were asked.
    pub(super) fn tallies(&self) -> &BTreeMap<&'static str, Tally> {
        &self.tallies
    }

    /// All of them together.
    pub(super) fn total(&self) -> Tally {
        self.tallies.values().fold(Tally::default(), |sum, tally| Tally {
            asked: sum.asked + tally.asked,
            answered: sum.answered + tally.answered,
            failed: sum.failed + tally.failed,
            left: sum.left + tally.left,
        })
    }

    /// Errors by kind and outcome.
    pub(super) fn errors(&self) -> &BTreeMap<(&'static str, &'static str), u64> {
        &self.errors
    }

    pub(super) fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// How often the responder saw a request.
    pub(super) fn sightings(&self) -> u64 {
        self.seen
    }

    /// Requests that were not asked, because too many were in flight.
    pub(super) fn held_back(&self) -> u64 {
        self.held_back
    }
}

#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
