//! The profile of subscriptions to the results of Beamline's workers, version 1 (`docs/beamline.md`).
//!
//! Workers say the same in two shapes, and say it again when they are in doubt. So a subscriber gets one shape, the
//! flat one, and each result once; of its own tenant where a result names one; and, if it asks for that, of one
//! request alone. What cannot be read is told as a gap: it may have been what the subscriber waits for.

mod result;
mod seen;

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytestring::ByteString;
use contract::{Counter, Delivery, DeliveryStream, Error, Event, Gauge, Reply, Request};
use futures_util::Stream;

use self::result::WorkerResult;
use self::seen::Seen;
use super::beamline_router::tenant_of;

/// The word for it in the configuration.
pub const NAME: &str = "beamline-results-v1";
/// The header of a subscription that wants the results of one request: its `request_id`.
pub const REQUEST_ID: &str = "Beamline-Request-Id";
/// Results left out in a row before other work gets its turn: a backlog of somebody else's is read in one go else.
const LEFT_OUT_MAX: usize = 64;

/// What a route says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The tenant of local and anonymous peers.
    pub default_tenant: Arc<str>,
    /// Results that each stream remembers, so that their duplicates are left out.
    pub keys_max: usize,
}

impl Settings {
    /// What a subscription wants to hear.
    pub fn interest(&self, request: &Request) -> Interest {
        let tenant = tenant_of(&self.default_tenant, request).into();
        let request_id = request.headers.get(REQUEST_ID).filter(|id| !id.is_empty()).cloned();
        Interest { tenant, request_id, keys_max: self.keys_max }
    }
}

/// What became of the results that came on a route's streams, counted once a stream.
#[derive(Debug, Default)]
pub struct Tally {
    /// Handed on.
    pub delivered: Counter,
    /// Left out: they came before.
    pub duplicate: Counter,
    /// Left out: of another tenant.
    pub other_tenant: Counter,
    /// Left out: of another request than the one that was asked for.
    pub other_request: Counter,
    /// Not readable, and told as a gap.
    pub malformed: Counter,
    /// Results that streams remember now.
    pub keys: Gauge,
}

/// What one subscription wants to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    tenant: Box<str>,
    request_id: Option<ByteString>,
    keys_max: usize,
}

/// Reads the answer to a subscription: of its stream come results alone, as `interest` wants them.
pub fn decode(answer: Result<Reply, Error>, interest: Interest, tally: Arc<Tally>) -> Result<Reply, Error> {
    match answer {
        Ok(Reply::Stream(events)) => {
            let seen = Seen::new(interest.keys_max, Arc::clone(&tally));
            Ok(Reply::Stream(DeliveryStream::new(Results { events, interest, seen, tally })))
        }
        other => other,
    }
}

/// The results of one subscription.
struct Results {
    events: DeliveryStream,
    interest: Interest,
    seen: Seen,
    tally: Arc<Tally>,
}

impl Results {
    /// What of a delivery is told; `None` is nothing.
    fn told(&mut self, delivery: Arc<Delivery>) -> Option<Event> {
        let Some(result) = WorkerResult::read(&delivery.payload) else {
            self.tally.malformed.increment();
            return Some(Event::Gap { lost: NonZeroU64::new(1) });
        };
        let counter = if result.tenant_id.as_deref().is_some_and(|tenant| *tenant != *self.interest.tenant) {
            &self.tally.other_tenant
        } else if self.interest.request_id.as_ref().is_some_and(|wanted| result.request_id != **wanted) {
            &self.tally.other_request
        } else if self.seen.is_new(&result.request_id, &result.assignment_id) {
            self.tally.delivered.increment();
            let flat = result.flat.map(|flat| delivery.payload.slice_ref(flat));
            return Some(Event::Delivery(match flat {
                Some(flat) => Arc::new(delivery.with_payload(flat)),
                None => delivery,
            }));
        } else {
            &self.tally.duplicate
        };
        counter.increment();
        None
    }
}

impl Stream for Results {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        for _ in 0..LEFT_OUT_MAX {
            match ready!(Pin::new(&mut self.events).poll_next(context)) {
                Some(Ok(Event::Delivery(delivery))) => {
                    if let Some(event) = self.told(delivery) {
                        return Poll::Ready(Some(Ok(event)));
                    }
                }
                other => return Poll::Ready(other),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
