//! The peers that a limit remembers: a bounded table of buckets by peer.
//!
//! A bucket that is unspent says nothing and can be forgotten, so reconnecting never resets a limit and a
//! million peers that come once need no memory. When a shard is full of spent ones, newcomers share one
//! bucket: strangers limit each other, and never those that are known.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contract::PeerKey;
use tokio::time::Instant;

use super::{Bucket, Pace};
use crate::route::Rate;

/// Shards, each with its own lock, so that peers on different cores seldom meet.
const SHARDS: usize = 64;

/// The table.
#[derive(Debug)]
pub struct Peers {
    shards: [Mutex<Shard>; SHARDS],
    /// Peers in each shard at most.
    shard_max: AtomicUsize,
    shared: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    buckets: HashMap<PeerKey, Bucket, BuildHasherDefault<AsItIs>>,
    newcomers: Bucket,
    /// When unspent buckets were last looked for: a full shard is swept at most once an interval of this
    /// length, or a flood of newcomers would sweep it for each.
    swept: Option<Instant>,
}

/// How often a full shard is searched for buckets to forget.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// Keys are hashes already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            shard_max: AtomicUsize::new(1),
            shared: AtomicUsize::new(0),
        }
    }
}

impl Peers {
    /// Changes how many peers are remembered at once, rounded up to a multiple of 64.
    pub fn set_limit(&self, peers_max: usize) {
        self.shard_max.store(peers_max.div_ceil(SHARDS).max(1), Ordering::Relaxed);
    }

    /// Peers remembered now.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).buckets.len()).sum()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requests that had to share the newcomers' bucket, because the table was full.
    pub fn shared_total(&self) -> usize {
        self.shared.load(Ordering::Relaxed)
    }

    /// Spends one request of a peer, or says how long to wait for the next.
    pub fn spend(&self, key: PeerKey, rate: Rate, now: Instant) -> Result<(), Duration> {
        let mut shard = lock(self.shard(key));
        if let Some(bucket) = shard.buckets.get(&key) {
            return bucket.spend(Pace::of(rate), now);
        }
        let max = self.shard_max.load(Ordering::Relaxed);
        if shard.buckets.len() >= max {
            shard.forget_unspent(now);
        }
        if shard.buckets.len() >= max {
            self.shared.fetch_add(1, Ordering::Relaxed);
            return shard.newcomers.spend(Pace::of(rate), now);
        }
        shard.buckets.entry(key).or_default().spend(Pace::of(rate), now)
    }

    /// Gives one request of a peer back.
    pub fn refund(&self, key: PeerKey, rate: Rate) {
        let shard = lock(self.shard(key));
        shard.buckets.get(&key).unwrap_or(&shard.newcomers).refund(Pace::of(rate));
    }

    fn shard(&self, key: PeerKey) -> &Mutex<Shard> {
        // The upper bits: the map below uses the lower ones.
        &self.shards[usize::from((key.0 >> 58) as u8)]
    }
}

impl Shard {
    fn forget_unspent(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now < swept + SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        self.buckets.retain(|_, bucket| !bucket.is_unspent(now));
    }
}

fn lock(shard: &Mutex<Shard>) -> std::sync::MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Rate = Rate { per_second: 1.0, burst: 1 };

    fn key(number: u64) -> PeerKey {
        PeerKey::of(&format!("peer {number}"))
    }

    #[test]
    fn a_million_peers_fit_a_bounded_table() {
        let peers = Peers::default();
        peers.set_limit(6400);
        let now = Instant::now();
        for number in 0..1_000_000 {
            let _ = peers.spend(key(number), ONE, now);
        }
        assert!(peers.len() <= 6400, "{}", peers.len());
        assert!(peers.shared_total() > 900_000);
    }

    #[test]
    fn the_known_are_not_forgotten_while_they_have_spent() {
        let peers = Peers::default();
        peers.set_limit(64);
        let now = Instant::now();
        assert!(peers.spend(key(0), ONE, now).is_ok());
        // One is enough to fill the place; who was forgotten for it would find the newcomers' bucket full.
        let beside = |other: &PeerKey| std::ptr::eq(peers.shard(*other), peers.shard(key(0)));
        let newcomer = (1..10_000).map(key).find(beside).unwrap();
        assert!(peers.spend(newcomer, ONE, now).is_ok());
        assert!(peers.spend(key(0), ONE, now).is_err(), "a newcomer must not reset a limit");
        for number in 1..10_000 {
            let _ = peers.spend(key(number), ONE, now);
        }
        assert!(peers.spend(key(0), ONE, now).is_err(), "a flood must not reset a limit");
    }

    #[test]
    fn the_unspent_make_room() {
        let peers = Peers::default();
        peers.set_limit(64);
        let now = Instant::now();
        for number in 0..1000 {
            let _ = peers.spend(key(number), ONE, now);
        }
        let later = now + Duration::from_secs(2);
        let admitted = (1000..2000).filter(|number| peers.spend(key(*number), ONE, later).is_ok()).count();
        assert!(admitted >= 64, "{admitted}");
        assert!(peers.len() <= 64);
    }
}
