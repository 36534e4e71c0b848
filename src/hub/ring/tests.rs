//! The queue by example, and against a model that is too simple to be wrong: a plain list of messages and
//! losses, searched from its beginning each time.

use bytes::Bytes;
use contract::Headers;
use proptest::prelude::*;

use super::*;

/// A message of so many bytes in all, with its number in the payload's length; subjects have one letter.
fn message(subject: &'static str, bytes: usize) -> Arc<Delivery> {
    let payload = Bytes::from(vec![0; bytes - subject.len()]);
    Arc::new(Delivery::new(Subject::from_static(subject), Headers::new(), payload))
}

fn ring(policy: QueuePolicy, messages_max: usize, bytes_max: usize) -> Ring {
    Ring::new(QueueBounds { policy, messages_max, bytes_max })
}

/// What a reader saw, in short.
#[derive(Clone, Debug, PartialEq)]
enum Saw {
    Message(String, usize),
    Gap(Option<u64>),
    Failure(Kind, String),
    Nothing,
    End,
}

fn take(ring: &mut Ring) -> Saw {
    match ring.take() {
        Poll::Pending => Saw::Nothing,
        Poll::Ready(None) => Saw::End,
        Poll::Ready(Some(Err(error))) => Saw::Failure(error.kind(), error.text().to_owned()),
        Poll::Ready(Some(Ok(Event::Gap { lost }))) => Saw::Gap(lost.map(NonZeroU64::get)),
        Poll::Ready(Some(Ok(Event::Delivery(delivery)))) => {
            Saw::Message(delivery.subject.to_string(), delivery.bytes())
        }
    }
}

fn saw(subject: &str, bytes: usize) -> Saw {
    Saw::Message(subject.to_owned(), bytes)
}

fn take_all(ring: &mut Ring) -> Vec<Saw> {
    let mut all = Vec::new();
    while all.last().is_none_or(|last| !matches!(last, Saw::Nothing | Saw::End)) {
        all.push(take(ring));
    }
    all
}

#[test]
fn the_oldest_go_and_are_told_before_the_next() {
    let mut ring = ring(QueuePolicy::DropOldest, 2, 1000);
    let lost: Vec<_> = (1..=5).map(|bytes| ring.put(&message("a", bytes)).lost).collect();
    assert_eq!(lost, [0, 0, 1, 1, 1]);
    assert_eq!(take_all(&mut ring), [Saw::Gap(Some(3)), saw("a", 4), saw("a", 5), Saw::Nothing]);
}

#[test]
fn bytes_are_bounded_and_one_message_stays_whatever_its_size() {
    let mut ring = ring(QueuePolicy::DropOldest, 100, 10);
    assert_eq!([5, 5, 50].map(|bytes| ring.put(&message("a", bytes)).lost), [0, 0, 2]);
    assert_eq!(take_all(&mut ring), [Saw::Gap(Some(2)), saw("a", 50), Saw::Nothing]);
    assert_eq!(ring.bytes, 0);
}

#[test]
fn gaps_of_the_backend_keep_their_place_and_add_to_losses_of_ones_own() {
    let mut ring = ring(QueuePolicy::DropOldest, 2, 1000);
    ring.put(&message("a", 1));
    ring.gap(NonZeroU64::new(7));
    ring.put(&message("a", 2));
    assert_eq!(take(&mut ring), saw("a", 1));
    assert_eq!(take_all(&mut ring), [Saw::Gap(Some(7)), saw("a", 2), Saw::Nothing]);
    ring.gap(NonZeroU64::new(2));
    assert_eq!(take_all(&mut ring), [Saw::Gap(Some(2)), Saw::Nothing]);
    for bytes in 1..=2 {
        ring.put(&message("a", bytes));
        ring.gap(NonZeroU64::new(10));
    }
    // The first goes, and the loss that was told behind it stays a loss before the second.
    ring.put(&message("a", 3));
    assert_eq!(take(&mut ring), Saw::Gap(Some(11)));
    ring.gap(None);
    assert_eq!(
        take_all(&mut ring),
        [saw("a", 2), Saw::Gap(Some(10)), saw("a", 3), Saw::Gap(None), Saw::Nothing]
    );
}

#[test]
fn the_latest_takes_the_place_of_its_subject() {
    let mut ring = ring(QueuePolicy::LatestBySubject, 3, 1000);
    let conflated = ["a", "b", "a", "a", "c"].map(|subject| ring.put(&message(subject, 4)).conflated);
    assert_eq!(conflated, [false, false, true, true, false]);
    ring.put(&message("a", 9));
    assert_eq!(take(&mut ring), saw("a", 9));
    // Taken out, it is no longer there to be replaced.
    assert!(!ring.put(&message("a", 5)).conflated);
    assert_eq!(ring.put(&message("d", 6)).lost, 1);
    assert_eq!(take_all(&mut ring), [Saw::Gap(Some(1)), saw("c", 4), saw("a", 5), saw("d", 6), Saw::Nothing]);
    assert!(ring.latest.is_empty());
}

#[test]
fn the_value_just_written_is_not_lost_for_older_ones() {
    let mut ring = ring(QueuePolicy::LatestBySubject, 10, 10);
    for subject in ["a", "b", "c"] {
        ring.put(&message(subject, 3));
    }
    assert_eq!(ring.put(&message("a", 7)), Put { kept: true, conflated: true, lost: 1 });
    assert!(ring.put(&message("a", 6)).conflated);
    assert_eq!(take_all(&mut ring), [saw("a", 6), Saw::Gap(Some(1)), saw("c", 3), Saw::Nothing]);
}

#[test]
fn disconnect_ends_with_what_was_lost_and_keeps_nothing() {
    let mut ring = ring(QueuePolicy::Disconnect, 2, 1000);
    ring.put(&message("a", 1));
    ring.gap(NonZeroU64::new(5));
    ring.put(&message("a", 1));
    assert_eq!(ring.put(&message("a", 1)), Put { kept: false, conflated: false, lost: 3 });
    assert_eq!((ring.len(), ring.put(&message("a", 1))), (0, Put::default()));
    let text = "8 messages were lost, because they were not read in time".to_owned();
    assert_eq!(take_all(&mut ring), [Saw::Failure(Kind::SlowConsumer, text), Saw::End]);
}

#[test]
fn the_end_comes_after_what_is_unread_and_a_failure_once() {
    let mut ring = ring(QueuePolicy::DropOldest, 2, 1000);
    ring.put(&message("a", 1));
    ring.end(Err(Error::new(Kind::Unavailable, "gone")));
    ring.end(Ok(()));
    assert_eq!(ring.put(&message("a", 2)), Put::default());
    let failure = Saw::Failure(Kind::Unavailable, "gone".to_owned());
    assert_eq!(take_all(&mut ring), [saw("a", 1), failure, Saw::End]);
    assert_eq!(take(&mut ring), Saw::End);
}

#[test]
fn an_empty_queue_gives_the_memory_of_a_burst_back() {
    let mut ring = ring(QueuePolicy::LatestBySubject, 2000, 1 << 20);
    for number in 0..2000 {
        let subject = Subject::parse(format!("a.{number}")).unwrap();
        ring.put(&Arc::new(Delivery::new(subject, Headers::new(), Bytes::new())));
    }
    assert_eq!(take_all(&mut ring).len(), 2001);
    // A hash table rounds its room up.
    assert!(ring.entries.capacity() <= SPARE_ENTRIES && ring.latest.capacity() <= 2 * SPARE_ENTRIES);
}

/// A message or a loss, in a list.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    Message(&'static str, usize),
    Lost(Option<u64>),
}

struct Model {
    bounds: QueueBounds,
    items: Vec<Item>,
    failed: Option<String>,
    over: bool,
}

impl Model {
    fn messages(&self) -> impl Iterator<Item = (usize, usize)> {
        self.items.iter().enumerate().filter_map(|(place, item)| match item {
            Item::Message(_, bytes) => Some((place, *bytes)),
            Item::Lost(_) => None,
        })
    }

    fn overflows(&self) -> bool {
        let bytes: usize = self.messages().map(|(_, bytes)| bytes).sum();
        let count = self.messages().count();
        count > self.bounds.messages_max || (bytes > self.bounds.bytes_max && count > 1)
    }

    /// How many these are; `None` when nobody can know.
    fn lost(items: &[Item]) -> Option<u64> {
        let losses = items.iter().map(|item| match item {
            Item::Message(..) => Some(1),
            Item::Lost(lost) => *lost,
        });
        losses.sum()
    }

    fn put(&mut self, subject: &'static str, bytes: usize) {
        if self.over {
            return;
        }
        let same = |item: &Item| matches!(item, Item::Message(known, _) if *known == subject);
        let latest = self.bounds.policy == QueuePolicy::LatestBySubject;
        let place = self.items.iter().position(same).filter(|_| latest);
        let written = place.unwrap_or(self.items.len());
        if place.is_none() {
            self.items.push(Item::Message(subject, bytes));
        }
        self.items[written] = Item::Message(subject, bytes);
        if self.bounds.policy == QueuePolicy::Disconnect && self.overflows() {
            let least = if self.items.contains(&Item::Lost(None)) { "at least " } else { "" };
            let known: Vec<_> =
                self.items.drain(..).filter(|item| !matches!(item, Item::Lost(None))).collect();
            let lost = Self::lost(&known).unwrap();
            self.failed =
                Some(format!("{least}{lost} messages were lost, because they were not read in time"));
            self.over = true;
            return;
        }
        while self.overflows() {
            let (oldest, _) = self.messages().find(|(place, _)| *place != written).unwrap();
            self.items[oldest] = Item::Lost(Some(1));
        }
    }

    fn take(&mut self) -> Saw {
        let losses = self.items.iter().take_while(|item| matches!(item, Item::Lost(_))).count();
        let lost: Vec<_> = self.items.drain(..losses).collect();
        if !lost.is_empty() {
            return Saw::Gap(Self::lost(&lost));
        }
        if !self.items.is_empty() {
            let Item::Message(subject, bytes) = self.items.remove(0) else { unreachable!("losses are gone") };
            return saw(subject, bytes);
        }
        match self.failed.take() {
            Some(text) => Saw::Failure(Kind::SlowConsumer, text),
            None if self.over => Saw::End,
            None => Saw::Nothing,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(&'static str, usize),
    Gap(Option<u64>),
    Take,
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (prop::sample::select(vec!["a", "b", "c", "d"]), 1_usize..20)
            .prop_map(|(subject, bytes)| Step::Put(subject, bytes)),
        2 => prop::option::weighted(0.7, 1_u64..5).prop_map(Step::Gap),
        6 => Just(Step::Take),
        1 => Just(Step::End),
    ]
}

proptest! {
    #[test]
    fn it_does_what_the_model_says(
        policy in prop::sample::select(QueuePolicy::ALL.to_vec()),
        messages_max in 1_usize..6,
        bytes_max in 0_usize..60,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let bounds = QueueBounds { policy, messages_max, bytes_max };
        let mut model = Model { bounds, items: Vec::new(), failed: None, over: false };
        let mut ring = Ring::new(bounds);
        for step in steps {
            match step {
                Step::Put(subject, bytes) => {
                    ring.put(&message(subject, bytes));
                    model.put(subject, bytes);
                }
                Step::Gap(lost) => {
                    ring.gap(lost.and_then(NonZeroU64::new));
                    if !model.over {
                        model.items.push(Item::Lost(lost));
                    }
                }
                Step::Take => prop_assert_eq!(take(&mut ring), model.take()),
                Step::End => {
                    ring.end(Ok(()));
                    model.over = true;
                }
            }
            prop_assert_eq!(ring.len(), model.messages().count());
            prop_assert_eq!(ring.bytes, model.messages().map(|(_, bytes)| bytes).sum::<usize>());
        }
        loop {
            let taken = take(&mut ring);
            prop_assert_eq!(&taken, &model.take());
            if matches!(taken, Saw::Nothing | Saw::End) {
                break;
            }
        }
        prop_assert_eq!((ring.len(), ring.bytes, ring.latest.len()), (0, 0, 0));
    }
}
