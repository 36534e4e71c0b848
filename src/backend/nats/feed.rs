//! The bounded queue between a subscription and its reader.
//!
//! It never makes the connection wait: what does not fit pushes the oldest out, and the reader is told in
//! place how many it lost. A loss that nobody can count (the connection was gone for a while) is a marker
//! in the queue, so that it stands where it happened.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use contract::{Delivery, Error, Event};

use super::counts::Counts;

/// One subscription's queue, written by its task and read by its stream.
pub(super) struct Feed {
    queue: Mutex<Queue>,
    capacity: usize,
    bytes_max: usize,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// Lost in front of the first item.
    lost: Lost,
    end: Option<Result<(), Error>>,
    ended: bool,
    waker: Option<Waker>,
}

enum Item {
    Delivery(Arc<Delivery>),
    /// Messages were lost here, nobody knows how many.
    Gap,
}

#[derive(Default)]
enum Lost {
    #[default]
    Nothing,
    Known(NonZeroU64),
    Unknown,
}

impl Feed {
    /// A queue of at most `capacity` messages and `bytes_max` bytes, but always room for one message.
    pub(super) fn new(capacity: usize, bytes_max: usize, counts: Arc<Counts>) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), capacity: capacity.max(1), bytes_max, counts })
    }

    /// Adds a message; the oldest leave when it does not fit.
    pub(super) fn push(&self, delivery: Delivery) {
        if let Some(budget) = self.counts.memory.budget() {
            delivery.charge_to(budget);
        }
        let mut queue = self.lock();
        queue.bytes += weight(&delivery);
        queue.items.push_back(Item::Delivery(Arc::new(delivery)));
        while queue.items.len() > self.capacity || (queue.bytes > self.bytes_max && queue.items.len() > 1) {
            match queue.items.pop_front() {
                Some(Item::Delivery(oldest)) => {
                    queue.bytes -= weight(&oldest);
                    queue.lost.add_one();
                    self.counts.dropped_slow.increment();
                }
                Some(Item::Gap) => queue.lost = Lost::Unknown,
                None => break,
            }
        }
        queue.wake();
    }

    /// Tells the reader, behind what is queued, that messages were lost and nobody knows how many.
    pub(super) fn gap(&self) {
        let mut queue = self.lock();
        match queue.items.back() {
            Some(Item::Gap) => {}
            Some(Item::Delivery(_)) => queue.items.push_back(Item::Gap),
            None => queue.lost = Lost::Unknown,
        }
        queue.wake();
    }

    /// Ends the stream behind what is queued. The first end counts.
    pub(super) fn end(&self, result: Result<(), Error>) {
        let mut queue = self.lock();
        if !queue.ended {
            queue.ended = true;
            queue.end = Some(result);
            queue.wake();
        }
    }

    /// Whether it was ended; what is queued may still be read.
    pub(super) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    /// The next event for the reader.
    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        let mut queue = self.lock();
        match std::mem::take(&mut queue.lost) {
            Lost::Nothing => {}
            Lost::Known(lost) => return Poll::Ready(Some(Ok(Event::Gap { lost: Some(lost) }))),
            Lost::Unknown => return Poll::Ready(Some(Ok(Event::Gap { lost: None }))),
        }
        match queue.items.pop_front() {
            Some(Item::Delivery(delivery)) => {
                queue.bytes -= weight(&delivery);
                Poll::Ready(Some(Ok(Event::Delivery(delivery))))
            }
            Some(Item::Gap) => Poll::Ready(Some(Ok(Event::Gap { lost: None }))),
            None if queue.ended => Poll::Ready(queue.end.take().and_then(Result::err).map(Err)),
            None => {
                queue.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Messages and markers that wait to be read.
    pub(super) fn waiting(&self) -> usize {
        self.lock().items.len()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Lost {
    fn add_one(&mut self) {
        *self = match *self {
            Self::Nothing => Self::Known(NonZeroU64::MIN),
            Self::Known(lost) => Self::Known(lost.saturating_add(1)),
            Self::Unknown => Self::Unknown,
        };
    }
}

/// What a message takes of the queue's bytes.
fn weight(delivery: &Delivery) -> usize {
    delivery.subject.as_str().len() + delivery.headers.bytes() + delivery.payload.len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use contract::{Headers, Kind, Subject};

    use super::*;

    fn feed(capacity: usize, bytes_max: usize) -> Arc<Feed> {
        Feed::new(capacity, bytes_max, Arc::default())
    }

    fn push(feed: &Feed, payload: &str) {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        feed.push(Delivery::new(Subject::from_static("a"), Headers::new(), payload));
    }

    /// Everything that can be read now, as words; `…` when it would wait.
    fn read(feed: &Feed) -> Vec<String> {
        let mut context = Context::from_waker(Waker::noop());
        let mut words = Vec::new();
        loop {
            words.push(match feed.poll_next(&mut context) {
                Poll::Ready(Some(Ok(Event::Delivery(it)))) => {
                    String::from_utf8_lossy(&it.payload).into_owned()
                }
                Poll::Ready(Some(Ok(Event::Gap { lost }))) => match lost {
                    Some(lost) => format!("-{lost}"),
                    None => "-?".to_owned(),
                },
                Poll::Ready(Some(Err(error))) => error.kind().to_string(),
                Poll::Ready(None) => {
                    words.push("end".to_owned());
                    return words;
                }
                Poll::Pending => {
                    words.push("…".to_owned());
                    return words;
                }
            });
        }
    }

    #[test]
    fn the_oldest_leave_and_are_counted() {
        let feed = feed(2, 1000);
        for payload in ["1", "2", "3", "4", "5"] {
            push(&feed, payload);
        }
        assert_eq!(read(&feed), ["-3", "4", "5", "…"]);
        assert_eq!(feed.counts.dropped_slow.get(), 3);
        push(&feed, "6");
        assert_eq!(read(&feed), ["6", "…"]);
    }

    #[test]
    fn bytes_are_bounded_and_one_message_always_fits() {
        let feed = feed(100, 8);
        for payload in ["123", "456", "a long one that is over the limit by itself"] {
            push(&feed, payload);
        }
        assert_eq!(read(&feed), ["-2", "a long one that is over the limit by itself", "…"]);
        assert_eq!(feed.lock().bytes, 0);
    }

    #[test]
    fn an_unknown_gap_stands_where_it_happened_and_swallows_counts() {
        let feed = feed(3, 1000);
        feed.gap();
        feed.gap();
        push(&feed, "1");
        feed.gap();
        feed.gap();
        push(&feed, "2");
        assert_eq!(read(&feed), ["-?", "1", "-?", "2", "…"]);
        push(&feed, "1");
        feed.gap();
        for payload in ["2", "3", "4"] {
            push(&feed, payload);
        }
        assert_eq!(read(&feed), ["-?", "2", "3", "4", "…"]);
    }

    #[test]
    fn an_end_comes_behind_what_is_queued_and_once() {
        let feed = feed(3, 1000);
        push(&feed, "1");
        feed.end(Err(Error::new(Kind::Denied, "no")));
        feed.end(Ok(()));
        assert!(feed.is_ended());
        assert_eq!(read(&feed), ["1", "denied", "end"]);
        assert_eq!(read(&feed), ["end"]);
    }
}
