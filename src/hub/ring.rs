//! The bounded queue of one listener, in messages and in bytes, which knows exactly what it lost.
//!
//! A loss belongs before the message that follows it: each entry carries what was lost before it, and what
//! was lost behind the last entry waits for the next. So gaps need no room of their own and cannot pile up.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::Poll;

use contract::{Delivery, Error, Event, Kind, QueueBounds, QueuePolicy, Subject};

/// The queue. Whoever puts something in never waits.
#[derive(Debug)]
pub(super) struct Ring {
    bounds: QueueBounds,
    entries: VecDeque<Entry>,
    /// The number of the first entry: entries are numbered on and on, so that a number stays true when
    /// earlier ones go.
    first: u64,
    /// The entry of each subject, kept for `latest_by_subject` only.
    latest: HashMap<Subject, u64>,
    bytes: usize,
    /// Lost behind the last entry.
    tail: Lost,
    end: Option<End>,
}

/// A message in the queue.
#[derive(Debug)]
pub(super) struct Entry {
    delivery: Arc<Delivery>,
    /// Lost between the entry before and this one.
    before: Lost,
}

/// What a message costs beside its bytes, in bytes: a queue of empty messages is no empty queue.
const ENTRY_BYTES: usize = size_of::<Delivery>() + size_of::<Entry>();

/// Room that an empty queue keeps, in messages: enough for most bursts, and little enough (1.5 KiB) for
/// thousands of idle listeners.
const SPARE_ENTRIES: usize = 64;

#[derive(Debug)]
enum End {
    Complete,
    Failed(Error),
}

/// What a message did to a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Put {
    /// Whether it is in the queue now.
    pub(super) kept: bool,
    /// Whether it took the place of an older one of its subject.
    pub(super) conflated: bool,
    /// How many were lost for it, itself included if it was.
    pub(super) lost: u64,
}

impl Ring {
    pub(super) fn new(bounds: QueueBounds) -> Self {
        let bounds = QueueBounds { messages_max: bounds.messages_max.max(1), ..bounds };
        Self {
            bounds,
            entries: VecDeque::new(),
            first: 0,
            latest: HashMap::new(),
            bytes: 0,
            tail: Lost::default(),
            end: None,
        }
    }

    /// Puts a message in; a queue that has ended takes nothing.
    pub(super) fn put(&mut self, delivery: &Arc<Delivery>) -> Put {
        if self.end.is_some() {
            return Put::default();
        }
        let mut number = self.first + self.entries.len() as u64;
        let known = match self.bounds.policy {
            QueuePolicy::LatestBySubject => self.latest.get(&delivery.subject).copied(),
            QueuePolicy::DropOldest | QueuePolicy::Disconnect => None,
        };
        if let Some(known) = known {
            number = known;
            let place = usize::try_from(known - self.first).expect("a place in a queue in memory");
            let older = std::mem::replace(&mut self.entries[place].delivery, Arc::clone(delivery));
            self.bytes -= older.bytes();
        } else {
            if self.bounds.policy == QueuePolicy::LatestBySubject {
                self.latest.insert(delivery.subject.clone(), number);
            }
            let before = std::mem::take(&mut self.tail);
            self.entries.push_back(Entry { delivery: Arc::clone(delivery), before });
        }
        self.bytes += delivery.bytes();
        if self.bounds.policy == QueuePolicy::Disconnect && self.overflows() {
            return Put { kept: false, conflated: false, lost: self.disconnect() };
        }
        Put { kept: true, conflated: known.is_some(), lost: self.make_room(number) }
    }

    /// Notes what was lost before the next message; `None` when nobody can know how many.
    pub(super) fn gap(&mut self, lost: Option<NonZeroU64>) {
        if self.end.is_none() {
            self.tail.add(Lost { count: lost.map_or(0, NonZeroU64::get), unknown: lost.is_none() });
        }
    }

    /// Takes nothing more in. What is in can still be taken out, then comes the end.
    pub(super) fn end(&mut self, outcome: Result<(), Error>) {
        if self.end.is_none() {
            self.end = Some(outcome.map_or_else(End::Failed, |()| End::Complete));
        }
    }

    /// Takes the next thing out, in the words of a stream.
    pub(super) fn take(&mut self) -> Poll<Option<Result<Event, Error>>> {
        let before = self.entries.front_mut().map_or(&mut self.tail, |entry| &mut entry.before);
        if let Some(gap) = std::mem::take(before).told() {
            return Poll::Ready(Some(Ok(gap)));
        }
        if let Some(entry) = self.pop() {
            return Poll::Ready(Some(Ok(Event::Delivery(entry.delivery))));
        }
        match self.take_failure() {
            Some(error) => Poll::Ready(Some(Err(error))),
            None if self.end.is_some() => Poll::Ready(None),
            None => {
                self.entries.shrink_to(SPARE_ENTRIES);
                self.latest.shrink_to(SPARE_ENTRIES);
                Poll::Pending
            }
        }
    }

    /// The failure it ended with, told once.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        match self.end.take() {
            Some(End::Failed(error)) => {
                self.end = Some(End::Complete);
                Some(error)
            }
            other => {
                self.end = other;
                None
            }
        }
    }

    /// Messages in it.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What it costs in memory, as if it were the only one that has its messages.
    pub(super) fn cost(&self) -> usize {
        self.bytes + self.entries.len() * ENTRY_BYTES
    }

    /// Lets go what is over `cost_max` while memory is short, as its policy says, and says how many messages went. The
    /// newest stays, so that whoever reads in time loses nothing by it.
    pub(super) fn trim(&mut self, cost_max: usize) -> u64 {
        let is_over = |ring: &Self| ring.cost() > cost_max && ring.entries.len() > 1;
        if !is_over(self) {
            return 0;
        }
        if self.bounds.policy == QueuePolicy::Disconnect {
            return self.disconnect();
        }
        let mut gone = 0;
        while is_over(self) {
            self.lose_oldest();
            gone += 1;
        }
        self.entries.shrink_to(SPARE_ENTRIES);
        self.latest.shrink_to(SPARE_ENTRIES);
        gone
    }

    /// Takes nothing more, and gives what is in to be dropped where no lock is held.
    pub(super) fn discard(&mut self) -> VecDeque<Entry> {
        self.end(Ok(()));
        self.latest = HashMap::new();
        self.bytes = 0;
        self.first += self.entries.len() as u64;
        std::mem::take(&mut self.entries)
    }

    fn overflows(&self) -> bool {
        self.entries.len() > self.bounds.messages_max
            || (self.bytes > self.bounds.bytes_max && self.entries.len() > 1)
    }

    /// Lets the oldest go until the rest fits, but for the entry `kept`, which was just written: to lose the
    /// newest value for an older one of another subject would help nobody.
    fn make_room(&mut self, mut kept: u64) -> u64 {
        let mut gone = 0;
        while self.overflows() {
            let spared = if self.first == kept { self.pop() } else { None };
            self.lose_oldest();
            gone += 1;
            if let Some(entry) = spared {
                self.first -= 1;
                kept = self.first;
                self.latest.insert(entry.delivery.subject.clone(), kept);
                self.bytes += entry.delivery.bytes();
                self.entries.push_front(entry);
            }
        }
        gone
    }

    /// Lets the oldest message go. There is one.
    fn lose_oldest(&mut self) {
        let oldest = self.pop().expect("a queue that overflows holds more than one message");
        let before = self.entries.front_mut().map_or(&mut self.tail, |entry| &mut entry.before);
        before.add(oldest.before);
        before.add(Lost { count: 1, unknown: false });
    }

    /// Ends it for its slow reader, and says how many messages go.
    fn disconnect(&mut self) -> u64 {
        let own = self.entries.len() as u64;
        let mut lost = std::mem::take(&mut self.tail);
        lost.count += own;
        for entry in &self.entries {
            lost.add(entry.before);
        }
        let least = if lost.unknown { "at least " } else { "" };
        let text = format!("{least}{} messages were lost, because they were not read in time", lost.count);
        self.end(Err(Error::new(Kind::SlowConsumer, text)));
        drop(self.discard());
        own
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        if self.bounds.policy == QueuePolicy::LatestBySubject {
            self.latest.remove(&entry.delivery.subject);
        }
        self.bytes -= entry.delivery.bytes();
        self.first += 1;
        Some(entry)
    }
}

/// How many messages were lost at one place.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    count: u64,
    /// Whether there may be more than those that were counted.
    unknown: bool,
}

impl Lost {
    fn add(&mut self, more: Self) {
        self.count += more.count;
        self.unknown |= more.unknown;
    }

    /// As a reader is told, if there is anything to tell.
    fn told(self) -> Option<Event> {
        match (self.unknown, NonZeroU64::new(self.count)) {
            (true, _) => Some(Event::Gap { lost: None }),
            (false, Some(lost)) => Some(Event::Gap { lost: Some(lost) }),
            (false, None) => None,
        }
    }
}

#[cfg(test)]
mod tests;
