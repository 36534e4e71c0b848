//! The entries: which keys are being executed in this process, and how those of the last while ended.
//!
//! One lock for all, held for a few steps of a map, and taken only by requests that have a key. What is being
//! executed is never forgotten; what has ended goes when its time is over, or earlier, the oldest first, when there
//! is no room: a service that refused everything new for ten minutes would be worse than a shorter memory, and a
//! metric tells of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use contract::{Counter, Gauge};
use tokio::sync::watch;
use tokio::time::Instant;

use super::end::End;
use super::flight::Flight;
use super::key::Digest;
use super::shared::Shared;

/// What bounds the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Keys at once, at least 1.
    pub entries_max: usize,
    /// Bytes of what has ended.
    pub bytes_max: usize,
}

/// The entries of all routes. Kept across reloads.
#[derive(Debug)]
pub struct Entries {
    table: Mutex<Table>,
    count_max: AtomicUsize,
    bytes_max: AtomicUsize,
    shared: OnceLock<Shared>,
    /// What is counted.
    pub meters: Meters,
}

/// What is counted; see `docs/operations/metrics.md`.
#[derive(Debug, Default)]
pub struct Meters {
    /// Requests that were executed.
    pub executed: Counter,
    /// Requests that waited for another one with their key.
    pub waited: Counter,
    /// Requests that got a stored answer.
    pub replayed: Counter,
    /// Requests whose key was used with another request.
    pub conflicts: Counter,
    /// Requests refused because as many keys were being executed as may be known.
    pub refused: Counter,
    /// Ends that were forgotten before their time.
    pub evicted: Counter,
    /// Answers that were not kept because of their size, or as streams.
    pub not_kept: Counter,
    /// Requests that got the answer of an execution by another gateway.
    pub shared: Counter,
    /// Times that the bucket failed, or took too long.
    pub store_failures: Counter,
    /// Requests that wait for another one with their key now.
    pub waiting: Gauge,
}

#[derive(Debug, Default)]
struct Table {
    by_key: HashMap<Digest, Entry>,
    /// What has ended, by the time when it is forgotten.
    ages: BTreeMap<(Instant, u64), Digest>,
    /// Tells apart what is forgotten at the same time.
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    fingerprint: Digest,
    state: State,
}

#[derive(Debug)]
enum State {
    Running(Ending),
    Ended { end: Arc<End>, age: (Instant, u64) },
}

/// The end of an execution, when it comes.
pub(super) type Ending = watch::Receiver<Option<Arc<End>>>;

/// What to do with a request that has a key.
#[derive(Debug)]
pub(super) enum Begin {
    /// Execute it.
    First(Flight),
    /// Wait for the one that is being executed.
    Twin(Ending),
    /// It was executed.
    Over(Arc<End>),
    /// The key was used with another request.
    Conflict,
    /// There is no room for another execution.
    Full,
}

impl Default for Entries {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            count_max: AtomicUsize::new(usize::MAX),
            bytes_max: AtomicUsize::new(usize::MAX),
            shared: OnceLock::new(),
            meters: Meters::default(),
        }
    }
}

impl Entries {
    /// Changes what bounds them. What is over it goes when there is something new.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.count_max.store(bounds.entries_max, Relaxed);
        self.bytes_max.store(bounds.bytes_max, Relaxed);
    }

    /// From now on keys are shared with other gateways. Once; again is nothing.
    pub fn share(&self, shared: Shared) {
        let _ = self.shared.set(shared);
    }

    /// By what keys are shared, if they are.
    pub fn shared(&self) -> Option<&Shared> {
        self.shared.get()
    }

    /// What bounds them.
    pub fn bounds(&self) -> Bounds {
        Bounds { entries_max: self.count_max.load(Relaxed), bytes_max: self.bytes_max.load(Relaxed) }
    }

    /// How many keys are known, and the bytes of what has ended. Forgets what is over.
    pub fn used(&self) -> (usize, usize) {
        let mut table = self.lock();
        table.forget_until(Instant::now());
        (table.by_key.len(), table.bytes)
    }

    /// Finds what to do with a request of this key and fingerprint. Whoever is first has to execute it.
    pub(super) fn begin(self: &Arc<Self>, key: Digest, fingerprint: Digest, window: Duration) -> Begin {
        let mut table = self.lock();
        table.forget_until(Instant::now());
        if let Some(entry) = table.by_key.get(&key) {
            let begin = match &entry.state {
                _ if entry.fingerprint != fingerprint => Begin::Conflict,
                State::Running(ending) => Begin::Twin(ending.clone()),
                State::Ended { end, .. } => Begin::Over(Arc::clone(end)),
            };
            drop(table);
            let counter = match begin {
                Begin::Conflict => &self.meters.conflicts,
                Begin::Twin(_) => &self.meters.waited,
                _ => &self.meters.replayed,
            };
            counter.increment();
            return begin;
        }
        let entries_max = self.bounds().entries_max;
        while table.by_key.len() >= entries_max {
            if !table.forget_oldest() {
                self.meters.refused.increment();
                return Begin::Full;
            }
            self.meters.evicted.increment();
        }
        let (told, ending) = watch::channel(None);
        table.by_key.insert(key, Entry { fingerprint, state: State::Running(ending) });
        Begin::First(Flight::new(Arc::clone(self), key, window, told))
    }

    /// Ends an execution: keeps its end until then, or forgets the key.
    pub(super) fn land(&self, key: Digest, end: &Arc<End>, keep_until: Option<Instant>) {
        let Bounds { bytes_max, .. } = self.bounds();
        let mut table = self.lock();
        let Some(keep_until) = keep_until else {
            table.by_key.remove(&key);
            return;
        };
        let end = if end.bytes() > bytes_max { Arc::new(End::NotKept) } else { Arc::clone(end) };
        if matches!(*end, End::NotKept) {
            self.meters.not_kept.increment();
        }
        table.keep(key, end, keep_until);
        while table.bytes > bytes_max && table.ages.len() > 1 && table.forget_oldest() {
            self.meters.evicted.increment();
        }
    }

    /// Forgets a key of what is being executed if that holds, during which nobody finds it; says whether it did.
    pub(super) fn forget_if(&self, key: Digest, holds: impl FnOnce() -> bool) -> bool {
        let mut table = self.lock();
        let forgets = holds();
        if forgets {
            table.by_key.remove(&key);
        }
        forgets
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // What is done under the lock calls nothing that can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn keep(&mut self, key: Digest, end: Arc<End>, until: Instant) {
        let age = (until, self.next);
        self.next += 1;
        let entry = self.by_key.get_mut(&key).expect("what is being executed is not forgotten");
        self.bytes += end.bytes();
        self.ages.insert(age, key);
        entry.state = State::Ended { end, age };
    }

    fn forget_until(&mut self, now: Instant) {
        while self.ages.first_key_value().is_some_and(|((until, _), _)| *until <= now) {
            self.forget_oldest();
        }
    }

    /// Forgets the end that would be forgotten next; whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let Some((age, key)) = self.ages.pop_first() else { return false };
        if let Some(Entry { state: State::Ended { end, age: own }, .. }) = self.by_key.remove(&key) {
            debug_assert_eq!(own, age, "each end has one age");
            self.bytes -= end.bytes();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use contract::{Error, Kind, Message, Outcome, Reply};
    use proptest::prelude::*;

    use super::super::end::ENTRY_BYTES;
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn digest(number: u8) -> Digest {
        Digest([number; 32])
    }

    fn entries(entries_max: usize, bytes_max: usize) -> Arc<Entries> {
        let entries = Arc::<Entries>::default();
        entries.set_bounds(Bounds { entries_max, bytes_max });
        entries
    }

    fn first(entries: &Arc<Entries>, key: u8) -> Flight {
        match entries.begin(digest(key), digest(0), WINDOW) {
            Begin::First(flight) => flight,
            other => panic!("{other:?}"),
        }
    }

    fn message(bytes: usize) -> End {
        End::Message(Message { payload: vec![0; bytes].into(), ..Message::default() })
    }

    fn not_sent() -> End {
        End::of(&Err(Error::new(Kind::Unavailable, "")))
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_executes_its_twins_wait_and_the_later_ones_get_the_end() {
        let entries = entries(10, 10_000);
        let flight = first(&entries, 1);
        let Begin::Twin(mut ending) = entries.begin(digest(1), digest(0), WINDOW) else { panic!() };
        assert!(matches!(entries.begin(digest(1), digest(9), WINDOW), Begin::Conflict));
        flight.end(End::Accepted);
        let told = ending.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert!(matches!(*told, End::Accepted));
        assert!(matches!(entries.begin(digest(1), digest(0), WINDOW), Begin::Over(_)));
        assert!(matches!(entries.begin(digest(1), digest(9), WINDOW), Begin::Conflict));
        tokio::time::advance(WINDOW).await;
        assert_eq!(entries.used(), (0, 0));
        drop(first(&entries, 1));
        let meters = &entries.meters;
        let counts = [&meters.waited, &meters.replayed, &meters.conflicts];
        assert_eq!(counts.map(Counter::get), [1, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_sent_is_told_to_the_twins_and_not_kept() {
        let entries = entries(10, 10_000);
        let flight = first(&entries, 1);
        let Begin::Twin(ending) = entries.begin(digest(1), digest(0), WINDOW) else { panic!() };
        flight.end(not_sent());
        let told = ending.borrow().clone().unwrap().tell().unwrap_err();
        assert_eq!((told.kind(), told.outcome()), (Kind::Unavailable, Outcome::NotSent));
        assert_eq!(entries.used(), (0, 0));
        // Also not for another request.
        assert!(matches!(entries.begin(digest(1), digest(9), WINDOW), Begin::First(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_execution_that_is_broken_off_may_have_happened() {
        let entries = entries(10, 10_000);
        drop(first(&entries, 1));
        let Begin::Over(end) = entries.begin(digest(1), digest(0), WINDOW) else { panic!() };
        let error = end.tell().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Internal, Outcome::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_the_oldest_end_goes_and_what_is_executed_never() {
        let entries = entries(2, 10_000);
        let running = first(&entries, 1);
        first(&entries, 2).end(End::Accepted);
        let third = first(&entries, 3);
        assert_eq!(entries.meters.evicted.get(), 1);
        assert!(matches!(entries.begin(digest(4), digest(0), WINDOW), Begin::Full));
        drop((running, third));
        first(&entries, 4).end(End::Accepted);
        assert_eq!((entries.used().0, entries.meters.refused.get()), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_large_to_keep_leaves_word_that_it_was_done() {
        let entries = entries(10, 2000);
        let flight = first(&entries, 1);
        let Begin::Twin(ending) = entries.begin(digest(1), digest(0), WINDOW) else { panic!() };
        flight.end(message(2000));
        // Who waited gets it; who comes later is told.
        let told = ending.borrow().clone().unwrap().tell();
        assert!(matches!(told, Ok(Reply::Message(message)) if message.payload.len() == 2000));
        let Begin::Over(end) = entries.begin(digest(1), digest(0), WINDOW) else { panic!() };
        assert_eq!((end.tell().unwrap_err().kind(), entries.meters.not_kept.get()), (Kind::Conflict, 1));
    }

    #[test]
    fn of_many_threads_one_executes() {
        const THREADS: usize = 8;
        const KEYS: u8 = 200;
        let entries = entries(1000, 1 << 20);
        let start = std::sync::Barrier::new(THREADS);
        let executed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for key in 0..KEYS {
                        match entries.begin(digest(key), digest(0), WINDOW) {
                            Begin::First(flight) => {
                                executed.fetch_add(1, Relaxed);
                                flight.end(message(usize::from(key)));
                            }
                            Begin::Over(end) => assert_eq!(end.bytes(), message(usize::from(key)).bytes()),
                            Begin::Twin(_) => {}
                            other => panic!("{other:?}"),
                        }
                    }
                });
            }
        });
        assert_eq!((executed.load(Relaxed), entries.used().0), (usize::from(KEYS), usize::from(KEYS)));
    }

    /// What a simple model knows of a key.
    #[derive(Clone, Debug)]
    enum Known {
        Running(u8),
        Ended { fingerprint: u8, bytes: usize, until: Instant },
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin { key: u8, fingerprint: u8 },
        End { key: u8, bytes: usize },
        NotSent { key: u8 },
        Pass(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let key = 0..6_u8;
        prop_oneof![
            4 => (key.clone(), 0..2_u8).prop_map(|(key, fingerprint)| Step::Begin { key, fingerprint }),
            3 => (key.clone(), 0..1500_usize).prop_map(|(key, bytes)| Step::End { key, bytes }),
            1 => key.prop_map(|key| Step::NotSent { key }),
            1 => (1..40_u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// Against a list in the order of ages.
        #[test]
        fn they_do_what_a_simple_model_does(steps in prop::collection::vec(any_step(), 1..80)) {
            const ENTRIES_MAX: usize = 4;
            const BYTES_MAX: usize = 4000;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time().start_paused(true).build().unwrap();
            let _entered = runtime.enter();
            let entries = entries(ENTRIES_MAX, BYTES_MAX);
            let mut flights: HashMap<u8, Flight> = HashMap::new();
            // In the order in which they were begun, and after that in which they ended.
            let mut model: Vec<(u8, Known)> = Vec::new();
            let bytes = |model: &[(u8, Known)]| -> usize {
                model.iter().map(|(_, known)| match known {
                    Known::Ended { bytes, .. } => *bytes,
                    Known::Running(_) => 0,
                }).sum()
            };
            let oldest = |model: &[(u8, Known)]| {
                model.iter().position(|(_, known)| matches!(known, Known::Ended { .. }))
            };
            for step in steps {
                let now = Instant::now();
                model.retain(|(_, known)| !matches!(known, Known::Ended { until, .. } if *until <= now));
                match step {
                    Step::Begin { key, fingerprint } => {
                        let begin = entries.begin(digest(key), digest(fingerprint), WINDOW);
                        let known = model.iter().find(|(known, _)| *known == key).map(|(_, known)| known.clone());
                        match known {
                            Some(Known::Running(own) | Known::Ended { fingerprint: own, .. })
                                if own != fingerprint => prop_assert!(matches!(begin, Begin::Conflict)),
                            Some(Known::Running(_)) => prop_assert!(matches!(begin, Begin::Twin(_))),
                            Some(Known::Ended { bytes, .. }) => {
                                let Begin::Over(end) = begin else { panic!("{begin:?}") };
                                prop_assert_eq!(end.bytes(), bytes);
                            }
                            None => {
                                if model.len() >= ENTRIES_MAX {
                                    let Some(place) = oldest(&model) else {
                                        prop_assert!(matches!(begin, Begin::Full));
                                        continue;
                                    };
                                    model.remove(place);
                                }
                                let Begin::First(flight) = begin else { panic!("{begin:?}") };
                                flights.insert(key, flight);
                                model.push((key, Known::Running(fingerprint)));
                            }
                        }
                    }
                    Step::End { key, bytes: payload } => {
                        let Some(flight) = flights.remove(&key) else { continue };
                        flight.end(message(payload));
                        let place = model.iter().position(|(known, _)| *known == key).unwrap();
                        let (_, Known::Running(fingerprint)) = model.remove(place) else { panic!() };
                        let until = now + WINDOW;
                        model.push((key, Known::Ended { fingerprint, bytes: ENTRY_BYTES + payload, until }));
                        while bytes(&model) > BYTES_MAX {
                            model.remove(oldest(&model).unwrap());
                        }
                    }
                    Step::NotSent { key } => {
                        let Some(flight) = flights.remove(&key) else { continue };
                        flight.end(not_sent());
                        model.retain(|(known, _)| *known != key);
                    }
                    Step::Pass(seconds) => {
                        runtime.block_on(tokio::time::advance(Duration::from_secs(seconds)));
                        let now = Instant::now();
                        model.retain(|(_, known)| !matches!(known, Known::Ended { until, .. } if *until <= now));
                    }
                }
                prop_assert_eq!(entries.used(), (model.len(), bytes(&model)));
                prop_assert!(model.len() <= ENTRIES_MAX && bytes(&model) <= BYTES_MAX);
            }
        }
    }
}
