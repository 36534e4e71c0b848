//! The keys of earlier requests: the router does not answer a second one at all.

use std::collections::{HashSet, VecDeque};

/// The newest keys, so many of them.
#[derive(Debug)]
pub(super) struct Duplicates {
    known: HashSet<(String, String)>,
    order: VecDeque<(String, String)>,
    max: usize,
}

impl Duplicates {
    pub(super) fn new(max: usize) -> Self {
        Self { known: HashSet::new(), order: VecDeque::new(), max: max.max(1) }
    }

    /// Whether this tenant's key is here for the first time. Remembers it; the oldest goes when there are too many.
    pub(super) fn is_new(&mut self, tenant: &str, key: &str) -> bool {
        let key = (tenant.to_owned(), key.to_owned());
        if !self.known.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
