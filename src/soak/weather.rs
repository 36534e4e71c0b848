//! The weather: one fault after another, in an order of its own for each round, and how long it took until every
//! door answered again.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::breach::Breach;
use super::course::Course;
use super::ground::Ground;
use super::verdict::Inflicted;
use crate::client::Via;

/// How long after a fault a door may take to answer again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at that.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Inflicts fault after fault until it is `ending`. The first comes when the time for one has passed.
pub(super) async fn change(
    ground: &mut Ground,
    course: &Arc<Course>,
    doors: &[Via],
    ending: &CancellationToken,
) -> Vec<Inflicted> {
    let plan = &course.plan;
    let mut rng = Rng::with_seed(plan.seed);
    let mut inflicted = Vec::new();
    let mut next = Instant::now() + plan.fault_every;
    let mut round = Vec::new();
    loop {
        if round.is_empty() {
            round.clone_from(&plan.faults);
            rng.shuffle(&mut round);
        }
        let Some(fault) = round.pop() else {
            ending.cancelled().await;
            return inflicted;
        };
        tokio::select! {
            biased;
            () = ending.cancelled() => return inflicted,
            () = sleep_until(next) => {}
        }
        next = Instant::now() + plan.fault_every;
        let at = course.now();
        course.ledger().set_fault(Some(fault.name));
        let showed = fault.inflict(ground, course).await;
        let recovered = recover(course, doors, fault.name).await;
        course.calm();
        course.ledger().set_fault(None);
        let (at_s, recovered_s) = (at.as_secs_f64(), recovered.map(|took| took.as_secs_f64()));
        inflicted.push(Inflicted { fault, at_s, showed, recovered_s });
    }
}

/// Waits until every door has answered what was asked since now. Gives how long that took.
async fn recover(course: &Course, doors: &[Via], fault: &str) -> Option<Duration> {
    let began = Instant::now();
    course.ledger().expect_recovery(course.now());
    loop {
        // In a statement of its own, so that the ledger is not held while it is waited.
        let lacking = course.ledger().lacking(doors);
        let Some(door) = lacking else { return Some(began.elapsed()) };
        if began.elapsed() > RECOVERY_LIMIT {
            let detail = format!("it did not answer within {RECOVERY_LIMIT:?} after {fault}");
            course.find(Breach::NotRecovered, door, detail);
            return None;
        }
        sleep(LOOK_EVERY).await;
    }
}
