//! The queue of one subscription: bounded in messages and in bytes. When it is full the oldest message goes,
//! and the reader is told how many went before it gets the next one: the sender never waits.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use contract::Delivery;

use super::slot::ReplyHandle;

/// A message in a queue.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) delivery: Arc<Delivery>,
    pub(super) reply: Option<ReplyHandle>,
}

impl Letter {
    fn bytes(&self) -> usize {
        self.delivery.bytes()
    }
}

/// What a reader takes out.
#[derive(Debug)]
pub(super) enum Taken {
    /// So many messages were lost before the next one.
    Lost(NonZeroU64),
    /// The next message.
    Letter(Letter),
}

#[derive(Debug)]
pub(super) struct Mailbox {
    messages_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    letters: VecDeque<Letter>,
    bytes: usize,
    lost: u64,
    closed: bool,
    reader: Option<Waker>,
}

impl Mailbox {
    /// An empty queue of at most `messages_max` (at least 1) messages of `bytes_max` bytes together.
    pub(super) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { messages_max: messages_max.max(1), bytes_max, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a letter in, and says how many older ones went for it; `None` when the queue is closed.
    pub(super) fn put(&self, letter: Letter) -> Option<u64> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        state.bytes += letter.bytes();
        state.letters.push_back(letter);
        let mut gone = 0;
        while state.letters.len() > self.messages_max
            || (state.bytes > self.bytes_max && state.letters.len() > 1)
        {
            let oldest = state.letters.pop_front().expect("there is more than one letter");
            state.bytes -= oldest.bytes();
            gone += 1;
        }
        state.lost += gone;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Some(gone)
    }

    /// Takes the next thing out; `None` when the queue is closed and empty.
    pub(super) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<Taken>> {
        let mut state = self.state();
        // All that went is older than all that is here.
        if let Some(lost) = NonZeroU64::new(std::mem::take(&mut state.lost)) {
            return Poll::Ready(Some(Taken::Lost(lost)));
        }
        if let Some(letter) = state.letters.pop_front() {
            state.bytes -= letter.bytes();
            return Poll::Ready(Some(Taken::Letter(letter)));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes nothing more in; what is in can still be taken out.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Closes, and forgets what is in.
    pub(super) fn discard(&self) {
        self.close();
        let letters = std::mem::take(&mut self.state().letters);
        drop(letters);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use contract::{Headers, Subject};

    use super::*;

    fn letter(bytes: usize) -> Letter {
        let subject = Subject::from_static("a");
        let payload = Bytes::from(vec![0; bytes]);
        let delivery = Arc::new(Delivery::new(subject, Headers::new(), payload));
        Letter { delivery, reply: None }
    }

    fn take(mailbox: &Mailbox) -> Option<Result<usize, u64>> {
        match mailbox.poll_take(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => None,
            Poll::Ready(taken) => Some(match taken? {
                Taken::Lost(lost) => Err(lost.get()),
                Taken::Letter(letter) => Ok(letter.delivery.payload.len()),
            }),
        }
    }

    #[test]
    fn the_oldest_go_and_are_counted_before_the_next() {
        let mailbox = Mailbox::new(2, 1000);
        let gone: Vec<_> = (1..=5).map(|bytes| mailbox.put(letter(bytes)).unwrap()).collect();
        assert_eq!(gone, [0, 0, 1, 1, 1]);
        assert_eq!([take(&mailbox), take(&mailbox)], [Some(Err(3)), Some(Ok(4))]);
        mailbox.put(letter(6)).unwrap();
        assert_eq!([take(&mailbox), take(&mailbox), take(&mailbox)], [Some(Ok(5)), Some(Ok(6)), None]);
    }

    #[test]
    fn bytes_are_bounded_and_the_newest_stays() {
        let mailbox = Mailbox::new(100, 10);
        assert_eq!(mailbox.put(letter(5)), Some(0));
        assert_eq!(mailbox.put(letter(5)), Some(1));
        assert_eq!(mailbox.put(letter(50)), Some(1));
        assert_eq!([take(&mailbox), take(&mailbox), take(&mailbox)], [Some(Err(2)), Some(Ok(50)), None]);
    }

    #[test]
    fn closed_takes_nothing_more_and_gives_the_rest() {
        let mailbox = Mailbox::new(2, 10);
        mailbox.put(letter(1)).unwrap();
        mailbox.close();
        assert_eq!(mailbox.put(letter(2)), None);
        assert_eq!(take(&mailbox), Some(Ok(1)));
        assert!(matches!(mailbox.poll_take(&mut Context::from_waker(Waker::noop())), Poll::Ready(None)));
    }
}
