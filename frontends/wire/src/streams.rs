//! The open streams of one connection, each known by a key: a name, or the id of the question it answers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use contract::{DeliveryStream, DoorMeters, Error, Event};
use futures_util::Stream;
use futures_util::stream::SelectAll;

/// What a stream yielded: an event, its end, or its failure.
#[derive(Debug)]
pub enum Yielded {
    /// A message, or a gap.
    Event(Event),
    /// There is no more; the stream is closed.
    Complete,
    /// There is no more, by a failure; the stream is closed.
    Failed(Error),
}

/// A set of streams, polled only where something happened.
#[derive(Debug)]
pub struct Streams<K: Unpin> {
    open: SelectAll<Keyed<K>>,
    count: usize,
    meters: Arc<DoorMeters>,
}

#[derive(Debug)]
struct Keyed<K> {
    key: K,
    /// `None` once it is over; then this is taken out of the set when it is polled next.
    deliveries: Option<DeliveryStream>,
    waker: Option<Waker>,
}

impl<K: Clone + Unpin> Streams<K> {
    /// None yet, counted by `meters`.
    pub fn new(meters: Arc<DoorMeters>) -> Self {
        Self { open: SelectAll::new(), count: 0, meters }
    }

    /// Number of open streams.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether one with such a key is open.
    pub fn has(&self, is: impl Fn(&K) -> bool) -> bool {
        self.keys().any(is)
    }

    /// Adds a stream. The caller has looked that the key is free.
    pub fn open(&mut self, key: K, deliveries: DeliveryStream) {
        self.open.push(Keyed { key, deliveries: Some(deliveries), waker: None });
        self.count += 1;
        self.meters.streams.add(1);
    }

    /// Drops the stream with such a key at once, with all it holds; says whether there was one.
    pub fn end(&mut self, is: impl Fn(&K) -> bool) -> bool {
        let mut open = self.open.iter_mut();
        let Some(stream) = open.find(|stream| stream.deliveries.is_some() && is(&stream.key)) else {
            return false;
        };
        stream.deliveries = None;
        if let Some(waker) = stream.waker.take() {
            waker.wake();
        }
        self.over();
        true
    }

    /// The keys of the open streams.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.open.iter().filter(|stream| stream.deliveries.is_some()).map(|stream| &stream.key)
    }

    /// What the next stream with news yields. `Pending` when there is none, also when no stream is open.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(K, Yielded)> {
        match Pin::new(&mut self.open).poll_next(context) {
            Poll::Ready(Some((key, yielded))) => {
                if !matches!(yielded, Yielded::Event(_)) {
                    self.over();
                }
                Poll::Ready((key, yielded))
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn over(&mut self) {
        self.count -= 1;
        self.meters.streams.add(-1);
    }
}

impl<K: Unpin> Drop for Streams<K> {
    fn drop(&mut self) {
        let open = i64::try_from(self.count).expect("a connection has few streams");
        self.meters.streams.add(-open);
    }
}

impl<K: Clone + Unpin> Stream for Keyed<K> {
    type Item = (K, Yielded);

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
        Poll::Ready(Some((self.key.clone(), yielded)))
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
        assert!(nothing && streams.has(|key| *key == "a"));
        assert!(streams.end(|key| *key == "a") && !streams.end(|key| *key == "a"));
        assert_eq!((Arc::strong_count(&guard), streams.len(), meters.streams.get()), (1, 0, 0));
        streams.open("a", DeliveryStream::new(stream::empty()));
        let (key, yielded) = poll_fn(|context| streams.poll_next(context)).await;
        assert!(key == "a" && matches!(yielded, Yielded::Complete));
        assert_eq!(streams.len(), 0);
    }
}
