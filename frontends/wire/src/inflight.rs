//! The requests of one connection that are being worked on: a bounded set of futures polled inside one task.
//!
//! One task a connection instead of one a request: dropping the connection drops its requests at once, and a
//! request costs no spawn. A set such as `FuturesUnordered` allocates for every future; here a slot is
//! allocated on its first use and used again, each with a waker of its own made once. A wake-up sets the
//! slot's bit and wakes the connection's task, so what is polled is what was woken and nothing else. A request
//! that panics is that request's failure: its neighbours in the set never notice.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The most futures one set may hold. More pipelining than this is a queue, which a connection must not be.
pub const SLOTS_MAX: usize = 4096;
/// The most slots a set keeps while it is empty: enough for a client that asks a little now and then, too few
/// to matter when thousands of connections are idle.
pub const SLOTS_KEPT_MAX: usize = 8;

/// Bits of one word of the bitmap.
const WORD_BITS: usize = 64;

/// A bounded set of futures. A future is known by its slot, which is used again once the future is over.
pub struct InFlight<F> {
    slots: Vec<Slot<F>>,
    /// Slots without a future, the one that was freed last on top.
    free: Vec<usize>,
    capacity: usize,
    /// Where the next look for a woken slot begins, so that all get their turn.
    cursor: usize,
    ready: Arc<Ready>,
}

/// One place for a future, pinned for as long as the slot exists.
struct Slot<F> {
    future: Pin<Box<Option<F>>>,
    waker: Waker,
}

impl<F: Future> InFlight<F> {
    /// An empty set of at most `capacity` futures (1 to [`SLOTS_MAX`]; what is outside is moved to the nearer
    /// end). Allocates no slots yet.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, SLOTS_MAX);
        let words = (0..capacity.div_ceil(WORD_BITS)).map(|_| AtomicU64::new(0)).collect();
        let ready = Arc::new(Ready { words, task: AtomicWaker::new() });
        Self { slots: Vec::new(), free: Vec::new(), capacity, cursor: 0, ready }
    }

    /// Puts a future into a free slot and polls it a first time; gives it back when the set is full. First
    /// polls thus come in the order of starts, which is what keeps messages in order. The caller owes a
    /// [`Self::poll_next`] afterwards.
    pub fn start(&mut self, future: F) -> Result<Started<F::Output>, F> {
        let slot = self.push(future)?;
        self.ready.clear(slot);
        Ok(match self.poll_slot(slot) {
            Poll::Ready(outcome) => Started::Over(outcome),
            Poll::Pending => Started::Running(slot),
        })
    }

    /// Puts a future into a free slot and says which; gives the future back when the set is full.
    fn push(&mut self, future: F) -> Result<usize, F> {
        if self.is_full() {
            return Err(future);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            let index = self.slots.len();
            let waker = Waker::from(Arc::new(SlotWaker { index, ready: Arc::clone(&self.ready) }));
            self.slots.push(Slot { future: Box::pin(None), waker });
            index
        });
        self.slots[index].future.set(Some(future));
        self.ready.mark(index);
        Ok(index)
    }

    /// The slot and the outcome of a future that is over, its slot free again. `Pending` when none is, also
    /// when the set is empty; then the task is woken when there is something to do. Polls at most as many
    /// futures as there are slots, so that a future that always wakes itself cannot hold the task.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(usize, Result<F::Output, Panicked>)> {
        // Before the look at the bitmap: a wake-up that comes between the two finds the waker.
        self.ready.task.register(context.waker());
        for _ in 0..self.slots.len() {
            let Some(index) = self.ready.take(self.cursor, self.slots.len()) else {
                return Poll::Pending;
            };
            self.cursor = index + 1;
            // A late wake-up leaves its bit behind: the future may be over by now, and its slot gone.
            let Some(Slot { future, waker }) = self.slots.get_mut(index) else { continue };
            let Some(running) = future.as_mut().as_pin_mut() else { continue };
            let polled = catch_unwind(AssertUnwindSafe(|| running.poll(&mut Context::from_waker(waker))));
            let outcome = match polled {
                Ok(Poll::Pending) => continue,
                Ok(Poll::Ready(output)) => Ok(output),
                Err(panic) => Err(Panicked::of(&*panic)),
            };
            self.vacate(index);
            return Poll::Ready((index, outcome));
        }
        if self.ready.any(self.slots.len()) {
            // What is left had no turn in this call: let other tasks run, then come again.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Polls the future in a slot; when it is over, the slot is free.
    fn poll_slot(&mut self, index: usize) -> Poll<Result<F::Output, Panicked>> {
        let Slot { future, waker } = &mut self.slots[index];
        // A wake-up for a future that is already over leaves its bit behind.
        let Some(running) = future.as_mut().as_pin_mut() else { return Poll::Pending };
        let polled = catch_unwind(AssertUnwindSafe(|| running.poll(&mut Context::from_waker(waker))));
        let outcome = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => Err(Panicked::of(&*panic)),
        };
        self.vacate(index);
        Poll::Ready(outcome)
    }

    /// Drops the future in `slot` at once; says whether there was one. The caller knows that the slot is still
    /// the future's it means: it is used again once [`Self::poll_next`] has returned it.
    pub fn cancel(&mut self, slot: usize) -> bool {
        let running = self.slots.get(slot).is_some_and(|slot| slot.future.is_some());
        if running {
            self.vacate(slot);
        }
        running
    }

    /// Drops every future at once.
    pub fn clear(&mut self) {
        for slot in 0..self.slots.len() {
            self.cancel(slot);
        }
    }

    /// Number of futures.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether [`Self::push`] would give the future back.
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Drops the future in a slot that has one and frees the slot. A set that becomes empty gives back the
    /// memory of all but [`SLOTS_KEPT_MAX`] slots.
    fn vacate(&mut self, index: usize) {
        let future = &mut self.slots[index].future;
        // A future that panics when dropped has said so through the panic hook; nobody else suffers for it.
        // The slot is empty afterwards either way: an assignment is made even when the old value's drop panics.
        let _ = catch_unwind(AssertUnwindSafe(|| future.set(None)));
        self.free.push(index);
        if self.is_empty() && self.slots.len() > SLOTS_KEPT_MAX {
            self.slots.truncate(SLOTS_KEPT_MAX);
            self.slots.shrink_to_fit();
            self.free.clear();
            self.free.extend((0..SLOTS_KEPT_MAX).rev());
            self.free.shrink_to_fit();
        }
    }
}

impl<F> Drop for InFlight<F> {
    fn drop(&mut self) {
        // A waker that somebody still holds must not keep the task of a connection that is gone.
        drop(self.ready.task.take());
    }
}

impl<F> fmt::Debug for InFlight<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("InFlight")
            .field("len", &(self.slots.len() - self.free.len()))
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// What became of a future that was started.
#[derive(Debug)]
pub enum Started<T> {
    /// It was over at once, and took no slot.
    Over(Result<T, Panicked>),
    /// It runs in this slot.
    Running(usize),
}

/// A future panicked. The panic hook has told where; this is what was said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {text}")]
pub struct Panicked {
    /// The panic's message, for the log only.
    pub text: String,
}

impl Panicked {
    /// What was said by the panic that [`std::panic::catch_unwind`] caught.
    pub fn of(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".to_owned());
        Self { text }
    }
}

/// Which slots were woken, and the task that polls them.
struct Ready {
    words: Box<[AtomicU64]>,
    task: AtomicWaker,
}

impl Ready {
    fn mark(&self, index: usize) {
        // Release: what the waking thread did is seen by the poll that the bit leads to.
        self.words[index / WORD_BITS].fetch_or(1 << (index % WORD_BITS), Ordering::Release);
    }

    fn clear(&self, index: usize) {
        self.words[index / WORD_BITS].fetch_and(!(1 << (index % WORD_BITS)), Ordering::Acquire);
    }

    /// Clears and returns the first marked slot at or after `from`, going round behind the word that holds the
    /// last of `slots` (at least 1). The slot may be beyond the last one, when a late wake-up marked it.
    fn take(&self, from: usize, slots: usize) -> Option<usize> {
        let from = if from < slots { from } else { 0 };
        let words = slots.div_ceil(WORD_BITS);
        let (first, bit) = (from / WORD_BITS, from % WORD_BITS);
        // The first word is looked at twice: its upper part at the start, its lower part at the end.
        for step in 0..=words {
            let word = (first + step) % words;
            let mask = match step {
                0 => u64::MAX << bit,
                last if last == words => !(u64::MAX << bit),
                _ => u64::MAX,
            };
            let marked = self.words[word].load(Ordering::Relaxed) & mask;
            if marked != 0 {
                let lowest = marked.trailing_zeros();
                // Before the poll, so that a wake-up during the poll is kept.
                self.words[word].fetch_and(!(1 << lowest), Ordering::Acquire);
                return Some(word * WORD_BITS + usize::try_from(lowest).expect("below 64"));
            }
        }
        None
    }

    fn any(&self, slots: usize) -> bool {
        self.words[..slots.div_ceil(WORD_BITS)].iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }
}

/// The waker of one slot, made once and used for every future the slot ever holds.
struct SlotWaker {
    index: usize,
    ready: Arc<Ready>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.mark(self.index);
        self.ready.task.wake();
    }
}

#[cfg(test)]
mod tests;
