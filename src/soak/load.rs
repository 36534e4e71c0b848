//! The load: callers by every door, a publisher of news and a subscriber by every door that has subscriptions.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;

use super::caller::Caller;
use super::course::Course;
use super::news;
use crate::client::{Reach, Via};

/// The doors, with what is spoken there.
pub(super) const DOORS: [Via; 8] =
    [Via::Unix, Via::UnixV1, Via::Json, Via::Tasks, Via::Ws, Via::WsBinary, Via::Http, Via::Grpc];
/// One caller of a door in so many goes away in the middle, and comes back: the second, the sixth, and so on.
const GOES_AWAY_EVERY: usize = 4;

/// The load.
#[derive(Debug)]
pub(super) struct Load {
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts so many requests a second, shared by all callers alike.
    pub(super) fn start(course: &Arc<Course>, reach: &Reach, rate: f64) -> Self {
        let mut rng = Rng::with_seed(course.plan.seed);
        // Each door has one that stays, and so can recover.
        let connections = course.plan.connections.max(DOORS.len());
        #[expect(clippy::cast_precision_loss, reason = "connections of one process")]
        let every = Duration::from_secs_f64(connections as f64 / rate);
        let mut tasks = JoinSet::new();
        for number in 0..connections {
            let caller = Caller {
                door: DOORS[number % DOORS.len()],
                course: Arc::clone(course),
                reach: reach.clone(),
                every,
                rng: rng.fork(),
                goes_away: number / DOORS.len() % GOES_AWAY_EVERY == 1,
            };
            tasks.spawn(caller.run());
        }
        tasks.spawn(news::publish(Arc::clone(course), reach.clone()));
        for door in news::DOORS {
            tasks.spawn(news::subscribe(door, Arc::clone(course), reach.clone()));
        }
        Self { tasks }
    }

    /// The doors that are asked.
    #[expect(clippy::unused_self, reason = "it is this load's")]
    pub(super) fn doors(&self) -> &'static [Via] {
        &DOORS
    }

    /// Waits for the last answers.
    pub(super) async fn end(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no caller panics and none is ended");
        }
    }
}
