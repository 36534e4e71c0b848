//! The receiving ends: what listens inside the process, what a door's stream reads, and the guard of a
//! responder. Each gives its seat back when dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use contract::{Delivery, Error, Event, Headers, Subject};
use futures_util::Stream;

use super::broker::Seat;
use super::mailbox::{Letter, Mailbox, Taken};
use super::slot::ReplyHandle;

/// A responder's place in the broker; dropping it takes the responder away.
#[derive(Debug)]
#[must_use = "the responder goes when this is dropped"]
pub struct Attached(#[expect(dead_code, reason = "held to be dropped")] pub(super) Seat);

/// What a subscription inside the process receives.
#[derive(Clone, Debug)]
pub struct Incoming {
    delivery: Arc<Delivery>,
    /// The right to answer, if an answer is awaited.
    pub reply: Option<ReplyHandle>,
}

impl Incoming {
    /// The concrete subject.
    pub fn subject(&self) -> &Subject {
        &self.delivery.subject
    }

    /// The headers, the same that go out to NATS.
    pub fn headers(&self) -> &Headers {
        &self.delivery.headers
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.delivery.payload
    }
}

/// A subscription inside the process: a stream that ends when the broker closes. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    seat: Seat,
    mailbox: Arc<Mailbox>,
    lost: u64,
}

impl Subscription {
    pub(super) fn new(seat: Seat, mailbox: Arc<Mailbox>) -> Self {
        Self { seat, mailbox, lost: 0 }
    }

    /// How many messages were lost, up to the one received last, because they were not read in time.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl Stream for Subscription {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Incoming>> {
        loop {
            match ready!(self.mailbox.poll_take(context)) {
                Some(Taken::Lost(lost)) => self.lost += lost.get(),
                Some(Taken::Letter(Letter { delivery, reply })) => {
                    return Poll::Ready(Some(Incoming { delivery, reply }));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.seat.leave();
        self.mailbox.discard();
    }
}

/// What a door's stream reads: deliveries and gaps. Dropping it unsubscribes.
#[derive(Debug)]
pub(super) struct Deliveries {
    seat: Seat,
    mailbox: Arc<Mailbox>,
}

impl Deliveries {
    pub(super) fn new(seat: Seat, mailbox: Arc<Mailbox>) -> Self {
        Self { seat, mailbox }
    }
}

impl Stream for Deliveries {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let taken = ready!(self.mailbox.poll_take(context));
        Poll::Ready(taken.map(|taken| {
            Ok(match taken {
                Taken::Lost(lost) => Event::Gap { lost: Some(lost) },
                Taken::Letter(letter) => Event::Delivery(letter.delivery),
            })
        }))
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.seat.leave();
        self.mailbox.discard();
    }
}
