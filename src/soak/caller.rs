//! A caller: one client of one door, which asks on a schedule and takes down what it is told.
//!
//! It never waits for an answer before it asks again, so a gateway that stands still is seen in the time of every
//! request that it delays. Some callers go away in the middle of things, and come back.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::Kind;
use fastrand::Rng;
use tokio::time::{Instant, Interval, interval_at, sleep, sleep_until, timeout_at};

use super::breach::Breach;
use super::course::Course;
use super::ledger::{Answer, Asking};
use super::task::Task;
use crate::client::{Call, Heard, Line, Lost, Reach, Say, Via, What};

/// The subject of all requests, where a door knows subjects.
pub(super) const WORK: &str = "soak.work";
/// Requests of one connection in flight at most, below what every door takes.
const IN_FLIGHT_MAX: usize = 32;
/// How long a caller stays that goes away in the middle, in milliseconds.
const STAY_MS: std::ops::Range<u64> = 500..5000;
/// Before another attempt to connect.
const AGAIN: Duration = Duration::from_millis(200);
/// One request in so many is answered no, and one in so many late; of those that can be late, one in two while a
/// burst of late answers is on.
const NO_EVERY: u32 = 50;
const LATE_EVERY: u32 = 100;

/// The caller.
pub(super) struct Caller {
    pub(super) door: Via,
    pub(super) course: Arc<Course>,
    pub(super) reach: Reach,
    /// The time between two requests.
    pub(super) every: Duration,
    pub(super) rng: Rng,
    /// Whether it goes away in the middle.
    pub(super) goes_away: bool,
}

impl Caller {
    /// Asks until the course is over, and takes the last answers.
    pub(super) async fn run(mut self) {
        let course = Arc::clone(&self.course);
        let offset = self.every.mul_f64(self.rng.f64());
        let mut ticks = interval_at(Instant::now() + offset, self.every);
        while !course.over.is_cancelled() {
            match self.door.open(&self.reach).await {
                Ok(mut line) => self.talk(&mut *line, &mut ticks).await,
                Err(lost) => {
                    course.lost(self.door, &lost);
                    sleep(AGAIN).await;
                }
            }
        }
    }

    async fn talk(&mut self, line: &mut dyn Line, ticks: &mut Interval) {
        let course = Arc::clone(&self.course);
        let mut in_flight = HashSet::new();
        let leaves = Instant::now() + Duration::from_millis(self.rng.u64(STAY_MS));
        loop {
            tokio::select! {
                () = course.over.cancelled() => break,
                () = sleep_until(leaves), if self.goes_away => return self.leave(in_flight),
                due = ticks.tick() => self.ask(line, &mut in_flight, due),
                heard = line.heard() => match heard {
                    Ok(heard) => self.take(heard, &mut in_flight),
                    Err(lost) => return self.lost(&lost, in_flight),
                },
            }
        }
        let until = Instant::now() + course.plan.terms().patience;
        while !in_flight.is_empty() {
            match timeout_at(until, line.heard()).await {
                Ok(Ok(heard)) => self.take(heard, &mut in_flight),
                Ok(Err(lost)) => return self.lost(&lost, in_flight),
                // The ledger knows what is missing.
                Err(_) => return,
            }
        }
    }

    fn ask(&mut self, line: &mut dyn Line, in_flight: &mut HashSet<u64>, due: Instant) {
        let Self { door, course, rng, .. } = self;
        if in_flight.len() >= IN_FLIGHT_MAX {
            return course.ledger().hold_back();
        }
        // The protocols of old clients have neither deadlines nor flags, and a no is a reply there.
        let is_plain = matches!(door, Via::UnixV1 | Via::Tasks);
        let late_every = if course.late.load(Ordering::Relaxed) { 2 } else { LATE_EVERY };
        let is_late = !is_plain && rng.u32(..late_every) == 0;
        let wants_no = !is_plain && !is_late && rng.u32(..NO_EVERY) == 0;
        let idempotent = !is_plain && rng.bool();
        let plan = &course.plan;
        let asking = Asking { door: *door, idempotent, wants_no, timed: !is_late && !wants_no };
        let Some(number) = course.ledger().ask(asking, course.at(due)) else { return };
        let wait = if is_late { plan.deadline() } else { Duration::ZERO };
        let timeout = if is_late { plan.short_deadline() } else { plan.deadline() };
        let call = Call {
            subject: if is_plain { "task_submit" } else { WORK }.to_owned(),
            payload: Task { number, wait, wants_no }.payload(),
            timeout: (!is_plain).then_some(timeout),
            idempotent,
            ..Call::default()
        };
        match line.say(number, &Say::Request(call)) {
            Ok(()) => drop(in_flight.insert(number)),
            Err(failure) => {
                let answer = Answer::Failed(failure.kind, failure.outcome);
                course.ledger().told(*door, Some(number), answer, course.now());
            }
        }
    }

    fn take(&mut self, Heard { id, what }: Heard, in_flight: &mut HashSet<u64>) {
        let number = |payload: &[u8]| Task::parse(payload).map(|task| task.number);
        let answer = match what {
            What::Reply { payload, more: false, .. } => Answer::Reply(number(&payload)),
            What::Failed(failure) if failure.kind == Kind::Failed && !failure.body.is_empty() => {
                // The body of a no has to be that of this request, too.
                match number(&failure.body) {
                    of if of == id => Answer::Failed(failure.kind, failure.outcome),
                    of => Answer::Reply(of),
                }
            }
            What::Failed(failure) => Answer::Failed(failure.kind, failure.outcome),
            What::GoAway => {
                return self.course.find(Breach::ConnectionLost, self.door, "told to go away".to_owned());
            }
            _ => Answer::Reply(None),
        };
        if let Some(id) = id {
            in_flight.remove(&id);
        }
        self.course.ledger().told(self.door, id, answer, self.course.now());
    }

    fn leave(&self, in_flight: HashSet<u64>) {
        let mut ledger = self.course.ledger();
        for number in in_flight {
            ledger.left(number);
        }
    }

    fn lost(&self, lost: &Lost, in_flight: HashSet<u64>) {
        self.course.lost(self.door, lost);
        self.leave(in_flight);
    }
}
