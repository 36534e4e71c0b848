//! The benchmark: how much a gateway costs, as a ratio to plain NATS measured in the same run.
//!
//! | file | holds |
//! |---|---|
//! | `plan.rs` | what is measured, how long and how often |
//! | `rows/` | the rows of the table: a file a row |
//! | `load.rs`, `schedule.rs` | load on the connections of a row, in a closed and an open loop |
//! | `figures.rs`, `report.rs` | from counts to figures, to a table and JSON |
//! | `crowd.rs`, `idle.rs`, `fan_out.rs` | many WebSockets: what an idle one costs, and telling all the same |
//! | `nats_web_socket.rs` | NATS' own protocol over a WebSocket, for comparison |
//! | `cpu.rs` | what the system tells of a process |
//! | `scene.rs` | the processes of a self-contained run |
//!
//! Two loops answer two questions. The closed loop keeps a number of requests in flight and so finds the most
//! that goes through; its latencies are those of a queue. The open loop sends on a fixed schedule, whatever
//! comes back, and counts a latency from the scheduled time, so that a stall shows in every request that it
//! delayed.

mod cpu;
mod crowd;
mod fan_out;
mod figures;
mod idle;
mod load;
mod nats_web_socket;
mod plan;
mod report;
mod rows;
mod scene;
mod schedule;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::processes::machine;

pub use crowd::{CrowdPlan, Crowds};
pub use figures::{Figures, Summary};
pub use load::Counts;
pub use plan::{Load, PAYLOAD_BYTES_MIN, Plan, Target};
pub use report::Report;
pub use rows::{Opening, ROWS, Row, Serving};
pub use scene::Scene;

/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Where a measurement stands.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The run, from 1.
    pub run: usize,
    /// The row.
    pub row: &'static Row,
    /// The load.
    pub load: &'a Load,
    /// Requests a second since the last time it was told; `None` at the end of a row.
    pub per_second: Option<f64>,
}

/// Measures everything that `plan` says, the rows interleaved so that what changes on the machine meanwhile
/// meets all of them. Tells the progress from time to time. Fails with a line for a person; dropping it ends
/// all load.
pub async fn run(plan: &Plan, target: &Target, mut tell: impl FnMut(Progress<'_>)) -> Result<Report, String> {
    let machine = machine::facts();
    let mut figures = Vec::new();
    for run in 1..=plan.runs {
        for load in &plan.loads {
            for row in &plan.rows {
                let measured = measure(plan, target, row, load, |per_second| {
                    tell(Progress { run, row, load, per_second });
                })
                .await
                .map_err(|problem| format!("row {}: {problem}", row.name))?;
                figures.push(measured);
            }
        }
    }
    Ok(Report::new(plan, target, machine, figures))
}

/// Measures one row under one load.
async fn measure(
    plan: &Plan,
    target: &Target,
    row: &'static Row,
    load: &Load,
    mut tell: impl FnMut(Option<f64>),
) -> Result<Figures, String> {
    let shares = load.shares(plan.connections);
    let say = Arc::new((row.say)(target, plan.payload()));
    let mut lines = Vec::new();
    for _ in &shares {
        let mut line = (row.open)(target).await?;
        load::probe(&mut *line, &say, target.answer_bytes).await?;
        lines.push(line);
    }
    let window = load::Window::new(plan.warmup, plan.duration);
    let answered = Arc::new(AtomicU64::new(0));
    let (mut ticks, pacer) = schedule::start(load, &window, shares.len());
    let mut tasks = JoinSet::new();
    for (line, share) in lines.into_iter().zip(shares) {
        let driver = load::Driver::new(line, say.clone(), window, target.answer_bytes, answered.clone());
        match ticks.pop() {
            Some(ticks) => tasks.spawn(driver.open(ticks)),
            None => tasks.spawn(driver.closed(share)),
        };
    }
    let serving = match row.serving {
        Serving::Gateway => target.gateway_pid,
        Serving::Own => Some(std::process::id()),
    };
    let cpu = || serving.and_then(cpu::used);
    sleep_until(window.begin).await;
    let (cpu_before, answered_before) = (cpu(), answered.load(Ordering::Relaxed));
    let mut last = (Instant::now(), answered_before);
    while Instant::now() + TELL_EVERY < window.end {
        sleep(TELL_EVERY).await;
        let now = (Instant::now(), answered.load(Ordering::Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "a count of a quarter of a second")]
        let grown = (now.1 - last.1) as f64;
        tell(Some(grown / (now.0 - last.0).as_secs_f64()));
        last = now;
    }
    sleep_until(window.end).await;
    let cpu_used = cpu().zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    let answered_between = answered.load(Ordering::Relaxed) - answered_before;
    let mut counts = Counts::new();
    while let Some(finished) = tasks.join_next().await {
        counts.add(&finished.map_err(|error| format!("a task of the load ended: {error}"))?);
    }
    if let Some(pacer) = pacer {
        pacer.join().map_err(|_| "the schedule's thread panicked".to_owned())?;
    }
    tell(None);
    Ok(Figures::new(row, *load, plan.duration, &counts, cpu_used, answered_between))
}
