//! The relief: cuts the queues of listeners when memory is short, so that it comes back.
//!
//! What listeners have not read is charged to the common budget. Left alone, a few that never read would fill it to
//! where new work is refused, and lock everybody out. So from the first mark of the budget on all queues together may
//! have a part of it only, and each of them an equal share of that; also those whose pattern is silent, as nobody else
//! would ever look at them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use contract::ByteBudget;

use super::Shared;

/// Of the bytes at which memory is short, all queues together may have one in so many before they are cut.
const PART: usize = 2;
/// They are cut to one in so many of that: then what comes next does not cut them again at once.
const CUT: usize = 2;

/// What the queues may cost before they are cut again, if that is more than their part: some are as short as they can
/// be, and to look at all of them for each message would help nobody.
#[derive(Debug, Default)]
pub(super) struct Relief {
    again_at: AtomicUsize,
}

impl Relief {
    /// The share of each of `listeners`, if their queues, which cost `unread` bytes, are to be cut now.
    fn due(&self, memory: &ByteBudget, unread: usize, listeners: usize) -> Option<usize> {
        let part = memory.short_bytes() / PART;
        let again_at = self.again_at.load(Ordering::Relaxed);
        if !memory.is_short() || unread <= part {
            if again_at != 0 {
                self.again_at.store(0, Ordering::Relaxed);
            }
            return None;
        }
        (unread > again_at).then(|| part / CUT / listeners.max(1))
    }

    /// They were cut, and cost `unread` bytes now.
    fn done(&self, memory: &ByteBudget, unread: usize) {
        self.again_at.store(unread + memory.short_bytes() / PART / CUT, Ordering::Relaxed);
    }
}

impl<B> Shared<B> {
    /// Cuts the queues of all who listen, if memory is short and they have too much of it. Adds to `wakers` who is to be
    /// woken.
    pub(super) fn relieve(&self, memory: &ByteBudget, wakers: &mut Vec<Waker>) {
        let count = |gauge: &contract::Gauge| usize::try_from(gauge.get()).unwrap_or(0);
        let (unread, listeners) = (count(&self.meters.unread_bytes), count(&self.meters.listeners));
        let Some(share) = self.relief.due(memory, unread, listeners) else { return };
        let feeds: Vec<_> = self.feeds().by_pattern.values().cloned().collect();
        for feed in feeds {
            self.meters.count(&feed.trim(share, wakers));
        }
        self.meters.relieved.increment();
        self.relief.done(memory, count(&self.meters.unread_bytes));
    }
}

#[cfg(test)]
mod tests {
    use contract::Marks;

    use super::*;

    #[test]
    fn it_is_due_when_memory_is_short_and_the_queues_have_more_than_their_part() {
        let (memory, relief) = (ByteBudget::new(1000), Relief::default());
        memory.set_marks(Marks { short: 40, low: 60, high: 80 });
        let mut charge = memory.charge_always(399);
        assert_eq!(relief.due(&memory, 399, 2), None);
        charge.grow_always(1);
        assert_eq!((relief.due(&memory, 200, 2), relief.due(&memory, 201, 2)), (None, Some(50)));
        relief.done(&memory, 250);
        assert_eq!((relief.due(&memory, 350, 0), relief.due(&memory, 351, 0)), (None, Some(100)));
        assert_eq!((relief.due(&memory, 200, 0), relief.due(&memory, 201, 0)), (None, Some(100)));
    }
}
