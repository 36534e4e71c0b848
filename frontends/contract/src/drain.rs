//! Drain: the announcement of a stop, the signal to stop, each connection's moment, and who is still at work.
//!
//! A door accepts until [`Drain::draining`] resolves and tracks each connection with [`Drain::track`]. A connection
//! serves on until its own [`Drain::leave`], then says goodbye with its own [`Drain::retry_after`], finishes what is
//! in flight and leaves. So clients neither leave nor come back all at once: what takes over from this process
//! meets them one after another. Whoever started the drain waits in [`Drain::finished`], as long as its grace allows.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Goodbyes are this far apart on average, unless there are so many that [`Drain::spread_over`] ends first: few
/// clients need no spreading, and must not keep a process from ending.
const APART: Duration = Duration::from_millis(5);
/// The least that a client should wait before it connects again: a restart takes about that.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// Shared by the process and every connection; cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    token: CancellationToken,
    tracker: TaskTracker,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    spread: Duration,
    announced: AtomicBool,
    begun: OnceLock<Begun>,
}

/// Over which time the connections leave.
#[derive(Debug)]
struct Begun {
    at: Instant,
    window: Duration,
}

impl Drain {
    /// A drain that has not begun, which every connection leaves at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// A drain that has not begun, whose connections leave within `spread` of its beginning, and come back in as
    /// long a time.
    pub fn spread_over(spread: Duration) -> Self {
        Self { shared: Arc::new(Shared { spread, ..Shared::default() }), ..Self::default() }
    }

    /// Makes known that the drain will begin. Nothing else changes: everybody is served on.
    pub fn announce(&self) {
        self.shared.announced.store(true, Ordering::Relaxed);
    }

    /// Whether the drain has begun or will.
    pub fn is_announced(&self) -> bool {
        self.shared.announced.load(Ordering::Relaxed) || self.is_draining()
    }

    /// Begins: every [`Self::draining`] resolves, now and later, and every [`Self::leave`] at its moment. Idempotent.
    pub fn begin(&self) {
        self.shared.begun.get_or_init(|| {
            let connections = u32::try_from(self.tracker.len()).unwrap_or(u32::MAX);
            Begun { at: Instant::now(), window: self.shared.spread.min(APART.saturating_mul(connections)) }
        });
        self.token.cancel();
        self.tracker.close();
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when the drain begins (at once if it has). Safe to drop and await again.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        self.token.clone().cancelled_owned()
    }

    /// Resolves when a connection should say goodbye: at a random moment, another for each call, of those over which
    /// the drain is spread (at once if that has passed).
    pub fn leave(&self) -> impl Future<Output = ()> + Send + 'static {
        let (draining, shared) = (self.draining(), Arc::clone(&self.shared));
        async move {
            draining.await;
            let begun = shared.begun.get().expect("what has begun is known before it is told");
            let moment = begun.at + begun.window.mul_f64(fastrand::f64());
            if moment > Instant::now() {
                sleep_until(moment).await;
            }
        }
    }

    /// When a client that leaves should connect again: at least a second, at random as much longer as the drain is
    /// spread over.
    pub fn retry_after(&self) -> Duration {
        RETRY_AFTER_MIN + self.shared.spread.mul_f64(fastrand::f64())
    }

    /// Spawns a connection's task and counts it until it ends, also when it panics.
    pub fn track<F>(&self, connection: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(self.tracker.spawn(connection));
    }

    /// Tracked connections still at work.
    pub fn at_work(&self) -> usize {
        self.tracker.len()
    }

    /// Resolves when the drain has begun and every tracked connection has ended.
    pub async fn finished(&self) {
        self.token.cancelled().await;
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn finishes_when_the_last_connection_has_left() {
        let drain = Drain::new();
        let (leave, left) = tokio::sync::oneshot::channel::<()>();
        drain.track(async move {
            let _ = left.await;
        });
        drain.begin();
        assert!(drain.is_draining());
        drain.draining().await;
        assert_eq!(drain.at_work(), 1);
        leave.send(()).unwrap();
        drain.finished().await;
        assert_eq!(drain.at_work(), 0);
    }

    #[tokio::test]
    async fn an_announcement_stops_nobody() {
        let drain = Drain::new();
        assert!(!drain.is_announced());
        drain.announce();
        assert!(drain.is_announced() && !drain.is_draining());
        let begun = Drain::new();
        begun.begin();
        assert!(begun.is_announced(), "a drain needs no announcement");
    }

    /// When each of so many connections left, after a drain spread over `spread` began.
    async fn moments(connections: usize, spread: Duration) -> Vec<Duration> {
        let drain = Drain::spread_over(spread);
        let (left, mut leaving) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..connections {
            let (leave, left) = (drain.leave(), left.clone());
            drain.track(async move {
                leave.await;
                left.send(Instant::now()).unwrap();
            });
        }
        let began = Instant::now();
        drain.begin();
        drain.finished().await;
        drop(left);
        let mut moments = Vec::new();
        while let Some(moment) = leaving.recv().await {
            moments.push(moment - began);
        }
        moments
    }

    #[tokio::test(start_paused = true)]
    async fn connections_leave_one_after_another_within_the_spread() {
        let moments = moments(1000, Duration::from_secs(3)).await;
        assert_eq!(moments.len(), 1000);
        // One more millisecond, which is the clock's.
        assert!(moments.iter().all(|moment| *moment <= Duration::from_millis(3001)), "{moments:?}");
        let seconds: BTreeSet<u64> = moments.iter().map(Duration::as_secs).collect();
        assert!(seconds.is_superset(&BTreeSet::from([0, 1, 2])), "{moments:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn few_connections_leave_sooner() {
        let moments = moments(2, Duration::from_hours(1)).await;
        assert!(moments.iter().all(|moment| *moment <= APART * 2 + Duration::from_millis(1)), "{moments:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_when_the_time_is_over_leaves_at_once() {
        let drain = Drain::spread_over(Duration::from_secs(3));
        drain.track(drain.leave());
        drain.begin();
        drain.finished().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let late = Instant::now();
        drain.leave().await;
        assert_eq!(late.elapsed(), Duration::ZERO);
    }

    #[test]
    fn clients_come_back_at_different_times() {
        let drain = Drain::spread_over(Duration::from_secs(5));
        let waits: BTreeSet<Duration> = (0..100).map(|_| drain.retry_after()).collect();
        assert!(waits.len() > 90, "{waits:?}");
        assert!(waits.iter().all(|wait| (1.0..=6.0).contains(&wait.as_secs_f64())), "{waits:?}");
        assert_eq!(Drain::new().retry_after(), RETRY_AFTER_MIN);
    }
}
