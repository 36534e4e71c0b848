//! The soak: a gateway under load by every door, for a long time, while what is behind it fails in turn.
//!
//! | file | holds |
//! |---|---|
//! | `plan.rs`, `capacity.rs` | what is done, how long and how much of it |
//! | `course.rs` | the course of a run: its clock, its ledger, what the load does just now |
//! | `ground.rs` | the processes: nats-server, the responder that is the witness, the gateway |
//! | `load.rs`, `caller.rs`, `task.rs` | all callers; one caller; what a request holds |
//! | `news.rs`, `slow.rs` | subscriptions: news by every door, and a subscriber that does not read |
//! | `faults.rs`, `weather.rs` | the faults, a row each; one after another, with their recovery |
//! | `ledger.rs`, `breach.rs`, `latencies.rs` | what was told and what was seen, judged; what must not be; how long it took |
//! | `readings.rs`, `slope.rs` | what the gateway holds, and whether it grows |
//! | `verdict.rs`, `report.rs` | whether everything holds, for people and for programs |
//!
//! The responder writes down what it sees before it answers, to a pipe that no fault reaches. So each request has
//! two histories, that of its client and that of the responder, and the ledger holds them side by side.

mod breach;
mod caller;
mod capacity;
mod course;
mod faults;
mod ground;
mod latencies;
mod ledger;
mod load;
mod news;
mod plan;
mod readings;
mod report;
mod slope;
mod slow;
mod task;
mod verdict;
mod weather;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

pub use breach::{Breach, Finding};
pub use faults::{FAULTS, Fault};
pub use ground::note;
pub use plan::Plan;
pub use report::Report;
pub use task::Task;

use self::course::Course;
use self::ground::Ground;
use self::load::Load;
use self::readings::{Reader, Reading};
use self::slope::Slope;
use crate::processes::{Tools, machine};

/// How often the ledger is swept and the progress told.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long the gateway may take to give everything back: its pool of connections shrinks one after another.
const GIVE_BACK_LIMIT: Duration = Duration::from_secs(90);
/// Between two looks at that.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where a soak stands.
#[derive(Clone, Debug)]
pub enum Progress {
    /// What is being done before or after the load.
    Step(String),
    /// A second of load.
    Now {
        /// How long there has been load.
        elapsed: Duration,
        /// Requests that were answered.
        answered: u64,
        /// Requests that were told an error.
        failed: u64,
        /// The fault at work.
        fault: Option<&'static str>,
        /// Resident bytes of the gateway, at the last reading.
        resident_bytes: u64,
        /// Breaches so far.
        breaches: u64,
    },
    /// A breach was found.
    Found(Finding),
}

/// Does all that the plan says, and judges it. Ends early, with what there is, when `stop` is cancelled. Fails
/// with a line for a person when it could not be done; dropping it ends everything that was started for it.
pub async fn run(
    plan: &Plan,
    tools: &Tools,
    stop: &CancellationToken,
    mut tell: impl FnMut(Progress),
) -> Result<Report, String> {
    let machine = machine::facts();
    let course = Arc::new(Course::new(plan.clone()));
    let preparing = async {
        let ground = Ground::start(tools, &course).await?;
        let rate = rate(plan, &ground, &mut tell).await?;
        let reader = Reader { process: ground.gateway.process.id(), admin: ground.gateway.admin };
        let before = settle(&reader, &course).await?;
        Ok::<_, String>((ground, rate, reader, before))
    };
    let (mut ground, rate, reader, before) = tokio::select! {
        prepared = preparing => prepared?,
        () = stop.cancelled() => return Err("it was ended before there was load".to_owned()),
    };
    let began = Instant::now();
    let load = Load::start(&course, &ground.gateway.reach, rate);
    let ending = CancellationToken::new();
    let faults = async {
        let inflicted = weather::change(&mut ground, &course, &load::DOORS, &ending).await;
        // Whoever is still at it has finished with the fault.
        course.over.cancel();
        inflicted
    };
    let mut readings = Vec::new();
    let watching = watch(&course, &reader, began, stop, &ending, &mut readings, &mut tell);
    let (inflicted, watched) = tokio::join!(faults, watching);
    let seconds = began.elapsed().as_secs_f64();
    load.end().await;
    let check = ground.check().and(watched);
    tell(Progress::Step("the load has ended; what was held is to be given back".to_owned()));
    let after = give_back(&reader, &course, &before).await;
    ground.end_responder().await?;
    let slope = slope(&readings, readings.first().map_or(Duration::ZERO, |first| first.at) + plan.warmup());
    drop(ground);
    let news = {
        let record = course.record();
        json!({"published": record.published, "not_handed_on": record.refused,
               "delivered": record.delivered, "gaps": record.gaps})
    };
    let mut ledger = std::mem::replace(&mut *course.ledger(), ledger::Ledger::new(plan.terms()));
    ledger.close();
    let verdict = vec![
        verdict::answers(&ledger, &load::DOORS, stop.is_cancelled()),
        verdict::faults(&inflicted, plan.faults.len(), stop.is_cancelled()),
        verdict::memory(slope.as_ref(), stop.is_cancelled()),
        verdict::given_back(&before, after.as_ref()),
        verdict::processes(&check),
    ];
    Ok(Report {
        plan: plan.clone(),
        machine,
        rate,
        seconds,
        is_interrupted: stop.is_cancelled(),
        ledger,
        news,
        inflicted,
        before,
        readings,
        after,
        slope,
        verdict,
    })
}

/// Requests a second: as planned, or half of what is measured.
async fn rate(plan: &Plan, ground: &Ground, tell: &mut impl FnMut(Progress)) -> Result<f64, String> {
    if let Some(rate) = plan.rate {
        return Ok(rate);
    }
    let maximum = capacity::measure(&ground.target(), |line| tell(Progress::Step(line.to_owned()))).await?;
    tell(Progress::Step(format!("the maximum is {maximum:.0} requests/s by all doors together")));
    Ok(maximum / 2.0)
}

/// The reading of a gateway that nobody asks anything: two in a row that agree.
async fn settle(reader: &Reader, course: &Course) -> Result<Reading, String> {
    let until = Instant::now() + GIVE_BACK_LIMIT;
    let mut before = reader.read(course.now()).await?;
    loop {
        sleep(LOOK_EVERY).await;
        let now = reader.read(course.now()).await?;
        let is_still = now.above(&before).is_empty() && before.above(&now).is_empty();
        if is_still && now.is_idle() {
            return Ok(now);
        }
        if Instant::now() > until {
            return Err(format!("the gateway does not come to rest: {}", now.to_json()));
        }
        before = now;
    }
}

/// Sweeps, reads and tells until the time is over or it is to stop; then has the faults end.
async fn watch(
    course: &Course,
    reader: &Reader,
    began: Instant,
    stop: &CancellationToken,
    ending: &CancellationToken,
    readings: &mut Vec<Reading>,
    tell: &mut impl FnMut(Progress),
) -> Result<(), String> {
    let mut sweeps = interval(SWEEP_EVERY.min(course.plan.sample_every()));
    let mut samples = interval(course.plan.sample_every());
    for ticks in [&mut sweeps, &mut samples] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut told = 0;
    let mut result = Ok(());
    loop {
        tokio::select! {
            () = course.over.cancelled() => return result,
            () = stop.cancelled(), if !ending.is_cancelled() => ending.cancel(),
            () = tokio::time::sleep_until(began + course.plan.duration), if !ending.is_cancelled() => ending.cancel(),
            _ = samples.tick() => match reader.read(course.now()).await {
                Ok(reading) => readings.push(reading),
                Err(problem) => {
                    // A gateway that cannot be read has failed, and there is nothing to soak any more.
                    result = result.and(Err(problem));
                    ending.cancel();
                }
            },
            _ = sweeps.tick() => {
                let now = course.now();
                let (progress, found) = {
                    let mut ledger = course.ledger();
                    ledger.sweep(now);
                    let found = ledger.findings()[told..].to_vec();
                    told += found.len();
                    let total = ledger.total();
                    let progress = Progress::Now {
                        elapsed: began.elapsed(),
                        answered: total.answered,
                        failed: total.failed,
                        fault: ledger.fault(),
                        resident_bytes: readings.last().map_or(0, |reading| reading.resident_bytes),
                        breaches: ledger.breaches().values().sum(),
                    };
                    (progress, found)
                };
                for finding in found {
                    tell(Progress::Found(finding));
                }
                tell(progress);
            }
        }
    }
}

/// Waits until the gateway holds no more than before the load, and gives the last reading.
async fn give_back(reader: &Reader, course: &Course, before: &Reading) -> Option<Reading> {
    let until = Instant::now() + GIVE_BACK_LIMIT;
    loop {
        let now = reader.read(course.now()).await.ok()?;
        if now.above(before).is_empty() || Instant::now() > until {
            return Some(now);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The line through the memory of the readings from then on.
fn slope(readings: &[Reading], from: Duration) -> Option<Slope> {
    #[expect(clippy::cast_precision_loss, reason = "bytes of one process")]
    let points: Vec<_> = readings
        .iter()
        .filter(|reading| reading.at >= from)
        .map(|reading| (reading.at.as_secs_f64(), reading.resident_bytes as f64))
        .collect();
    Slope::through(&points)
}
