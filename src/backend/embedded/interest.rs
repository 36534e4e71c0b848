//! Who listens where: literal patterns in a hash table, wildcards in a list.
//!
//! What listens on one pattern is one [`Interest`], shared and never changed in place while somebody reads
//! it: a message takes a few pointers out of the table under a read lock, and no lock is held while it is
//! handed on. A literal costs one look-up; each distinct wildcard pattern costs one match per message, which
//! is meant for hundreds of them, not for millions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use contract::{Pattern, Subject};

use super::broker::Member;

/// Who listens on one pattern.
#[derive(Clone, Debug, Default)]
pub(super) struct Interest {
    /// Each of these gets a message.
    pub(super) plain: Vec<Arc<Member>>,
    /// One of each of these groups gets it.
    groups: Vec<(Arc<str>, Vec<Arc<Member>>)>,
}

impl Interest {
    fn add(&mut self, member: Arc<Member>) {
        let Some(queue) = &member.queue else { return self.plain.push(member) };
        match self.groups.iter_mut().find(|(name, _)| name == queue) {
            Some((_, members)) => members.push(member),
            None => self.groups.push((Arc::clone(queue), vec![member])),
        }
    }

    fn remove(&mut self, member: &Arc<Member>) {
        let others = |known: &Arc<Member>| !Arc::ptr_eq(known, member);
        self.plain.retain(others);
        for (_, members) in &mut self.groups {
            members.retain(others);
        }
        self.groups.retain(|(_, members)| !members.is_empty());
    }

    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.is_empty()
    }

    fn group(&self, name: &str) -> &[Arc<Member>] {
        self.groups.iter().find(|(known, _)| **known == *name).map_or(&[], |(_, members)| members)
    }
}

/// The table of patterns.
#[derive(Debug, Default)]
pub(super) struct Interests {
    literal: HashMap<Pattern, Arc<Interest>>,
    wildcards: Arc<Vec<(Pattern, Arc<Interest>)>>,
}

impl Interests {
    pub(super) fn add(&mut self, pattern: &Pattern, member: Arc<Member>) {
        if pattern.is_literal() {
            let interest = self.literal.entry(pattern.clone()).or_default();
            return Arc::make_mut(interest).add(member);
        }
        let wildcards = Arc::make_mut(&mut self.wildcards);
        let known = wildcards.iter().position(|(known, _)| known == pattern);
        let index = known.unwrap_or_else(|| {
            wildcards.push((pattern.clone(), Arc::default()));
            wildcards.len() - 1
        });
        Arc::make_mut(&mut wildcards[index].1).add(member);
    }

    pub(super) fn remove(&mut self, pattern: &Pattern, member: &Arc<Member>) {
        if let Entry::Occupied(mut entry) = self.literal.entry(pattern.clone()) {
            Arc::make_mut(entry.get_mut()).remove(member);
            if entry.get().is_empty() {
                entry.remove();
            }
            return;
        }
        let wildcards = Arc::make_mut(&mut self.wildcards);
        if let Some(index) = wildcards.iter().position(|(known, _)| known == pattern) {
            Arc::make_mut(&mut wildcards[index].1).remove(member);
            if wildcards[index].1.is_empty() {
                wildcards.swap_remove(index);
            }
        }
    }

    /// Takes every member out.
    pub(super) fn drain(&mut self) -> Vec<Arc<Member>> {
        let Self { literal, wildcards } = std::mem::take(self);
        let interests = literal.values().chain(wildcards.iter().map(|(_, interest)| interest));
        interests
            .flat_map(|interest| {
                interest.plain.iter().chain(interest.groups.iter().flat_map(|(_, group)| group))
            })
            .cloned()
            .collect()
    }

    /// What is needed to find those interested in `subject` without the table.
    pub(super) fn snapshot(&self, subject: &Subject) -> Snapshot {
        let literal = self.literal.get(subject.as_str()).cloned();
        Snapshot { literal, wildcards: Arc::clone(&self.wildcards) }
    }
}

/// The part of the table that one message needs.
#[derive(Debug)]
pub(super) struct Snapshot {
    literal: Option<Arc<Interest>>,
    wildcards: Arc<Vec<(Pattern, Arc<Interest>)>>,
}

impl Snapshot {
    /// Gives a message on `subject` to every plain member, and in each queue group to the first that takes
    /// it, beginning with a random one. A group is known by its name, whatever the patterns of its members,
    /// as in NATS. `give` says whether the member took it; so does the result for any of them.
    pub(super) fn hand_out(&self, subject: &Subject, mut give: impl FnMut(&Arc<Member>) -> bool) -> bool {
        let wild = self.wildcards.iter().filter(|(pattern, _)| pattern.matches(subject));
        // Does not allocate when no wildcard matches.
        let matching: Vec<&Interest> = wild.map(|(_, interest)| &**interest).collect();
        let interests = || self.literal.as_deref().into_iter().chain(matching.iter().copied());
        let mut taken = false;
        for interest in interests() {
            for member in &interest.plain {
                taken |= give(member);
            }
        }
        for (index, interest) in interests().enumerate() {
            for (name, _) in &interest.groups {
                if interests().take(index).any(|earlier| !earlier.group(name).is_empty()) {
                    continue;
                }
                let members = || interests().flat_map(|interest| interest.group(name));
                let first = fastrand::usize(..members().count());
                taken |= members().skip(first).chain(members().take(first)).any(&mut give);
            }
        }
        taken
    }
}
