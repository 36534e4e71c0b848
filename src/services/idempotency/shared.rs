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
use tokio::time::{Instant, sleep, timeout};

use super::bucket::{Bucket, Put, Stored, Trouble};
use super::end::End;
use super::key::Digest;
use super::record::{Record, State};

/// Between two looks for the end of another's execution: doubled from the first to the second.
const LOOK: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];
/// How often something is put again because its claim was put off in the same moment.
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
    /// Until then nobody else takes it, as far as is known here.
    until: Instant,
}

/// An end on its way to where its claim was.
#[derive(Debug)]
pub(super) struct Word {
    claim: Claim,
    value: Bytes,
}

/// An end is not known to be in the bucket.
#[derive(Debug)]
pub(super) struct Unrecorded {
    /// Why.
    pub(super) trouble: Trouble,
    /// For [`Shared::record_later`], unless another gateway took the claim over.
    pub(super) again: Option<Word>,
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
                let until = Instant::now() + self.settings.lease;
                let claim = self.marker(fingerprint, nonce);
                if let Put::Done(revision) = self.put(key, claim, after).await? {
                    return Ok(Found::Claim(Claim { key, fingerprint, nonce, revision, until }));
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
                match self.put_off(claim).await {
                    Ok(Put::Done(_)) => {}
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

    async fn put_off(&self, claim: &mut Claim) -> Result<Put, Trouble> {
        let until = Instant::now() + self.settings.lease;
        let marker = self.marker(claim.fingerprint, claim.nonce);
        let put = self.put_under(claim, &marker).await?;
        if let Put::Done(_) = put {
            claim.until = until;
        }
        Ok(put)
    }

    /// Leaves the end where the claim was, or nothing if nothing happened. Fails if it is not known to be there.
    pub(super) async fn record(&self, claim: Claim, end: &End, window: Duration) -> Result<(), Unrecorded> {
        let value = self.value(&claim, end, window);
        self.leave(Word { claim, value }).await
    }

    /// Tries again until the claim is over: an end that is lost would be executed again. Whoever asked does not wait for
    /// it.
    pub(super) async fn record_later(&self, mut word: Word, failures: &contract::Counter) {
        let mut pause = LOOK[0];
        while Instant::now() + pause < word.claim.until {
            sleep(pause).await;
            pause = (pause * 2).min(LOOK[1]);
            let Err(Unrecorded { trouble, again }) = self.leave(word).await else { return };
            failures.increment();
            self.tell(&trouble);
            let Some(again) = again else { return };
            word = again;
        }
    }

    async fn leave(&self, mut word: Word) -> Result<(), Unrecorded> {
        match self.put_under(&mut word.claim, &word.value).await {
            Ok(Put::Done(_)) => Ok(()),
            Ok(Put::Changed) => {
                let text = "another gateway took over a claim that was not put off in time";
                Err(Unrecorded { trouble: Trouble(text.to_owned()), again: None })
            }
            Err(trouble) => Err(Unrecorded { trouble, again: Some(word) }),
        }
    }

    /// Puts `value` where the claim is. What was put before may be there although nobody said so in time: so another
    /// state is looked at, and only another's claim or end is a change.
    async fn put_under(&self, claim: &mut Claim, value: &Bytes) -> Result<Put, Trouble> {
        for _ in 0..PUTS {
            if let Put::Done(revision) = self.put(claim.key, value.clone(), claim.revision).await? {
                claim.revision = revision;
                return Ok(Put::Done(revision));
            }
            // None, or an older one, is of a replica that lags behind.
            let Some(stored) = self.get(claim.key).await? else { continue };
            if stored.revision <= claim.revision {
                continue;
            }
            if stored.value == *value {
                claim.revision = stored.revision;
                return Ok(Put::Done(stored.revision));
            }
            match Record::decode(&stored.value).map(|record| record.state) {
                Some(State::Claimed(nonce)) if nonce == claim.nonce => claim.revision = stored.revision,
                _ => return Ok(Put::Changed),
            }
        }
        Err(Trouble("an entry of the bucket is in another state than it tells".to_owned()))
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
pub(super) mod tests;
