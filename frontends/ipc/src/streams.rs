//! The open streams of one connection, each known by its name.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use contract::{DeliveryStream, DoorMeters, Error, Event};
use futures_util::Stream;
use futures_util::stream::SelectAll;

/// What a stream yielded: an event, its end, or its failure.
#[derive(Debug)]
pub(crate) enum Yielded {
    Event(Event),
    Complete,
    Failed(Error),
}

/// A set of streams, polled only where something happened.
#[derive(Debug)]
pub(crate) struct Streams {
    open: SelectAll<Named>,
    count: usize,
    meters: Arc<DoorMeters>,
}

#[derive(Debug)]
struct Named {
    name: Arc<str>,
    /// `None` once it is over; then this is taken out of the set when it is polled next.
    deliveries: Option<DeliveryStream>,
    waker: Option<Waker>,
}

impl Streams {
    pub(crate) fn new(meters: Arc<DoorMeters>) -> Self {
        Self { open: SelectAll::new(), count: 0, meters }
    }

    /// Number of open streams.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether one of this name is open.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.open.iter().any(|stream| stream.deliveries.is_some() && *stream.name == *name)
    }

    /// Adds a stream. The caller has looked that the name is free.
    pub(crate) fn open(&mut self, name: &str, deliveries: DeliveryStream) {
        self.open.push(Named { name: name.into(), deliveries: Some(deliveries), waker: None });
        self.count += 1;
        self.meters.streams.add(1);
    }

    /// Drops the stream of this name at once; says whether there was one.
    pub(crate) fn end(&mut self, name: &str) -> bool {
        let mut open = self.open.iter_mut();
        let Some(stream) = open.find(|stream| stream.deliveries.is_some() && *stream.name == *name) else {
            return false;
        };
        stream.deliveries = None;
        if let Some(waker) = stream.waker.take() {
            waker.wake();
        }
        self.over();
        true
    }

    /// The names of the open streams.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        let open = self.open.iter().filter(|stream| stream.deliveries.is_some());
        open.map(|stream| Arc::clone(&stream.name)).collect()
    }

    /// What the next stream with news yields. `Pending` when there is none, also when no stream is open.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(Arc<str>, Yielded)> {
        match Pin::new(&mut self.open).poll_next(context) {
            Poll::Ready(Some((name, yielded))) => {
                if !matches!(yielded, Yielded::Event(_)) {
                    self.over();
                }
                Poll::Ready((name, yielded))
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn over(&mut self) {
        self.count -= 1;
        self.meters.streams.add(-1);
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let open = i64::try_from(self.count).expect("a connection has few streams");
        self.meters.streams.add(-open);
    }
}

impl Stream for Named {
    type Item = (Arc<str>, Yielded);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(deliveries) = &mut self.deliveries else { return Poll::Ready(None) };
        let yielded = match Pin::new(deliveries).poll_next(context) {
            Poll::Pending => {
                self.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(event))) => Yielded::Event(event),
            Poll::Ready(Some(Err(error))) => Yielded::Failed(error),
            Poll::Ready(None) => Yielded::Complete,
        };
        if !matches!(yielded, Yielded::Event(_)) {
            self.deliveries = None;
        }
        Poll::Ready(Some((Arc::clone(&self.name), yielded)))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn an_ended_stream_is_dropped_at_once_and_its_name_is_free() {
        let meters = Arc::new(DoorMeters::default());
        let mut streams = Streams::new(meters.clone());
        let guard = Arc::new(());
        let mut deliveries = DeliveryStream::new(stream::pending());
        deliveries.hold(guard.clone());
        streams.open("a", deliveries);
        let nothing = poll_fn(|context| Poll::Ready(streams.poll_next(context).is_pending())).await;
        assert!(nothing && streams.has("a"));
        assert!(streams.end("a") && !streams.end("a"));
        assert_eq!((Arc::strong_count(&guard), streams.len(), meters.streams.get()), (1, 0, 0));
        streams.open("a", DeliveryStream::new(stream::empty()));
        let (name, yielded) = poll_fn(|context| streams.poll_next(context)).await;
        assert!(&*name == "a" && matches!(yielded, Yielded::Complete));
        assert_eq!(streams.len(), 0);
    }
}
