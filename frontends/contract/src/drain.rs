//! Drain: the signal to stop, and the count of connections still at work.
//!
//! A door accepts until [`Drain::draining`] resolves, tracks each connection with [`Drain::track`], and each
//! connection finishes what is in flight and leaves. Whoever started the drain waits in [`Drain::finished`],
//! as long as its grace allows.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by the process and every connection; cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Drain {
    /// A drain that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins: every [`Self::draining`] resolves, now and later. Idempotent.
    pub fn begin(&self) {
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
}
