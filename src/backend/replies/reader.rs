//! The reading end of an answer of many messages: it resolves to one message or to a stream, whose time a task watches,
//! so that it is over in time also if nobody reads it.
//!
//! It owns what the answer holds at the backend, and dropping it is all there is to giving that back and to telling
//! the responder.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use contract::{Delivery, DeliveryStream, Error, Event, Reply, Subject};
use futures_util::Stream;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use super::meters::Open;
use super::{First, Replies, ReplyMeters, Responder, Taken, Time};

/// What an answer holds at its backend, given back when dropped.
pub(crate) trait Source: Send + Unpin + 'static {
    /// Who is told that the rest is not wanted.
    type Responder: Responder;

    /// The first message came.
    fn answered(&self) {}

    /// Why nothing more can come.
    fn lost(&self) -> Error;
}

/// The reading end, before the first message.
pub(crate) struct Reader<S: Source> {
    replies: Arc<Replies<S::Responder>>,
    meters: Arc<ReplyMeters>,
    /// What was asked: the parts are told under it.
    subject: Subject,
    /// Dropped after the responder was told; `None` once it is a stream.
    source: Option<S>,
}

impl<S: Source> Reader<S> {
    /// Reads what `replies` is brought.
    pub(crate) fn new(
        replies: Arc<Replies<S::Responder>>,
        meters: Arc<ReplyMeters>,
        subject: Subject,
        source: S,
    ) -> Self {
        Self { replies, meters, subject, source: Some(source) }
    }

    /// The answer, once its first message is there.
    pub(crate) async fn answer(self) -> Result<Reply, Error> {
        let first = poll_fn(|context| self.replies.poll_first(context)).await;
        let source = self.source.as_ref().expect("it is a stream below only");
        match first {
            First::Only(message) => {
                source.answered();
                Ok(Reply::Message(message))
            }
            First::OfMany => {
                source.answered();
                Ok(Reply::Stream(DeliveryStream::new(self.into_parts())))
            }
            First::Nothing(Some(error)) => Err(error),
            First::Nothing(None) => Err(source.lost()),
        }
    }

    fn into_parts(mut self) -> Parts<S> {
        let held = self.source.take().map(|source| Held { open: self.meters.open(), source });
        let (replies, held) = (Arc::clone(&self.replies), Arc::new(Holding(Mutex::new(held))));
        let watching = tokio::spawn(watch(Arc::clone(&replies), Arc::clone(&held))).abort_handle();
        Parts { replies, subject: self.subject.clone(), held, watching, over: false }
    }
}

impl<S: Source> Drop for Reader<S> {
    fn drop(&mut self) {
        if self.source.is_some() {
            self.replies.close();
        }
    }
}

/// The reading end of a stream.
struct Parts<S: Source> {
    replies: Arc<Replies<S::Responder>>,
    subject: Subject,
    held: Arc<Holding<S>>,
    /// Ends when this does.
    watching: AbortHandle,
    over: bool,
}

/// What a stream holds until it is dropped, or until its time is over.
struct Holding<S>(Mutex<Option<Held<S>>>);

struct Held<S> {
    open: Open,
    /// Dropped after the responder was told.
    source: S,
}

impl<S: Source> Holding<S> {
    /// Gives it back, if that was not done yet: the answer ended in this word.
    fn release(&self, end: &str) {
        let held = self.lock().take();
        if let Some(Held { open, source }) = held {
            open.end(end);
            drop(source);
        }
    }

    fn lost(&self) -> Option<Error> {
        self.lock().as_ref().map(|held| held.source.lost())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held<S>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the answer when its time is over, whoever reads, and gives back what it held. One that has ended otherwise gives
/// it back when its time would have been over, if its reader still has not come to the end.
async fn watch<S: Source>(replies: Arc<Replies<S::Responder>>, held: Arc<Holding<S>>) {
    loop {
        match replies.expire() {
            Time::Runs(due) => sleep_until(due).await,
            // Its reader has to ask the source why.
            Time::Over { lost: true, .. } => return,
            Time::Over { end, .. } => return held.release(end),
        }
    }
}

impl<S: Source> Stream for Parts<S> {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        match ready!(self.replies.poll_take(context)) {
            Taken::Part(message) => {
                let delivery = Delivery::new(self.subject.clone(), message.headers, message.payload);
                Poll::Ready(Some(Ok(Event::Delivery(Arc::new(delivery)))))
            }
            Taken::End { error, lost } => {
                self.over = true;
                let error = if lost { self.held.lost() } else { error };
                Poll::Ready(error.map(Err))
            }
        }
    }
}

impl<S: Source> Drop for Parts<S> {
    fn drop(&mut self) {
        self.watching.abort();
        self.held.release(self.replies.close());
    }
}
