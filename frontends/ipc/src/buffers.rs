//! The pool of read buffers: what a connection reads into while it has something to read.
//!
//! An idle connection holds none: it waits until its socket is readable, takes a buffer, reads, and gives the
//! buffer back. So the number lent follows the connections that are reading now, not those that are open. The
//! pool is a stack, because the buffer given back last is the one still in the cache. An empty pool allocates
//! rather than waits: what bounds memory is the byte budget, not this pool.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::DoorMeters;

/// The most buffers kept while nobody uses them; one that comes back beyond it is freed.
pub(crate) const BUFFERS_KEPT_MAX: usize = 128;

/// A pool of equally large buffers. Cloning shares it.
#[derive(Clone)]
pub(crate) struct BufferPool(Arc<Shelf>);

/// What the pool and every buffer lent from it share.
struct Shelf {
    ready: Mutex<Vec<Box<[u8]>>>,
    bytes: usize,
    meters: Arc<DoorMeters>,
}

impl BufferPool {
    /// A pool of buffers of `bytes` bytes each (at least 1: a read into nothing looks like an end of file),
    /// `kept_ready` of them allocated now; at most [`BUFFERS_KEPT_MAX`].
    pub(crate) fn new(kept_ready: usize, bytes: usize, meters: Arc<DoorMeters>) -> Self {
        let bytes = bytes.max(1);
        let kept_ready = kept_ready.min(BUFFERS_KEPT_MAX);
        // Room for all that may ever be kept, so that giving back never allocates.
        let mut ready = Vec::with_capacity(BUFFERS_KEPT_MAX);
        ready.resize_with(kept_ready, || blank(bytes));
        meters.buffers_ready.add(signed(kept_ready));
        Self(Arc::new(Shelf { ready: Mutex::new(ready), bytes, meters }))
    }

    /// Lends a buffer: one that is ready, else a new one. Never waits for one to come back.
    pub(crate) fn take(&self) -> Lent {
        let Self(pool) = self;
        let ready = pool.lock().pop();
        let buffer = if let Some(buffer) = ready {
            pool.meters.buffers_ready.add(-1);
            buffer
        } else {
            pool.meters.buffers_allocated_total.increment();
            blank(pool.bytes)
        };
        pool.meters.buffers_lent.add(1);
        Lent { buffer, shelf: Arc::clone(pool) }
    }

    /// Size of each buffer in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BufferPool").field("bytes", &self.0.bytes).finish_non_exhaustive()
    }
}

impl Shelf {
    /// A panic elsewhere cannot leave a stack of buffers half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let kept = self.lock().len();
        self.meters.buffers_ready.add(-signed(kept));
    }
}

/// A buffer on loan: goes back to its pool when dropped. It is not wiped between loans: what is in it beyond
/// the bytes just read may be another connection's, and must not be looked at.
pub(crate) struct Lent {
    buffer: Box<[u8]>,
    shelf: Arc<Shelf>,
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl fmt::Debug for Lent {
    /// Without the contents: they are a peer's.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lent").field("bytes", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let mut ready = self.shelf.lock();
        self.shelf.meters.buffers_lent.add(-1);
        if ready.len() < BUFFERS_KEPT_MAX {
            ready.push(buffer);
            self.shelf.meters.buffers_ready.add(1);
        }
    }
}

/// A buffer full of zeroes: initialised, so that reading into it needs no unsafe code.
fn blank(bytes: usize) -> Box<[u8]> {
    vec![0; bytes].into_boxed_slice()
}

/// A count of buffers kept as a gauge has it.
fn signed(count: usize) -> i64 {
    i64::try_from(count).expect("at most BUFFERS_KEPT_MAX")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ready, lent, allocated.
    fn counts(meters: &DoorMeters) -> (i64, i64, u64) {
        (meters.buffers_ready.get(), meters.buffers_lent.get(), meters.buffers_allocated_total.get())
    }

    #[test]
    fn lends_what_is_ready_before_it_allocates() {
        let meters = Arc::<DoorMeters>::default();
        let pool = BufferPool::new(2, 4096, Arc::clone(&meters));
        assert_eq!(counts(&meters), (2, 0, 0));
        let (first, second) = (pool.take(), pool.take());
        assert_eq!(counts(&meters), (0, 2, 0));
        let third = pool.take();
        assert_eq!(counts(&meters), (0, 3, 1));
        assert_eq!((first.len(), second.len(), third.len()), (4096, 4096, 4096));
        drop((first, second, third));
        assert_eq!(counts(&meters), (3, 0, 1));
    }

    #[test]
    fn lends_the_buffer_given_back_last() {
        let pool = BufferPool::new(8, 64, Arc::default());
        let lent = pool.take();
        let address = lent.as_ptr();
        drop(lent);
        assert_eq!(pool.take().as_ptr(), address);
    }

    #[test]
    fn keeps_no_more_than_the_limit() {
        let meters = Arc::<DoorMeters>::default();
        let pool = BufferPool::new(usize::MAX, 1, Arc::clone(&meters));
        assert_eq!(counts(&meters), (128, 0, 0));
        let lent: Vec<_> = (0..200).map(|_| pool.take()).collect();
        assert_eq!(counts(&meters), (0, 200, 72));
        drop(lent);
        assert_eq!(counts(&meters), (128, 0, 72));
    }

    #[test]
    fn a_buffer_is_never_empty() {
        let pool = BufferPool::new(0, 0, Arc::default());
        assert_eq!((pool.take().len(), pool.bytes()), (1, 1));
    }

    #[test]
    fn a_pool_that_goes_leaves_the_gauges_at_zero() {
        let meters = Arc::<DoorMeters>::default();
        let pool = BufferPool::new(5, 16, Arc::clone(&meters));
        let lent = pool.take();
        drop(pool);
        assert_eq!(counts(&meters), (4, 1, 0)); // the loan keeps the shelf
        drop(lent);
        assert_eq!(counts(&meters), (0, 0, 0));
    }

    #[test]
    fn no_buffer_is_lent_twice_at_once() {
        let meters = Arc::<DoorMeters>::default();
        let pool = BufferPool::new(4, 32, Arc::clone(&meters));
        std::thread::scope(|scope| {
            for mark in 1..=8_u8 {
                let pool = pool.clone();
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let (mut one, mut two) = (pool.take(), pool.take());
                        one.fill(mark);
                        two.fill(mark + 100);
                        std::thread::yield_now();
                        assert!(one.iter().all(|byte| *byte == mark));
                        assert!(two.iter().all(|byte| *byte == mark + 100));
                    }
                });
            }
        });
        let (ready, lent, allocated) = counts(&meters);
        assert_eq!(lent, 0);
        // Sixteen can be out at once, and what was allocated was kept.
        assert!((4..=16).contains(&ready), "{ready}");
        assert_eq!(ready, 4 + i64::try_from(allocated).unwrap());
    }

    #[test]
    fn a_thread_that_panics_with_a_loan_gives_it_back() {
        let meters = Arc::<DoorMeters>::default();
        let pool = BufferPool::new(1, 16, Arc::clone(&meters));
        let other = pool.clone();
        let ended = std::thread::spawn(move || {
            let _lent = other.take();
            panic!("on purpose");
        })
        .join();
        assert!(ended.is_err());
        assert_eq!(counts(&meters), (1, 0, 0));
        assert_eq!(pool.take().len(), 16);
    }
}
