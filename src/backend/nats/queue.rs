//! The bytes that wait in a link's queue, from the hand-over until they are written to the socket.
//!
//! The library bounds its queue by commands only, and the door's charge for a payload ends with the answer,
//! which may be a timeout: while a server stands still, large messages would pile up beyond every limit. The
//! library says nothing of what left its queue, but drops a payload when it is written. So a payload goes
//! in inside an owner that gives its bytes back when it is dropped. Most small messages have no owner, to save its
//! allocation: they are counted together, and every so many bytes one of them has an owner for all before it. A link
//! writes in order, so when that one is written they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::message::OutboundMessage;
use bytes::Bytes;
use contract::Charge;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::backend::memory::Memory;

/// Messages of at most so many bytes, headers included, are counted together.
pub(super) const SMALL_BYTES_MAX: usize = 4096;
/// How many bytes of small messages are counted at once: little beside any queue, and one allocation in 16 messages or
/// more.
const BATCH_BYTES: usize = 64 * 1024;
/// What a small message costs beside its payload and headers: its place in the queue, and its subjects.
const MESSAGE_BYTES: usize = size_of::<OutboundMessage>() + 64;

/// The room for queued bytes of one link.
pub(super) struct Queue {
    room: Arc<Semaphore>,
    bytes_max: usize,
    /// Bytes of small messages that were handed over and are not counted yet.
    small: AtomicUsize,
    batch_bytes: usize,
    memory: Memory,
}

/// There is no room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Queue {
    /// Room for `bytes_max` bytes; a single message that is larger fits when nothing else is queued.
    /// What is queued is charged to `memory`.
    pub(super) fn new(bytes_max: usize, memory: Memory) -> Self {
        let bytes_max = bytes_max.clamp(1, u32::MAX as usize);
        let batch_bytes = BATCH_BYTES.min(bytes_max / 4);
        let room = Arc::new(Semaphore::new(bytes_max));
        Self { room, bytes_max, small: AtomicUsize::new(0), batch_bytes, memory }
    }

    /// Bytes queued, up to a batch of small messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes_max - self.room.available_permits()
    }

    /// Takes room for a message at once, or not at all.
    pub(super) fn admit(&self, message: OutboundMessage) -> Result<OutboundMessage, Full> {
        let Some(counted) = self.counted(&message) else { return Ok(message) };
        if let Ok(permit) = self.room.clone().try_acquire_many_owned(counted.permits) {
            return Ok(self.owned(message, permit));
        }
        // Those before it wait all the same, and the next one asks for them again.
        self.small.fetch_add(counted.before, Ordering::Relaxed);
        Err(Full)
    }

    /// Takes room for a message, and waits for it behind those who wait already. Of small messages only that waits which
    /// has the room of a batch to take.
    pub(super) async fn wait(&self, message: OutboundMessage) -> OutboundMessage {
        let Some(counted) = self.counted(&message) else { return message };
        let permit: Result<_, AcquireError> = self.room.clone().acquire_many_owned(counted.permits).await;
        self.owned(message, permit.expect("the semaphore is never closed"))
    }

    fn owned(&self, message: OutboundMessage, permit: OwnedSemaphorePermit) -> OutboundMessage {
        let _charge = self.memory.charge_always(permit.num_permits());
        let payload = Bytes::from_owner(Owned { payload: message.payload, _permit: permit, _charge });
        OutboundMessage { payload, ..message }
    }

    /// The bytes that count, as far as they fit at all; `None` for a small message within a batch.
    fn counted(&self, message: &OutboundMessage) -> Option<Counted> {
        let headers = message.headers.as_ref().map_or(0, |headers| {
            let text = |name: &str, value: &str| name.len() + value.len() + ": \r\n".len();
            let values = headers.iter().flat_map(|(name, values)| {
                values.iter().map(move |value| text(name.as_ref(), value.as_str()))
            });
            values.sum()
        });
        let bytes = message.payload.len() + headers;
        let fits = |bytes: usize| u32::try_from(bytes.min(self.bytes_max)).expect("bytes_max fits");
        if bytes > SMALL_BYTES_MAX {
            return Some(Counted { permits: fits(bytes), before: 0 });
        }
        let own = bytes + MESSAGE_BYTES;
        // Relaxed: the count guards an amount, it publishes no other memory.
        let before = self.small.fetch_add(own, Ordering::Relaxed);
        if before + own < self.batch_bytes {
            return None;
        }
        // Whoever else is here counts from what is left.
        let before = self.small.swap(0, Ordering::Relaxed).saturating_sub(own);
        Some(Counted { permits: fits(before + own), before })
    }
}

/// What a message takes of the room.
struct Counted {
    permits: u32,
    /// The part of it that is for small messages before this one.
    before: usize,
}

/// A payload that gives its room back when it is dropped.
struct Owned {
    payload: Bytes,
    _permit: OwnedSemaphorePermit,
    _charge: Option<Charge>,
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use contract::ByteBudget;
    use futures_util::FutureExt as _;

    use super::*;

    fn message(bytes: usize) -> OutboundMessage {
        OutboundMessage { subject: "a".into(), reply: None, payload: vec![b'x'; bytes].into(), headers: None }
    }

    #[test]
    fn bytes_count_until_the_payload_is_dropped() {
        let (memory, budget) = (Memory::default(), ByteBudget::new(1));
        memory.charge_to(&budget);
        let queue = Queue::new(20_000, memory);
        let (one, two) = (queue.admit(message(9_000)).unwrap(), queue.admit(message(9_000)).unwrap());
        assert_eq!((queue.bytes(), budget.used()), (18_000, 18_000));
        assert!(queue.admit(message(9_000)).is_err());
        let payload = one.payload.clone();
        drop(one);
        assert_eq!(queue.bytes(), 18_000, "a clone of it is still there");
        assert_eq!(payload.len(), 9_000);
        drop((payload, two));
        assert_eq!((queue.bytes(), budget.used()), (0, 0));
    }

    #[test]
    fn small_messages_are_counted_together_and_refused_when_there_is_no_room() {
        let queue = Queue::new(100_000, Memory::default());
        let mut queued = Vec::new();
        while let Ok(small) = queue.admit(message(1000)) {
            queued.push(small);
            assert!(queued.len() <= 100, "nothing is ever counted");
        }
        let bytes = queued.len() * (1000 + MESSAGE_BYTES);
        assert!((75_000..100_000 + BATCH_BYTES).contains(&bytes), "{bytes}");
        assert!(queue.admit(message(1000)).is_err(), "there is still no room");
        // Written in order: with the last that has an owner all before it are gone.
        drop(queued);
        assert_eq!(queue.bytes(), 0);
        assert!(queue.admit(message(0)).is_ok());
    }

    #[test]
    fn a_small_message_is_free_and_large_headers_are_not() {
        let queue = Queue::new(100_000, Memory::default());
        let small = queue.admit(message(SMALL_BYTES_MAX)).unwrap();
        assert_eq!(queue.bytes(), 0);
        let mut headers = HeaderMap::new();
        headers.insert("X", "y".repeat(5_000));
        let large = queue.admit(OutboundMessage { headers: Some(headers), ..message(0) }).unwrap();
        assert_eq!(queue.bytes(), 5_005);
        drop((small, large));
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_message_over_the_bound_fits_alone() {
        let queue = Queue::new(10_000, Memory::default());
        let giant = queue.admit(message(1_000_000)).unwrap();
        assert!(queue.admit(message(5_000)).is_err());
        drop(giant);
        assert!(queue.admit(message(5_000)).is_ok());
    }

    #[test]
    fn who_waits_comes_before_who_asks_at_once() {
        let queue = Queue::new(10_000, Memory::default());
        let held = queue.admit(message(8_000)).unwrap();
        let mut waiting = Box::pin(queue.wait(message(6_000)));
        assert!((&mut waiting).now_or_never().is_none());
        drop(held);
        assert!(queue.admit(message(5_000)).is_err(), "the room is promised");
        let came = waiting.now_or_never().unwrap();
        assert_eq!(came.payload.len(), 6_000);
    }
}
