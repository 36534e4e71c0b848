//! The faults: a row each. A fault does something, undoes it, and says how it showed: one that nobody noticed was
//! none.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::course::Course;
use super::ground::{CALLS_MAX, Ground};
use super::slow;
use crate::client::Samples;

/// How long what a fault led to may take to show.
const SHOW_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at the metrics.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The other limit of requests in progress, of a reload.
const OTHER_CALLS_MAX: u32 = 6144;

/// A fault.
#[derive(Debug)]
pub struct Fault {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    inflict: for<'a> fn(&'a mut Ground, &'a Arc<Course>) -> Inflicting<'a>,
}

/// A fault at work: it ends with how it showed, or with why it did not.
type Inflicting<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

/// All faults.
pub const FAULTS: [&Fault; 7] = [
    &Fault {
        name: "nats-killed",
        about: "nats-server is killed, and started again on its port",
        inflict: |ground, course| Box::pin(kill_nats(ground, course)),
    },
    &Fault {
        name: "nats-paused",
        about: "nats-server stands still (SIGSTOP), and goes on",
        inflict: |ground, course| Box::pin(pause_nats(ground, course)),
    },
    &Fault {
        name: "responder-killed",
        about: "the responder is killed, and another takes its place",
        inflict: |ground, course| Box::pin(kill_responder(ground, course)),
    },
    &Fault {
        name: "responder-paused",
        about: "the responder stands still (SIGSTOP), and goes on",
        inflict: |ground, course| Box::pin(pause_responder(ground, course)),
    },
    &Fault {
        name: "reload",
        about: "the gateway reads its configuration again (SIGHUP), which has another limit",
        inflict: |ground, course| Box::pin(reload(ground, course)),
    },
    &Fault {
        name: "late-answers",
        about: "every other answer comes after its deadline",
        inflict: |ground, course| Box::pin(answer_late(ground, course)),
    },
    &Fault {
        name: "slow-subscriber",
        about: "a subscriber does not read while it is flooded",
        inflict: |ground, _| Box::pin(be_slow(ground)),
    },
];

impl Fault {
    /// Does it and undoes it; gives how it showed, or why it did not.
    pub(super) async fn inflict(&self, ground: &mut Ground, course: &Arc<Course>) -> Result<String, String> {
        (self.inflict)(ground, course).await
    }
}

async fn kill_nats(ground: &mut Ground, course: &Arc<Course>) -> Result<String, String> {
    const RECONNECTS: &str = "ipc_gateway_nats_reconnects_total";
    let before = value(&ground.metrics().await?, RECONNECTS);
    course.storm();
    course.server_ends();
    ground.nats.process.kill()?;
    sleep(course.plan.hold()).await;
    course.server_returns();
    ground.nats.start_again().await?;
    let reconnects = grown(ground, RECONNECTS, before).await?;
    Ok(format!("{reconnects} reconnects, {}", failures(course)?))
}

async fn pause_nats(ground: &mut Ground, course: &Arc<Course>) -> Result<String, String> {
    course.storm();
    pause(course, |signal| ground.nats.process.signal(signal)).await
}

async fn kill_responder(ground: &mut Ground, course: &Arc<Course>) -> Result<String, String> {
    ground.responder.kill()?;
    sleep(course.plan.hold()).await;
    ground.start_responder(course)?;
    failures(course)
}

async fn pause_responder(ground: &mut Ground, course: &Arc<Course>) -> Result<String, String> {
    pause(course, |signal| ground.responder.signal(signal)).await
}

async fn pause(course: &Course, send: impl Fn(Signal) -> Result<(), String>) -> Result<String, String> {
    send(Signal::STOP)?;
    sleep(course.plan.hold()).await;
    send(Signal::CONT)?;
    failures(course)
}

async fn reload(ground: &mut Ground, _: &Arc<Course>) -> Result<String, String> {
    const RELOADS: &str = "ipc_gateway_config_reload_total";
    const LIMIT: &str = "ipc_gateway_calls_max";
    let before = ground.metrics().await?;
    let reloads = value(&before, RELOADS);
    let is_other = value(&before, LIMIT) < f64::from(CALLS_MAX);
    let limit = if is_other { CALLS_MAX } else { OTHER_CALLS_MAX };
    ground.reload(limit)?;
    grown(ground, RELOADS, reloads).await?;
    let now = value(&ground.metrics().await?, LIMIT);
    if (now - f64::from(limit)).abs() > 0.5 {
        return Err(format!("the limit of requests is {now} after the reload, and not {limit}"));
    }
    Ok(format!("the limit of requests is {limit}"))
}

async fn answer_late(ground: &mut Ground, course: &Arc<Course>) -> Result<String, String> {
    const LATE: &str = "ipc_gateway_nats_late_replies_total";
    let before = value(&ground.metrics().await?, LATE);
    course.late.store(true, Ordering::Relaxed);
    sleep(course.plan.hold()).await;
    course.late.store(false, Ordering::Relaxed);
    let late = grown(ground, LATE, before).await?;
    Ok(format!("{late} late replies, {}", failures(course)?))
}

async fn be_slow(ground: &mut Ground) -> Result<String, String> {
    let slow::Flooded { published, delivered, lost } = slow::flood(&ground.gateway.reach).await?;
    Ok(format!("of {published} messages it got {delivered}, and was told of {lost}"))
}

/// The sum of a name's samples.
fn value(samples: &Samples, name: &str) -> f64 {
    samples.named(name).map(|sample| sample.value).sum()
}

/// Waits until a count is above what it was, and gives by how much.
async fn grown(ground: &Ground, name: &str, before: f64) -> Result<f64, String> {
    let until = Instant::now() + SHOW_LIMIT;
    loop {
        let now = value(&ground.metrics().await?, name);
        if now > before {
            return Ok(now - before);
        }
        if Instant::now() > until {
            return Err(format!("{name} did not grow within {SHOW_LIMIT:?}"));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// How many requests failed that were asked since the fault began; none is a fault that did nothing.
fn failures(course: &Course) -> Result<String, String> {
    let failed = course.ledger().failed_in_fault();
    if failed == 0 { Err("no request failed".to_owned()) } else { Ok(format!("{failed} requests failed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_of_the_command_line_and_each_is_one() {
        let names: std::collections::BTreeSet<_> = FAULTS.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), FAULTS.len());
        assert!(names.iter().all(|name| name.chars().all(|char| char.is_ascii_lowercase() || char == '-')));
        assert!(!names.contains("all") && !names.contains("none"));
    }
}
