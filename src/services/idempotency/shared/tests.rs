//! Claims and ends in a bucket in memory, which can hang before or after it did what it was asked.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use contract::{Counter, Error, Kind, Message, Reply};
use tokio::time::Instant;

use super::super::bucket::Work;
use super::*;

pub(in super::super) const SETTINGS: SharedSettings = SharedSettings {
    lease: Duration::from_secs(10),
    timeout: Duration::from_secs(1),
    when_unavailable: WhenUnavailable::Refuse,
};
const WINDOW: Duration = Duration::from_mins(10);
const KEY: Digest = Digest([1; 32]);
const ASKED: Digest = Digest([2; 32]);

/// A bucket in memory that can hang, also when it has done what it was asked.
#[derive(Debug, Default)]
pub(in super::super) struct Memory {
    values: Mutex<HashMap<Digest, (Bytes, u64)>>,
    last: AtomicU64,
    pub(in super::super) hangs: AtomicBool,
    /// What is put is there, and nobody hears of it.
    pub(in super::super) puts_unheard: AtomicBool,
}

impl Memory {
    fn revision(&self) -> u64 {
        self.values.lock().unwrap()[&KEY].1
    }

    fn record(&self) -> Record {
        Record::decode(&self.values.lock().unwrap()[&KEY].0).unwrap()
    }

    /// Whatever is there, as by hand.
    fn set(&self, value: Bytes) {
        let revision = self.last.fetch_add(1, Relaxed) + 1;
        self.values.lock().unwrap().insert(KEY, (value, revision));
    }

    async fn answer(&self) {
        if self.hangs.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
    }
}

impl Bucket for Memory {
    fn get(&self, key: Digest) -> Work<'_, Option<Stored>> {
        Box::pin(async move {
            self.answer().await;
            let found = self.values.lock().unwrap().get(&key).cloned();
            Ok(found.map(|(value, revision)| Stored { value, revision }))
        })
    }

    fn put(&self, key: Digest, value: Bytes, after: u64) -> Work<'_, Put> {
        Box::pin(async move {
            self.answer().await;
            let revision = {
                let mut values = self.values.lock().unwrap();
                if values.get(&key).map_or(0, |(_, revision)| *revision) != after {
                    return Ok(Put::Changed);
                }
                let revision = self.last.fetch_add(1, Relaxed) + 1;
                values.insert(key, (value, revision));
                revision
            };
            if self.puts_unheard.load(Relaxed) {
                std::future::pending::<()>().await;
            }
            Ok(Put::Done(revision))
        })
    }

    fn value_bytes_max(&self) -> usize {
        1000
    }
}

fn shared() -> (Arc<Memory>, Shared) {
    let memory = Arc::<Memory>::default();
    (Arc::clone(&memory), Shared::new(memory, SETTINGS))
}

async fn claim(shared: &Shared) -> Claim {
    match shared.claim(KEY, ASKED, || false).await.unwrap() {
        Found::Claim(claim) => claim,
        other => panic!("{other:?}"),
    }
}

fn message(bytes: usize) -> End {
    End::Message(Message { payload: vec![b'x'; bytes].into(), ..Message::default() })
}

fn not_sent() -> End {
    End::of(&Err(Error::new(Kind::Unavailable, "")))
}

#[tokio::test(start_paused = true)]
async fn of_many_one_claims_and_the_others_find_its_end() {
    let (_, shared) = shared();
    let first = claim(&shared).await;
    let others: Vec<_> = (0..20)
        .map(|_| {
            let shared = shared.clone();
            tokio::spawn(async move { shared.claim(KEY, ASKED, || false).await })
        })
        .collect();
    sleep(Duration::from_secs(5)).await;
    assert!(others.iter().all(|other| !other.is_finished()));
    shared.record(first, &message(3), WINDOW).await.unwrap();
    for other in others {
        let Found::End(end, left) = other.await.unwrap().unwrap() else { panic!() };
        assert!(matches!(end.tell(), Ok(Reply::Message(message)) if message.payload == "xxx"));
        assert!(left <= WINDOW && left > WINDOW / 2);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_not_wanted_any_more_stops_waiting() {
    let (_, shared) = shared();
    let _first = claim(&shared).await;
    let mut looks = 0;
    let found = shared.claim(KEY, ASKED, || {
        looks += 1;
        looks == 3
    });
    assert!(matches!(found.await, Ok(Found::Unwanted)));
}

#[tokio::test(start_paused = true)]
async fn those_who_begin_at_once_get_one_claim() {
    let (_, shared) = shared();
    let claims: Vec<_> = (0..20)
        .map(|_| {
            let shared = shared.clone();
            tokio::spawn(
                async move { timeout(Duration::from_secs(5), shared.claim(KEY, ASKED, || false)).await },
            )
        })
        .collect();
    let mut claimed = 0;
    for claim in claims {
        claimed += usize::from(matches!(claim.await.unwrap(), Ok(Ok(Found::Claim(_)))));
    }
    assert_eq!(claimed, 1);
}

#[tokio::test(start_paused = true)]
async fn another_request_with_the_key_is_a_conflict_before_and_after_its_end() {
    let (_, shared) = shared();
    let other = Digest([3; 32]);
    let first = claim(&shared).await;
    assert!(matches!(shared.claim(KEY, other, || false).await, Ok(Found::Conflict)));
    shared.record(first, &End::Accepted, WINDOW).await.unwrap();
    assert!(matches!(shared.claim(KEY, other, || false).await, Ok(Found::Conflict)));
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_claimed_at_once_by_whatever_request() {
    let (memory, shared) = shared();
    let over = |state| Record { fingerprint: Digest([3; 32]), until_ms: unix_ms(), state }.encode();
    for value in [over(State::Claimed(7)), over(State::Ended(End::Accepted)), Bytes::new()] {
        memory.set(value);
        let begin = Instant::now();
        claim(&shared).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_leaves_nothing_to_wait_for() {
    let (_, shared) = shared();
    let first = claim(&shared).await;
    shared.record(first, &not_sent(), WINDOW).await.unwrap();
    let begin = Instant::now();
    claim(&shared).await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_put_off_as_long_as_its_execution_takes() {
    let (memory, shared) = shared();
    let (mut first, failures) = (claim(&shared).await, Counter::default());
    let before = memory.revision();
    shared.hold(&mut first, &failures, sleep(SETTINGS.lease * 2)).await;
    assert_eq!((memory.revision() - before, first.revision), (5, memory.revision()));
    // One word that is not heard in time is made up for by the next.
    memory.hangs.store(true, Relaxed);
    shared.hold(&mut first, &failures, sleep(SETTINGS.lease / 2)).await;
    memory.hangs.store(false, Relaxed);
    assert_eq!(failures.get(), 1);
    shared.record(first, &End::Accepted, WINDOW).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_put_off_unheard_is_still_ones_own() {
    let (memory, shared) = shared();
    let first = claim(&shared).await;
    memory.set(shared.marker(ASKED, first.nonce));
    shared.record(first, &End::Accepted, WINDOW).await.unwrap();
    assert!(matches!(memory.record().state, State::Ended(End::Accepted)));
}

#[tokio::test(start_paused = true)]
async fn an_end_takes_no_place_that_another_took_over() {
    let (memory, shared) = shared();
    let first = claim(&shared).await;
    memory.set(shared.marker(ASKED, 7));
    assert!(shared.record(first, &End::Accepted, WINDOW).await.is_err());
    assert!(matches!(memory.record().state, State::Claimed(7)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_leaves_word_that_it_was_given() {
    let (memory, shared) = shared();
    let first = claim(&shared).await;
    shared.record(first, &message(1000), WINDOW).await.unwrap();
    assert!(matches!(memory.record().state, State::Ended(End::NotKept)));
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_hangs_is_trouble_in_time_and_told_once() {
    let (memory, shared) = shared();
    memory.hangs.store(true, Relaxed);
    let begin = Instant::now();
    let trouble = shared.claim(KEY, ASKED, || false).await.unwrap_err();
    assert_eq!((begin.elapsed(), &*trouble.0), (SETTINGS.timeout, "the bucket does not answer in time"));
    shared.tell(&trouble);
    assert!(shared.in_trouble.load(Relaxed));
    memory.hangs.store(false, Relaxed);
    claim(&shared).await;
    assert!(!shared.in_trouble.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_trouble_and_stays() {
    let (memory, shared) = shared();
    memory.set(Bytes::from_static(b"written by somebody else"));
    assert!(shared.claim(KEY, ASKED, || false).await.is_err());
    assert_eq!(memory.values.lock().unwrap()[&KEY].0, "written by somebody else");
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_put_off_again_after_it_was_put_off_unheard() {
    let (memory, shared) = shared();
    let (mut first, failures) = (claim(&shared).await, Counter::default());
    memory.puts_unheard.store(true, Relaxed);
    shared.hold(&mut first, &failures, sleep(SETTINGS.lease / 2)).await;
    assert_eq!((failures.get(), first.revision, memory.revision()), (1, 1, 2));
    memory.puts_unheard.store(false, Relaxed);
    let begin = Instant::now();
    shared.hold(&mut first, &failures, sleep(SETTINGS.lease)).await;
    assert_eq!((failures.get(), first.revision, memory.revision()), (1, 3, 3));
    assert!(first.until > begin + SETTINGS.lease);
    assert!(matches!(memory.record().state, State::Claimed(nonce) if nonce == first.nonce));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_another_took_is_not_taken_back() {
    let (memory, shared) = shared();
    let (mut first, failures) = (claim(&shared).await, Counter::default());
    memory.set(shared.marker(ASKED, 7));
    shared.hold(&mut first, &failures, sleep(SETTINGS.lease * 2)).await;
    assert!(matches!(memory.record().state, State::Claimed(7)));
    assert_eq!(failures.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_put_until_the_claim_is_over() {
    for recovers in [true, false] {
        let (memory, shared) = shared();
        let (first, failures) = (claim(&shared).await, Counter::default());
        let (nonce, begin) = (first.nonce, Instant::now());
        memory.hangs.store(true, Relaxed);
        let unrecorded = shared.record(first, &message(3), WINDOW).await.unwrap_err();
        let later = shared.record_later(unrecorded.again.unwrap(), &failures);
        let recovery = async {
            sleep(SETTINGS.lease / 2).await;
            memory.hangs.store(!recovers, Relaxed);
        };
        tokio::join!(later, recovery);
        assert!(failures.get() > 2 && begin.elapsed() <= SETTINGS.lease + SETTINGS.timeout);
        match memory.record().state {
            State::Ended(_) => assert!(recovers),
            State::Claimed(there) => assert!(!recovers && there == nonce),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_put_unheard_is_found_and_not_put_twice() {
    let (memory, shared) = shared();
    let (first, failures) = (claim(&shared).await, Counter::default());
    memory.puts_unheard.store(true, Relaxed);
    let unrecorded = shared.record(first, &message(3), WINDOW).await.unwrap_err();
    assert!(matches!(memory.record().state, State::Ended(_)));
    let revision = memory.revision();
    shared.record_later(unrecorded.again.unwrap(), &failures).await;
    assert_eq!((failures.get(), memory.revision()), (0, revision));
}
