//! The results that one stream has told, so that none is told twice: a bounded memory, the oldest of which goes.
//!
//! Of a result 128 bits are kept and not its ids, which may be long: two hashes with keys of their own, drawn at
//! random, so that nobody can choose ids that are taken for another's.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::Tally;

type Key = (u64, u64);

/// The memory.
#[derive(Debug)]
pub(super) struct Seen {
    hashers: (RandomState, RandomState),
    keys: HashSet<Key>,
    order: VecDeque<Key>,
    keys_max: usize,
    tally: Arc<Tally>,
}

impl Seen {
    /// An empty memory for at most `keys_max` results, at least 1.
    pub(super) fn new(keys_max: usize, tally: Arc<Tally>) -> Self {
        let hashers = (RandomState::new(), RandomState::new());
        Self { hashers, keys: HashSet::new(), order: VecDeque::new(), keys_max: keys_max.max(1), tally }
    }

    /// Whether this result is not among those that it remembers; it is from now on.
    pub(super) fn is_new(&mut self, request_id: &str, assignment_id: &str) -> bool {
        let ids = (request_id, assignment_id);
        let key = (self.hashers.0.hash_one(ids), self.hashers.1.hash_one(ids));
        if !self.keys.insert(key) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > self.keys_max {
            let oldest = self.order.pop_front().expect("it holds at least two");
            self.keys.remove(&oldest);
        } else {
            self.tally.keys.add(1);
        }
        true
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.tally.keys.add(-i64::try_from(self.order.len()).expect("no memory holds that many keys"));
    }
}
