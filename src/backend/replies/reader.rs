//! The reading end of an answer of many messages: it resolves to one message or to a stream, and the stream watches
//! the time between its messages.
//!
//! It owns what the answer holds at the backend, and dropping it is all there is to giving that back and to telling
//! the responder.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use contract::{Delivery, DeliveryStream, Error, Event, Reply, Subject};
use futures_util::Stream;
use tokio::time::{Sleep, sleep_until};

use super::meters::Open;
use super::{First, Replies, ReplyMeters, Responder, Taken};

/// What an answer holds at its backend, given back when dropped.
pub(crate) trait Source: Send + Unpin + 'static {
    /// Who is told that the rest is not wanted.
    type Responder: Responder;

    /// The first message came.
    fn answered(&self) {}

    /// Why nothing more can come.
    fn lost(&self) -> Error;
}

/// The reading end.
pub(crate) struct Reader<S: Source> {
    replies: Arc<Replies<S::Responder>>,
    meters: Arc<ReplyMeters>,
    /// What was asked: the parts are told under it.
    subject: Subject,
    timer: Option<Pin<Box<Sleep>>>,
    /// Once it is a stream.
    open: Option<Open>,
    over: bool,
    /// Dropped after the responder was told.
    source: S,
}

impl<S: Source> Reader<S> {
    /// Reads what `replies` is brought.
    pub(crate) fn new(
        replies: Arc<Replies<S::Responder>>,
        meters: Arc<ReplyMeters>,
        subject: Subject,
        source: S,
    ) -> Self {
        Self { replies, meters, subject, timer: None, open: None, over: false, source }
    }

    /// The answer, once its first message is there.
    pub(crate) async fn answer(mut self) -> Result<Reply, Error> {
        let first = poll_fn(|context| self.replies.poll_first(context)).await;
        match first {
            First::Only(message) => {
                self.source.answered();
                Ok(Reply::Message(message))
            }
            First::OfMany => {
                self.source.answered();
                self.open = Some(self.meters.open());
                Ok(Reply::Stream(DeliveryStream::new(self)))
            }
            First::Nothing(Some(error)) => Err(error),
            First::Nothing(None) => Err(self.source.lost()),
        }
    }
}

impl<S: Source> Stream for Reader<S> {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        loop {
            let look_again = match self.replies.poll_take(context) {
                Ok(Taken::Part(message)) => {
                    let delivery = Delivery::new(self.subject.clone(), message.headers, message.payload);
                    return Poll::Ready(Some(Ok(Event::Delivery(Arc::new(delivery)))));
                }
                Ok(Taken::End { error, lost }) => {
                    self.over = true;
                    let error = if lost { Some(self.source.lost()) } else { error };
                    return Poll::Ready(error.map(Err));
                }
                Err(look_again) => look_again,
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(look_again)));
            if timer.deadline() != look_again {
                timer.as_mut().reset(look_again);
            }
            ready!(timer.as_mut().poll(context));
            self.replies.expire();
        }
    }
}

impl<S: Source> Drop for Reader<S> {
    fn drop(&mut self) {
        let end = self.replies.close();
        if let Some(open) = self.open.take() {
            open.end(end);
        }
    }
}
