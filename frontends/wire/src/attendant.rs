//! Drives a connection whose protocol does not always read, and ends it when its peer has gone meanwhile.
//!
//! hyper stops reading from a client that has sent more than the request that is being answered: so the end behind it
//! would be read only after the answer. Here each turn of the connection says what it did about reading. Who waits
//! for bytes will find their end himself, and who reads them is let read on, because what came before an end still
//! counts. Only a connection that has work and did not ask for bytes at all is cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use crate::departure::{Departure, Socket};

/// Bytes were not asked for.
const NOT_ASKED: u8 = 0;
/// Bytes came, or an end.
const CAME: u8 = 1;
/// Bytes were asked for and are awaited.
const AWAITED: u8 = 2;

/// What one turn of a connection did about reading; shared by its transport, which tells, and its attendant.
#[derive(Clone, Debug, Default)]
pub struct Turn(Arc<AtomicU8>);

impl Turn {
    /// The connection asked for bytes, and they came or must be awaited.
    pub fn asked<T>(&self, came: &Poll<T>) {
        self.0.store(if came.is_ready() { CAME } else { AWAITED }, Ordering::Relaxed);
    }

    fn begin(&self) {
        self.0.store(NOT_ASKED, Ordering::Relaxed);
    }

    fn end(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Who drives a connection.
pub struct Attendant {
    turn: Turn,
    /// Resolves once; then there is nothing to wait for any more.
    departure: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Attendant {
    /// Of the connection whose transport tells `turn`, and whose peer's end is told by `departure`.
    pub fn new<S: Socket>(turn: Turn, departure: &Departure<S>) -> Self {
        Self { turn, departure: Some(Box::pin(departure.noticed())) }
    }

    /// Gives the connection a turn; ready with what it ended with, or with `None` when the peer has gone while
    /// `has_work` and reading would not tell.
    pub fn poll<F: Future>(
        &mut self,
        context: &mut Context<'_>,
        connection: Pin<&mut F>,
        has_work: impl FnOnce() -> bool,
    ) -> Poll<Option<F::Output>> {
        self.turn.begin();
        if let Poll::Ready(ended) = connection.poll(context) {
            return Poll::Ready(Some(ended));
        }
        let turn = self.turn.end();
        if turn == AWAITED || !has_work() {
            return Poll::Pending;
        }
        if let Some(departure) = &mut self.departure {
            ready!(departure.as_mut().poll(context));
            self.departure = None;
        }
        if turn == CAME {
            // It may go on reading, up to the end.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests;
