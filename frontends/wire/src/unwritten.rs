//! How long something may wait for a peer that takes nothing of it.
//!
//! One clock for every door. It looks again and again while it runs, because how long is too long depends on how short
//! memory is: what waits for this peer is memory that others need.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use contract::ByteBudget;
use tokio::time::{Instant, Sleep, sleep};

/// The clock of one connection. It costs nothing while nothing waits.
#[derive(Debug)]
pub struct Unwritten {
    timeout: Duration,
    budget: ByteBudget,
    waits: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Unwritten {
    /// Of a peer that may take nothing for `timeout`, or for the less that `budget` says while memory is short.
    pub fn new(timeout: Duration, budget: &ByteBudget) -> Self {
        Self { timeout, budget: budget.clone(), waits: None }
    }

    /// Something was taken, or nothing waits any more.
    pub fn settle(&mut self) {
        self.waits = None;
    }

    /// Something waits, at least since the last time that this was asked. Ready when that was too long.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let look = self.timeout.min(self.budget.unread_max());
        let (since, sleeping) = self.waits.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(look))));
        loop {
            ready!(sleeping.as_mut().poll(context));
            let now = Instant::now();
            if now - *since >= self.budget.patience(self.timeout) {
                return Poll::Ready(());
            }
            let due = *since + self.timeout;
            sleeping.as_mut().reset(due.min(now + look));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn it_takes_the_whole_time_unless_memory_is_short() {
        let budget = ByteBudget::new(100);
        budget.set_unread_max(SHORT);
        let mut unwritten = Unwritten::new(TIMEOUT, &budget);
        let began = Instant::now();
        poll_fn(|context| unwritten.poll(context)).await;
        assert!((TIMEOUT..TIMEOUT + SHORT).contains(&began.elapsed()), "{:?}", began.elapsed());
        unwritten.settle();
        // It becomes short while something waits.
        let began = Instant::now();
        let fill = async {
            sleep(5 * SHORT).await;
            let _charge = budget.charge_always(100);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = poll_fn(|context| unwritten.poll(context)) => {}
            () = fill => {}
        }
        assert!((5 * SHORT..=7 * SHORT).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_something_begins_anew() {
        let budget = ByteBudget::new(100);
        budget.set_unread_max(SHORT);
        let _charge = budget.charge_always(100);
        let mut unwritten = Unwritten::new(TIMEOUT, &budget);
        for _ in 0..3 {
            let waiting = poll_fn(|context| unwritten.poll(context));
            assert!(tokio::time::timeout(SHORT * 2 / 3, waiting).await.is_err());
            unwritten.settle();
        }
    }
}
