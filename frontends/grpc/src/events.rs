//! A stream of deliveries as the answer to a call.
//!
//! Nothing is queued here: hyper takes a message only when the client has room for it, so a slow reader fills its
//! own bounded queue behind the stream and no other.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use contract::{Delivery, DeliveryStream, DoorMeters, Drain, Error, Event, Kind, TraceContext};
use futures_util::Stream;
use prost::Message;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use crate::service::reply_too_large;
use crate::status::Telling;
use crate::{proto, shared};

/// What a stream needs of its door.
#[derive(Debug)]
pub(crate) struct Hall<'a> {
    pub(crate) drain: &'a Drain,
    pub(crate) meters: &'a Arc<DoorMeters>,
    pub(crate) telling: Telling,
    pub(crate) message_bytes_max: usize,
}

/// A message that an event can be told in.
pub(crate) trait Told: Sized {
    /// Whether they are the parts of one answer: then none may be missing, and the answer is finished when the gateway
    /// stops, like that of any request.
    const IS_ANSWER: bool;

    /// A delivery, in `bytes_max` bytes or not at all.
    fn delivery(delivery: &Arc<Delivery>, bytes_max: usize) -> Option<Self>;

    /// A loss; `None` when nobody can know how many.
    fn gap(lost: Option<NonZeroU64>) -> Self;
}

/// A loss.
pub(crate) fn gap(lost: Option<NonZeroU64>) -> proto::Gap {
    proto::Gap { lost: lost.map_or(0, NonZeroU64::get) }
}

impl Told for shared::SubscribeResponse {
    const IS_ANSWER: bool = false;

    fn delivery(delivery: &Arc<Delivery>, bytes_max: usize) -> Option<Self> {
        let told = Self { event: Some(shared::Event::Delivery(shared::delivery(delivery))) };
        (told.encoded_len() <= bytes_max).then_some(told)
    }

    fn gap(lost: Option<NonZeroU64>) -> Self {
        Self { event: Some(shared::Event::Gap(gap(lost))) }
    }
}

impl Told for proto::RequestStreamResponse {
    const IS_ANSWER: bool = true;

    fn delivery(delivery: &Arc<Delivery>, bytes_max: usize) -> Option<Self> {
        let (headers, payload) = (shared::headers(&delivery.headers), delivery.payload.clone());
        let told = Self { headers, payload, gap: None };
        (told.encoded_len() <= bytes_max).then_some(told)
    }

    fn gap(lost: Option<NonZeroU64>) -> Self {
        Self { gap: Some(gap(lost)), ..Self::default() }
    }
}

/// The answer.
pub(crate) struct Events<T> {
    stream: Option<DeliveryStream>,
    leave: Pin<Box<dyn Future<Output = ()> + Send>>,
    drain: Drain,
    until: Option<Pin<Box<Sleep>>>,
    trace: TraceContext,
    telling: Telling,
    message_bytes_max: usize,
    meters: Arc<DoorMeters>,
    told: std::marker::PhantomData<fn() -> T>,
}

impl<T: Told> Events<T> {
    /// The answer over `stream`, which is over at `until` at the latest.
    pub(crate) fn new(
        stream: DeliveryStream,
        until: Option<Instant>,
        trace: &TraceContext,
        hall: &Hall<'_>,
    ) -> Self {
        hall.meters.streams.add(1);
        Self {
            stream: Some(stream),
            leave: Box::pin(hall.drain.leave()),
            drain: hall.drain.clone(),
            until: until.map(|until| Box::pin(sleep_until(until))),
            trace: trace.clone(),
            telling: hall.telling,
            message_bytes_max: hall.message_bytes_max,
            meters: Arc::clone(hall.meters),
            told: std::marker::PhantomData,
        }
    }
}

impl<T> Events<T> {
    /// Ends the stream: all it holds is given back now, not when the client has read the last message.
    fn end(&mut self) {
        if self.stream.take().is_some() {
            self.meters.streams.add(-1);
        }
    }

    fn fail(&mut self, error: &Error) -> Poll<Option<Result<T, Status>>> {
        self.end();
        Poll::Ready(Some(Err(self.telling.status(error, &self.trace))))
    }
}

impl<T> Drop for Events<T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T: Told> Stream for Events<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stream.is_none() {
            return Poll::Ready(None);
        }
        if !T::IS_ANSWER && self.leave.as_mut().poll(context).is_ready() {
            let error = draining(&self.drain);
            return self.fail(&error);
        }
        if self.until.as_mut().is_some_and(|until| until.as_mut().poll(context).is_ready()) {
            return self.fail(&over());
        }
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        match Pin::new(stream).poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(Event::Delivery(delivery)))) => {
                let told = T::delivery(&delivery, self.message_bytes_max);
                if T::IS_ANSWER && told.is_none() {
                    return self.fail(&reply_too_large());
                }
                // What is larger than a message may be is told as lost, and told where.
                Poll::Ready(Some(Ok(told.unwrap_or_else(|| T::gap(Some(NonZeroU64::MIN))))))
            }
            Poll::Ready(Some(Ok(Event::Gap { lost }))) => Poll::Ready(Some(Ok(T::gap(lost)))),
            Poll::Ready(Some(Err(error))) => self.fail(&error),
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
        }
    }
}

/// The gateway stops.
pub(crate) fn draining(drain: &Drain) -> Error {
    Error::new(Kind::Draining, "the gateway is stopping; connect again").with_retry_after(drain.retry_after())
}

/// The deadline of a call that is a stream.
pub(crate) fn over() -> Error {
    Error::new(Kind::TimedOut, "the deadline of the call has passed")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use contract::{Headers, Subject};
    use futures_util::{StreamExt as _, stream};

    use super::*;
    use crate::shared::SubscribeResponse;

    fn events(
        stream: impl Stream<Item = Result<Event, Error>> + Send + 'static,
        drain: &Drain,
        meters: &Arc<DoorMeters>,
        until: Option<Instant>,
    ) -> Events<SubscribeResponse> {
        let telling = Telling { body_bytes_max: 0 };
        let hall = Hall { drain, meters, telling, message_bytes_max: 64 };
        Events::new(DeliveryStream::new(stream), until, &TraceContext::start(), &hall)
    }

    fn delivered(payload: Vec<u8>) -> Event {
        let delivery = Delivery::new(Subject::from_static("a.b"), Headers::new(), payload.into());
        Event::Delivery(Arc::new(delivery))
    }

    #[tokio::test]
    async fn deliveries_and_losses_are_told_and_what_is_too_large_is_a_loss() {
        let meters = Arc::default();
        let told = [delivered(vec![1]), Event::Gap { lost: None }, delivered(vec![0; 100])].map(Ok);
        let mut events = events(stream::iter(told), &Drain::new(), &meters, None);
        assert_eq!(meters.streams.get(), 1);
        let Some(shared::Event::Delivery(bytes)) = events.next().await.unwrap().unwrap().event else {
            panic!("a delivery comes first")
        };
        let delivery = proto::Delivery::decode(bytes).unwrap();
        assert_eq!((&*delivery.subject, delivery.payload), ("a.b", Bytes::from_static(&[1])));
        for lost in [0, 1] {
            let gap = Some(shared::Event::Gap(proto::Gap { lost }));
            assert_eq!(events.next().await.unwrap().unwrap().event, gap);
        }
        assert!(events.next().await.is_none());
        assert_eq!(meters.streams.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_the_gateway_or_with_its_deadline() {
        let (drain, meters) = (Drain::new(), Arc::default());
        let until = Some(Instant::now() + Duration::from_secs(1));
        let mut late = events(stream::pending(), &drain, &meters, until);
        assert_eq!(late.next().await.unwrap().unwrap_err().code(), tonic::Code::DeadlineExceeded);
        let mut open = events(stream::pending(), &drain, &meters, None);
        assert_eq!(meters.streams.get(), 1);
        drain.begin();
        assert_eq!(open.next().await.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
        assert!(open.next().await.is_none() && meters.streams.get() == 0);
    }
}
