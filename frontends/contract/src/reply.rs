//! The reply: an acceptance, one message, or a stream of messages with its losses told.

use std::fmt;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

use crate::{Delivery, Error, Headers};

/// The answer to a request.
#[derive(Debug)]
pub enum Reply {
    /// A publish was handed to a live connection of the backend: no more is promised.
    Accepted,
    /// The answer to a request.
    Message(Message),
    /// What a subscription (or a request with many answers) yields.
    Stream(DeliveryStream),
}

/// One message back.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Headers of the responder.
    pub headers: Headers,
    /// The payload, as the responder sent it.
    pub payload: Bytes,
}

/// What a stream yields.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message.
    Delivery(Arc<Delivery>),
    /// Messages were lost before the next one.
    Gap {
        /// How many; `None` when nobody can know.
        lost: Option<NonZeroU64>,
    },
}

/// A stream of events. It ends with `None` (complete) or after one `Err`. It owns what must live as long as
/// it does: the subscription, permits, gauges; dropping it gives all of them back.
pub struct DeliveryStream {
    events: Pin<Box<dyn Stream<Item = Result<Event, Error>> + Send>>,
    held: Vec<Box<dyn Send>>,
}

impl DeliveryStream {
    /// A stream over `events`.
    pub fn new(events: impl Stream<Item = Result<Event, Error>> + Send + 'static) -> Self {
        Self { events: Box::pin(events), held: Vec::new() }
    }

    /// Keeps `guard` until the stream is dropped.
    pub fn hold(&mut self, guard: impl Send + 'static) {
        self.held.push(Box::new(guard));
    }
}

impl Stream for DeliveryStream {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(context)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.events.size_hint()
    }
}

impl fmt::Debug for DeliveryStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DeliveryStream").field("held", &self.held.len()).finish_non_exhaustive()
    }
}
