//! What a session has told and its client has not taken yet: between the session's task and its stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use contract::{ByteBudget, Charge};
use futures_util::Stream;
use futures_util::task::AtomicWaker;
use prost::Message as _;
use tonic::Status;

use crate::shared::SessionResponse;

/// The task's end.
#[derive(Debug)]
pub(super) struct Outbox {
    shared: Arc<Shared>,
    /// Told since the last flush: one lock and one wake-up for many.
    fresh: Vec<SessionResponse>,
    fresh_bytes: usize,
}

/// The stream's end. Dropping it ends the session.
#[derive(Debug)]
pub(crate) struct Told(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    session: AtomicWaker,
    stream: AtomicWaker,
}

/// How far a session is.
#[derive(Debug)]
enum End {
    /// It goes on.
    Open,
    /// It has ended, with this status, or with `OK`.
    Ended(Option<Status>),
}

#[derive(Debug)]
struct Waiting {
    messages: VecDeque<SessionResponse>,
    charge: Charge,
    end: End,
    abandoned: bool,
}

/// Both ends. What waits is counted against `budget`, also past its limit: it has happened.
pub(super) fn pair(budget: &ByteBudget) -> (Outbox, Told) {
    let waiting = Waiting {
        messages: VecDeque::new(),
        charge: budget.charge_always(0),
        end: End::Open,
        abandoned: false,
    };
    let shared = Arc::new(Shared {
        waiting: Mutex::new(waiting),
        session: AtomicWaker::new(),
        stream: AtomicWaker::new(),
    });
    (Outbox { shared: Arc::clone(&shared), fresh: Vec::new(), fresh_bytes: 0 }, Told(shared))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    /// Wakes this task when something was taken, or the client is gone.
    pub(super) fn register(&self, waker: &Waker) {
        self.shared.session.register(waker);
    }

    /// Whether the client is gone.
    pub(super) fn is_abandoned(&self) -> bool {
        self.shared.lock().abandoned
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.fresh_bytes + self.shared.lock().charge.bytes()
    }

    /// Tells something, seen by the client's stream with the next [`Self::flush`].
    pub(super) fn push(&mut self, message: SessionResponse) {
        self.fresh_bytes += message.encoded_len();
        self.fresh.push(message);
    }

    /// Shows the stream what was told.
    pub(super) fn flush(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let mut waiting = self.shared.lock();
        waiting.messages.extend(self.fresh.drain(..));
        waiting.charge.grow_always(std::mem::take(&mut self.fresh_bytes));
        drop(waiting);
        self.shared.stream.wake();
    }

    /// Ends the stream, behind what is told: with a status, or with `OK`.
    pub(super) fn end(mut self, status: Option<Status>) {
        self.flush();
        self.shared.lock().end = End::Ended(status);
        // The drop wakes the stream.
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // A session that panicked has not said how it ended.
        let mut waiting = self.shared.lock();
        if matches!(waiting.end, End::Open) {
            waiting.end = End::Ended(Some(Status::internal("a fault of the gateway")));
        }
        drop(waiting);
        self.shared.stream.wake();
    }
}

impl Stream for Told {
    type Item = Result<SessionResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Before the look, so that what is told in between is not missed.
        self.0.stream.register(context.waker());
        let mut waiting = self.0.lock();
        if let Some(message) = waiting.messages.pop_front() {
            waiting.charge.shrink(message.encoded_len());
            let empty = waiting.messages.is_empty();
            drop(waiting);
            if empty {
                // Only then: a wake-up a message would cost more than the messages.
                self.0.session.wake();
            }
            return Poll::Ready(Some(Ok(message)));
        }
        match &mut waiting.end {
            End::Open => Poll::Pending,
            End::Ended(status) => Poll::Ready(status.take().map(Err)),
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.abandoned = true;
        waiting.messages.clear();
        let bytes = waiting.charge.bytes();
        waiting.charge.shrink(bytes);
        drop(waiting);
        self.0.session.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    fn message(id: u64) -> SessionResponse {
        SessionResponse { id, what: None }
    }

    #[tokio::test]
    async fn what_is_told_is_taken_in_order_and_counted_until_then() {
        let budget = ByteBudget::new(1);
        let (mut outbox, mut told) = pair(&budget);
        outbox.push(message(1));
        outbox.push(message(300));
        assert!(futures_util::poll!(told.next()).is_pending());
        outbox.flush();
        assert_eq!((outbox.bytes(), budget.used()), (5, 5));
        assert_eq!(told.next().await.unwrap().unwrap().id, 1);
        assert_eq!(budget.used(), 3);
        outbox.push(message(2));
        outbox.end(Some(Status::aborted("enough")));
        assert_eq!(told.next().await.unwrap().unwrap().id, 300);
        assert_eq!(told.next().await.unwrap().unwrap().id, 2);
        assert_eq!(told.next().await.unwrap().unwrap_err().code(), tonic::Code::Aborted);
        assert!(told.next().await.is_none() && budget.used() == 0);
    }

    #[tokio::test]
    async fn a_client_that_goes_gives_everything_back_and_a_panic_is_told() {
        let budget = ByteBudget::new(1);
        let (mut outbox, told) = pair(&budget);
        outbox.push(message(1));
        outbox.flush();
        drop(told);
        assert!(outbox.is_abandoned() && budget.used() == 0);
        let (outbox, mut told) = pair(&budget);
        drop(outbox);
        assert_eq!(told.next().await.unwrap().unwrap_err().code(), tonic::Code::Internal);
    }
}
