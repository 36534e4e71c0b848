//! The byte budget: how much memory all connections together may hold in buffers and waiting replies.
//!
//! One counter for the process, because memory is one thing: a limit per connection times a limit on
//! connections is either too small to be useful or too large to protect. A [`Charge`] gives its bytes back
//! when dropped, so no path can forget to.
//!
//! Three marks below the limit. From the first on queues of whoever does not read are kept short, so that slow readers
//! alone never bring it to the others. From the high one on new work is refused, until the low one is reached again;
//! what is left above is for the work that is going on. Between those two nothing changes, so that a gateway near its
//! limit does not flap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A shared, bounded count of bytes. Cloning shares it.
#[derive(Clone, Debug)]
pub struct ByteBudget(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    used: AtomicUsize,
    bytes_max: AtomicUsize,
    /// The most that was used at once.
    peak: AtomicUsize,
    short: AtomicUsize,
    high: AtomicUsize,
    low: AtomicUsize,
    pressed: AtomicBool,
    pressed_total: AtomicU64,
    /// How far messages that arrive in pieces may go.
    arriving: AtomicUsize,
    /// What connections cost that are open, whatever they do. Taken off what may be used.
    standing: AtomicUsize,
    /// In milliseconds.
    unread_max: AtomicU64,
}

/// Where the marks of a [`ByteBudget`] are, in percent of its limit (0 to 100), in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// From here on queues of slow readers are kept short.
    pub short: usize,
    /// At or below this new work is taken again. Messages that arrive in pieces have no more than this together with
    /// all else: who sends half of many and then nothing must not keep the others out.
    pub low: usize,
    /// From here on new work is refused.
    pub high: usize,
}

impl ByteBudget {
    /// A budget of `bytes_max` bytes, short and pressed when it is spent.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Counts {
            used: AtomicUsize::new(0),
            bytes_max: AtomicUsize::new(bytes_max),
            peak: AtomicUsize::new(0),
            short: AtomicUsize::new(bytes_max),
            high: AtomicUsize::new(bytes_max),
            low: AtomicUsize::new(bytes_max.saturating_sub(1)),
            pressed: AtomicBool::new(false),
            pressed_total: AtomicU64::new(0),
            arriving: AtomicUsize::new(bytes_max),
            standing: AtomicUsize::new(0),
            unread_max: AtomicU64::new(u64::MAX),
        }))
    }

    /// Sets the limit in bytes; the marks follow with the next [`Self::set_marks`].
    pub fn set_limit(&self, bytes_max: usize) {
        self.0.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Sets the marks.
    pub fn set_marks(&self, marks: Marks) {
        // In this order, so that a limit of usize::MAX does not overflow.
        let share = |percent: usize| (self.bytes_max() / 100).saturating_mul(percent.min(100));
        self.0.short.store(share(marks.short).max(1), Ordering::Relaxed);
        self.0.high.store(share(marks.high).max(1), Ordering::Relaxed);
        let low = share(marks.low.min(marks.high));
        self.0.low.store(low, Ordering::Relaxed);
        self.0.arriving.store(low, Ordering::Relaxed);
    }

    /// Sets how long whoever takes nothing is waited for while new work is refused.
    pub fn set_unread_max(&self, unread_max: Duration) {
        let milliseconds = u64::try_from(unread_max.as_millis()).unwrap_or(u64::MAX);
        self.0.unread_max.store(milliseconds, Ordering::Relaxed);
    }

    /// How long whoever takes nothing is waited for, at most, while new work is refused.
    pub fn unread_max(&self) -> Duration {
        Duration::from_millis(self.0.unread_max.load(Ordering::Relaxed))
    }

    /// How long to wait for a peer that takes nothing of what waits for it and otherwise had `timeout`: while new work is
    /// refused, what waits for it is memory that others need.
    pub fn patience(&self, timeout: Duration) -> Duration {
        if self.is_pressed() { timeout.min(self.unread_max()) } else { timeout }
    }

    /// Takes what an open connection costs whatever it does; `None` when connections have all that they may have, one
    /// half. They are no reason to refuse work, but what they have is not there for messages.
    pub fn stand(&self, bytes: usize) -> Option<Standing> {
        let most = self.bytes_max() / 2;
        let more = |standing: usize| standing.checked_add(bytes).filter(|sum| *sum <= most);
        let taken = self.0.standing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Standing { budget: self.clone(), bytes: AtomicUsize::new(bytes) })
    }

    /// The same, also when connections have all that they may have: for a connection that others may not keep out.
    pub fn stand_always(&self, bytes: usize) -> Standing {
        self.0.standing.fetch_add(bytes, Ordering::Relaxed);
        Standing { budget: self.clone(), bytes: AtomicUsize::new(bytes) }
    }

    /// What open connections cost.
    pub fn standing(&self) -> usize {
        self.0.standing.load(Ordering::Relaxed)
    }

    /// Bytes that are not there for others.
    fn gone(&self) -> usize {
        self.used().saturating_add(self.standing())
    }

    /// Whether queues of whoever does not read are to be kept short.
    pub fn is_short(&self) -> bool {
        let (used, short) = (self.used(), self.0.short.load(Ordering::Relaxed));
        // Connections have one half at most, so below half of the mark nothing has to be reckoned.
        used >= short / 2 && used >= self.part_of_the_rest(short)
    }

    /// A mark, for what connections leave: however many are idle, nobody who reads is slow for that.
    fn part_of_the_rest(&self, mark: usize) -> usize {
        let all = self.bytes_max().max(1) as u128;
        let rest = all.saturating_sub(self.standing() as u128);
        usize::try_from(mark as u128 * rest / all).unwrap_or(mark)
    }

    /// Whether an answer of so many bytes fits, which is the last thing that is refused: it was worked for, and whoever
    /// keeps it charges it at once. Like any message, one of [`SMALL_BYTES`] always does.
    pub fn fits(&self, bytes: usize) -> bool {
        bytes <= SMALL_BYTES || self.gone().saturating_add(bytes) <= self.bytes_max()
    }

    /// How many bytes may wait for one reader who may have `bytes_max` of them: next to nothing while memory is short.
    /// Never 0, so that whoever has taken everything goes on.
    pub fn room(&self, bytes_max: usize) -> usize {
        if self.is_short() { bytes_max.min(1) } else { bytes_max }
    }

    /// Whether new work is to be refused: from the high watermark on, until the low one is reached again. Looking
    /// is what turns it over.
    pub fn is_pressed(&self) -> bool {
        let (counts, used) = (&*self.0, self.gone());
        // Relaxed, like all here: nobody reads other memory by what this says.
        if counts.pressed.load(Ordering::Relaxed) {
            if used > counts.low.load(Ordering::Relaxed) {
                return true;
            }
            counts.pressed.store(false, Ordering::Relaxed);
            return false;
        }
        if used < counts.high.load(Ordering::Relaxed) {
            return false;
        }
        if !counts.pressed.swap(true, Ordering::Relaxed) {
            counts.pressed_total.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Times that it became pressed.
    pub fn pressed_total(&self) -> u64 {
        self.0.pressed_total.load(Ordering::Relaxed)
    }

    /// The most bytes that were taken at once.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// The bytes from which on it is short.
    pub fn short_bytes(&self) -> usize {
        self.0.short.load(Ordering::Relaxed)
    }

    /// The bytes from which on it is pressed.
    pub fn high_bytes(&self) -> usize {
        self.0.high.load(Ordering::Relaxed)
    }

    /// The bytes at which it is not pressed any more.
    pub fn low_bytes(&self) -> usize {
        self.0.low.load(Ordering::Relaxed)
    }

    /// Takes `bytes` if they fit; `None` when they would pass the limit. Never waits.
    pub fn charge(&self, bytes: usize) -> Option<Charge> {
        let mut charge = Charge { budget: self.clone(), bytes: 0 };
        charge.grow(bytes).then_some(charge)
    }

    /// Takes `bytes` even past the limit: for what has already happened (a reply that has arrived) and must
    /// be counted so that new work is refused until it is gone.
    pub fn charge_always(&self, bytes: usize) -> Charge {
        self.take_always(bytes);
        Charge { budget: self.clone(), bytes }
    }

    fn take_always(&self, bytes: usize) {
        let before = self.0.used.fetch_add(bytes, Ordering::Relaxed);
        self.note_peak(before.saturating_add(bytes));
    }

    fn note_peak(&self, used: usize) {
        // Looked at first: mostly it is no new peak, and a write would take the line from every other core.
        if used > self.0.peak.load(Ordering::Relaxed) {
            self.0.peak.fetch_max(used, Ordering::Relaxed);
        }
    }

    /// Bytes taken now. May pass [`Self::bytes_max`] by what [`Self::charge_always`] took.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max.load(Ordering::Relaxed)
    }
}

/// A message of at most so many bytes is taken in even past the limit. What takes work back (a cancel, an unsubscribe) is
/// smaller than that, and must arrive when memory is short above all; and there is one at a time a connection, since
/// what asks for more is refused behind it.
pub const SMALL_BYTES: usize = 512;

/// A message in pieces of at most so many bytes is taken in like a whole one: as much as a connection costs anyway.
pub const PIECES_BYTES: usize = 4096;

/// Bytes taken from a [`ByteBudget`], given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: ByteBudget,
    bytes: usize,
}

impl Charge {
    /// Takes `more` bytes if they fit, and says whether they did.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        if more == 0 {
            return true;
        }
        self.grow_to(self.budget.bytes_max(), more)
    }

    fn grow_to(&mut self, limit: usize, more: usize) -> bool {
        let limit = limit.saturating_sub(self.budget.standing());
        let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= limit);
        // Relaxed: the count guards an amount, it publishes no other memory.
        let taken = self.budget.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if let Ok(before) = taken {
            self.bytes += more;
            self.budget.note_peak(before + more);
        }
        taken.is_ok()
    }

    /// The same for a whole message that has arrived, which always fits if it has [`SMALL_BYTES`] at most.
    #[must_use]
    pub fn grow_message(&mut self, more: usize) -> bool {
        if self.bytes.saturating_add(more) > SMALL_BYTES {
            return self.grow(more);
        }
        self.grow_always(more);
        true
    }

    /// The same for a further piece of a message that is not whole yet: beyond [`PIECES_BYTES`] it fits below the low
    /// mark only ([`Marks::low`]).
    #[must_use]
    pub fn grow_arriving(&mut self, more: usize) -> bool {
        if self.bytes.saturating_add(more) <= PIECES_BYTES {
            return self.grow_message(more);
        }
        self.grow_to(self.budget.0.arriving.load(Ordering::Relaxed), more)
    }

    /// Takes `more` bytes even past the limit; see [`ByteBudget::charge_always`].
    pub fn grow_always(&mut self, more: usize) {
        self.budget.take_always(more);
        self.bytes += more;
    }

    /// Gives `fewer` bytes back; at most what is held.
    pub fn shrink(&mut self, fewer: usize) {
        let back = fewer.min(self.bytes);
        self.budget.0.used.fetch_sub(back, Ordering::Relaxed);
        self.bytes -= back;
    }

    /// Another charge of `bytes` to the same budget, even past the limit.
    #[must_use]
    pub fn another(&self, bytes: usize) -> Self {
        self.budget.charge_always(bytes)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What an open connection costs, given back when dropped.
#[derive(Debug)]
pub struct Standing {
    budget: ByteBudget,
    bytes: AtomicUsize,
}

impl Standing {
    /// From now on it costs no more than `bytes`.
    pub fn shrink_to(&self, bytes: usize) {
        let before = self.bytes.fetch_min(bytes, Ordering::Relaxed);
        self.budget.0.standing.fetch_sub(before.saturating_sub(bytes), Ordering::Relaxed);
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.budget.0.standing.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_taken() {
        let budget = ByteBudget::new(100);
        let mut charge = budget.charge(60).unwrap();
        assert!(budget.charge(41).is_none());
        assert!(charge.grow(40));
        assert!(!charge.grow(1));
        charge.shrink(90);
        assert_eq!((charge.bytes(), budget.used()), (10, 10));
        drop(charge);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_has_happened_is_counted_past_the_limit() {
        let budget = ByteBudget::new(10);
        let charge = budget.charge_always(25);
        assert_eq!(budget.used(), 25);
        assert!(budget.charge(1).is_none());
        drop(charge);
        assert!(budget.charge(10).is_some());
    }

    #[test]
    fn between_the_watermarks_nothing_changes() {
        let budget = ByteBudget::new(1000);
        budget.set_marks(Marks { short: 40, low: 50, high: 80 });
        let mut charge = budget.charge(799).unwrap();
        assert!(!budget.is_pressed());
        assert!(charge.grow(1) && budget.is_pressed());
        charge.shrink(299);
        assert!(budget.is_pressed(), "501 bytes are above the low watermark");
        charge.shrink(1);
        assert!(!budget.is_pressed());
        assert!(charge.grow(299) && !budget.is_pressed(), "799 bytes are below the high watermark");
        assert_eq!((budget.pressed_total(), budget.peak()), (1, 800));
    }

    #[test]
    fn a_small_message_arrives_even_past_the_limit() {
        let budget = ByteBudget::new(1000);
        let _held = budget.charge_always(1001);
        let mut message = budget.charge(0).unwrap();
        assert!(message.grow_message(SMALL_BYTES) && !message.grow_message(1));
        assert_eq!((message.bytes(), budget.used()), (SMALL_BYTES, 1001 + SMALL_BYTES));
    }

    #[test]
    fn an_answer_fits_as_long_as_the_limit_is_not_passed() {
        let budget = ByteBudget::new(10_000);
        let _held = budget.charge_always(9_000);
        assert!(budget.fits(1_000) && !budget.fits(1_001) && budget.fits(0));
        budget.set_limit(1);
        assert!(budget.fits(SMALL_BYTES) && !budget.fits(SMALL_BYTES + 1) && !budget.fits(usize::MAX));
    }

    #[test]
    fn connections_take_room_from_messages_up_to_a_half_and_refuse_no_work_alone() {
        let budget = ByteBudget::new(10_000);
        budget.set_marks(Marks { short: 60, low: 70, high: 80 });
        let one = budget.stand(4_000).unwrap();
        assert!(budget.stand(1_001).is_none());
        drop(budget.stand_always(1_001));
        let two = budget.stand(1_000).unwrap();
        assert_eq!((budget.used(), budget.standing()), (0, 5_000));
        assert!(!budget.is_pressed() && !budget.is_short());
        // Nor by a mark at or below what connections may have.
        budget.set_marks(Marks { short: 40, low: 70, high: 80 });
        assert!(!budget.is_short());
        let some = budget.charge(1_999).unwrap();
        assert!(!budget.is_short());
        let more = budget.charge(1).unwrap();
        assert!(budget.is_short(), "a part of what they leave");
        drop((some, more));
        assert!(budget.charge(5_001).is_none() && !budget.fits(5_001) && budget.fits(5_000));
        let charge = budget.charge(3_000).unwrap();
        assert!(budget.is_pressed());
        one.shrink_to(1_000);
        one.shrink_to(2_000);
        assert_eq!(budget.standing(), 2_000);
        assert!(!budget.is_pressed());
        drop((one, two, charge));
        assert_eq!((budget.used(), budget.standing()), (0, 0));
    }

    #[test]
    fn who_takes_nothing_is_waited_for_a_shorter_time_while_work_is_refused() {
        let budget = ByteBudget::new(1000);
        budget.set_unread_max(Duration::from_secs(2));
        let (long, little) = (Duration::from_secs(30), Duration::from_millis(100));
        assert_eq!(budget.patience(long), long);
        let _charge = budget.charge_always(1000);
        assert_eq!((budget.patience(long), budget.patience(little)), (Duration::from_secs(2), little));
    }

    #[test]
    fn messages_in_pieces_leave_room_for_whole_ones() {
        let budget = ByteBudget::new(100_000);
        budget.set_marks(Marks { short: 40, low: 50, high: 80 });
        let mut half = budget.charge_always(0);
        assert!(half.grow_arriving(50_000) && !half.grow_arriving(1));
        assert!(!budget.is_pressed());
        let (mut whole, mut little) = (budget.charge_always(0), budget.charge_always(0));
        assert!(whole.grow_message(20_000) && little.grow_arriving(PIECES_BYTES) && !little.grow_arriving(1));
    }

    #[test]
    fn who_does_not_read_gets_little_room_while_memory_is_short() {
        let budget = ByteBudget::new(1000);
        budget.set_marks(Marks { short: 40, low: 50, high: 80 });
        let mut charge = budget.charge_always(399);
        assert_eq!((budget.is_short(), budget.room(64)), (false, 64));
        charge.grow_always(1);
        assert_eq!((budget.is_short(), budget.room(64), budget.room(0)), (true, 1, 0));
    }

    #[test]
    fn a_charge_near_the_largest_number_does_not_wrap() {
        let budget = ByteBudget::new(usize::MAX);
        let _one = budget.charge(1).unwrap();
        assert!(budget.charge(usize::MAX).is_none());
    }
}
