//! Keys that several gateways share: whoever puts its claim into the bucket first executes, the others wait for what it
//! leaves there.
//!
//! A claim is a lease: it is put off while its owner lives, and void a while after the owner died, when somebody else
//! may execute. That is the one case in which a request may be executed twice, and it is one in which nobody knows
//! whether it was executed once. Leases are compared with the clock of whoever looks, so clocks may differ by less than a
//! lease. Those who wait look again and again: an end comes to them a quarter of a second late at most, and costs no
//! subscription.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::bucket::{Bucket, Put, Stored, Trouble};
use super::end::End;
use super::key::Digest;
use super::record::{Record, State};

/// Between two looks for the end of another's execution: doubled from the first to the second.
const LOOK: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];
/// How often an end is put again because a claim was put off in the same moment.
const PUTS: usize = 3;
/// Times that a claim is put off while it lasts: one may fail.
const RENEWALS: u32 = 3;

/// How keys are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedSettings {
    /// How long a claim lasts after its owner's last word.
    pub lease: Duration,
    /// How long the bucket may take for one thing.
    pub timeout: Duration,
    /// What becomes of requests while it takes longer, or fails.
    pub when_unavailable: WhenUnavailable,
}

/// What becomes of requests with keys that cannot be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenUnavailable {
    /// They are refused: nothing is executed twice.
    Refuse,
    /// They are executed, once by each gateway.
    Execute,
}

/// A bucket, and what is known of it. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Shared {
    bucket: Arc<dyn Bucket>,
    settings: SharedSettings,
    in_trouble: Arc<AtomicBool>,
}

/// What came of an attempt to claim a key.
#[derive(Debug)]
pub(super) enum Found {
    /// It is ours to execute.
    Claim(Claim),
    /// It was executed; for how long that is known.
    End(End, Duration),
    /// It was used with another request.
    Conflict,
    /// Another executes it, and nobody waits here.
    Unwanted,
}

/// The right to execute.
#[derive(Debug)]
pub(super) struct Claim {
    key: Digest,
    fingerprint: Digest,
    nonce: u128,
    revision: u64,
}

impl Shared {
    /// Shares keys by `bucket`.
    pub fn new(bucket: Arc<dyn Bucket>, settings: SharedSettings) -> Self {
        Self { bucket, settings, in_trouble: Arc::default() }
    }

    pub(super) fn when_unavailable(&self) -> WhenUnavailable {
        self.settings.when_unavailable
    }

    /// Claims a key, or finds its end. Waits while somebody else has a claim, until `is_unwanted` says that nobody waits
    /// for it.
    pub(super) async fn claim(
        &self,
        key: Digest,
        fingerprint: Digest,
        mut is_unwanted: impl FnMut() -> bool,
    ) -> Result<Found, Trouble> {
        let nonce = fastrand::u128(..);
        let mut vacant = Some(0);
        let mut pause = LOOK[0];
        loop {
            if let Some(after) = vacant.take() {
                let claim = self.marker(fingerprint, nonce);
                if let Put::Done(revision) = self.put(key, claim, after).await? {
                    return Ok(Found::Claim(Claim { key, fingerprint, nonce, revision }));
                }
            }
            match self.get(key).await? {
                // A replica that lags behind, or gone in between.
                None => vacant = Some(0),
                Some(Stored { value, revision }) if value.is_empty() => vacant = Some(revision),
                Some(Stored { value, revision }) => {
                    let unreadable = || Trouble("an entry of the bucket cannot be read".to_owned());
                    let record = Record::decode(&value).ok_or_else(unreadable)?;
                    let left = record.until_ms.saturating_sub(unix_ms());
                    match record.state {
                        _ if left == 0 => vacant = Some(revision),
                        _ if record.fingerprint != fingerprint => return Ok(Found::Conflict),
                        State::Ended(end) => return Ok(Found::End(end, Duration::from_millis(left))),
                        State::Claimed(_) => {}
                    }
                }
            }
            if vacant.is_none_or(|after| after == 0) {
                if is_unwanted() {
                    return Ok(Found::Unwanted);
                }
                // Half of it at random, so that those who wait for the same do not ask at once.
                sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(LOOK[1]);
            }
        }
    }

    /// Puts the claim off for as long as `execution` takes.
    pub(super) async fn hold<T>(
        &self,
        claim: &mut Claim,
        failures: &contract::Counter,
        execution: impl Future<Output = T>,
    ) -> T {
        let renewals = async {
            loop {
                sleep(self.settings.lease / RENEWALS).await;
                let marker = self.marker(claim.fingerprint, claim.nonce);
                match self.put(claim.key, marker, claim.revision).await {
                    Ok(Put::Done(revision)) => claim.revision = revision,
                    // Somebody took it for dead. What is executed goes on, and its end has no place.
                    Ok(Put::Changed) => return std::future::pending::<T>().await,
                    Err(trouble) => {
                        failures.increment();
                        self.tell(&trouble);
                    }
                }
            }
        };
        tokio::select! {
            biased;
            outcome = execution => outcome,
            never = renewals => never,
        }
    }

    /// Leaves the end where the claim was, or nothing if nothing happened. Fails if it is not known to be there.
    pub(super) async fn record(&self, mut claim: Claim, end: &End, window: Duration) -> Result<(), Trouble> {
        let value = self.value(&claim, end, window);
        for _ in 0..PUTS {
            if let Put::Done(_) = self.put(claim.key, value.clone(), claim.revision).await? {
                return Ok(());
            }
            // The claim may have been put off by a word that was not waited for.
            let Some(stored) = self.get(claim.key).await? else { continue };
            match Record::decode(&stored.value).map(|record| record.state) {
                Some(State::Claimed(nonce)) if nonce == claim.nonce => claim.revision = stored.revision,
                _ => break,
            }
        }
        let trouble = Trouble("another gateway took over a claim that was not put off in time".to_owned());
        self.tell(&trouble);
        Err(trouble)
    }

    fn value(&self, claim: &Claim, end: &End, window: Duration) -> Bytes {
        let fingerprint = claim.fingerprint;
        if !end.counts() {
            return Record { fingerprint, until_ms: 0, state: State::Claimed(claim.nonce) }.encode();
        }
        let until_ms = unix_ms().saturating_add(millis(window));
        let value = Record { fingerprint, until_ms, state: State::Ended(end.clone()) }.encode();
        if value.len() <= self.bucket.value_bytes_max() {
            return value;
        }
        Record { fingerprint, until_ms, state: State::Ended(End::NotKept) }.encode()
    }

    fn marker(&self, fingerprint: Digest, nonce: u128) -> Bytes {
        let until_ms = unix_ms().saturating_add(millis(self.settings.lease));
        Record { fingerprint, until_ms, state: State::Claimed(nonce) }.encode()
    }

    async fn get(&self, key: Digest) -> Result<Option<Stored>, Trouble> {
        self.in_time(self.bucket.get(key)).await
    }

    async fn put(&self, key: Digest, value: Bytes, after: u64) -> Result<Put, Trouble> {
        self.in_time(self.bucket.put(key, value, after)).await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let done = timeout(self.settings.timeout, work).await;
        let done = done.unwrap_or_else(|_| Err(Trouble("the bucket does not answer in time".to_owned())));
        if done.is_ok() && self.in_trouble.swap(false, Relaxed) {
            tracing::info!("idempotency keys are shared again");
        }
        done
    }

    /// Logs the first trouble of several.
    pub(super) fn tell(&self, trouble: &Trouble) {
        if self.in_trouble.swap(true, Relaxed) {
            tracing::debug!(%trouble, "an idempotency key is not shared");
        } else {
            tracing::warn!(%trouble, "idempotency keys are not shared with other gateways");
        }
    }
}

fn unix_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
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

    /// A bucket in memory that can hang.
    #[derive(Debug, Default)]
    pub(in super::super) struct Memory {
        values: Mutex<HashMap<Digest, (Bytes, u64)>>,
        last: AtomicU64,
        pub(in super::super) hangs: AtomicBool,
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
                let mut values = self.values.lock().unwrap();
                if values.get(&key).map_or(0, |(_, revision)| *revision) != after {
                    return Ok(Put::Changed);
                }
                let revision = self.last.fetch_add(1, Relaxed) + 1;
                values.insert(key, (value, revision));
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
                tokio::spawn(async move {
                    timeout(Duration::from_secs(5), shared.claim(KEY, ASKED, || false)).await
                })
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
}
