//! The reply inbox of one connection: a slab of slots behind one wildcard subscription.
//!
//! A reply's subject is `<prefix>.<token>.<id>`. The token is 22 random characters, drawn anew for each
//! connection, so nobody who has not been asked can guess an inbox. The id is a slot's index and its
//! generation as 16 hex digits: finding the slot is reading digits at a fixed place, with no hashing, no
//! formatting and no allocation. A slot gets a new generation whenever it is given back, so a reply that comes
//! after its request was dropped finds another generation, is counted as late, and reaches nobody.
//!
//! `async_nats::Client::request` is not used because it keeps a map entry for every request that timed out or
//! was dropped, for as long as the connection lives.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use async_nats::{Message, StatusCode};
use bytes::Bytes;
use contract::Charge;

use super::counts::Counts;
use super::given_up::GivenUp;
use super::headers;
use super::reply_id::{self, TOKEN_LEN};
use super::ticket::Ticket;
use crate::backend::incoming;
use crate::backend::replies::Replies;

/// Bits of an id that hold the index: 16,777,216 slots; the other 40 bits count generations.
pub(super) const INDEX_BITS: u32 = 24;
/// The most slots that can be asked for.
pub(super) const SLOTS_MAX: usize = (1 << INDEX_BITS) - ROUND_TRIPS_MAX;
/// Slots beyond the limit that only the connection's own round trips may use, so that a full inbox can still
/// be measured and flushed.
pub(super) const ROUND_TRIPS_MAX: usize = 16;
/// Slots made at a time, so that a quiet connection holds few.
const CHUNK: usize = 256;

/// The slab of one connection.
pub(super) struct Inbox {
    /// `<prefix>.<token>.`
    pub(super) stem: Box<[u8]>,
    chunks: Box<[OnceLock<Box<[Slot]>>]>,
    pub(super) free: Mutex<Free>,
    slots_max: usize,
    requests: AtomicUsize,
    round_trips: AtomicUsize,
    counts: Arc<Counts>,
}

/// Which slots can be taken.
pub(super) struct Free {
    pub(super) given_back: Vec<u32>,
    /// Slots from here on were never taken.
    fresh: u32,
    /// Why no slot is given any more.
    closed: Option<Fault>,
}

#[derive(Default)]
pub(super) struct Slot(pub(super) Mutex<Held>);

#[derive(Default)]
pub(super) struct Held {
    pub(super) generation: u64,
    /// What was published to: permission violations name nothing else.
    pub(super) subject: Bytes,
    /// Whether the acknowledgement of a stream is no reply here.
    pub(super) skips_acknowledgements: bool,
    pub(super) phase: Phase,
}

#[derive(Default)]
pub(super) enum Phase {
    #[default]
    Free,
    Waiting(Option<Waker>),
    /// With what it costs until it is taken.
    Answered(Box<(Message, Option<Charge>)>),
    /// Replies go into this queue, as many as it takes.
    Many(Arc<Replies<GivenUp>>),
    Failed(Fault),
    /// Told to the waiting one, and not given back yet.
    Told,
}

/// Why a request gets no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection ended.
    Lost,
    /// The server refused the subject.
    Denied,
    /// The reply came, and there is no memory for it.
    NoRoom,
}

/// Why a slot was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// All are in use.
    Full,
    /// The inbox is closed.
    Closed(Fault),
}

/// Who may take a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A request of a peer.
    Request,
    /// A round trip of the connection itself.
    RoundTrip,
}

impl Inbox {
    /// An inbox under `prefix` with at most `slots_max` requests in flight (clamped to [`SLOTS_MAX`]).
    pub(super) fn new(prefix: &str, slots_max: usize, counts: Arc<Counts>) -> Arc<Self> {
        let slots_max = slots_max.clamp(1, SLOTS_MAX);
        let mut stem = Vec::with_capacity(prefix.len() + TOKEN_LEN + 2);
        stem.extend_from_slice(prefix.as_bytes());
        stem.push(b'.');
        stem.extend_from_slice(&reply_id::token());
        stem.push(b'.');
        let chunks = (slots_max + ROUND_TRIPS_MAX).div_ceil(CHUNK);
        Arc::new(Self {
            stem: stem.into_boxed_slice(),
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            free: Mutex::new(Free { given_back: Vec::new(), fresh: 0, closed: None }),
            slots_max,
            requests: AtomicUsize::new(0),
            round_trips: AtomicUsize::new(0),
            counts,
        })
    }

    /// The subject to subscribe to.
    pub(super) fn wildcard(&self) -> String {
        let stem = std::str::from_utf8(&self.stem).expect("a prefix is UTF-8 and a token is ASCII");
        format!("{stem}*")
    }

    /// Takes a slot for what is published to `subject`.
    pub(super) fn register(self: &Arc<Self>, subject: Bytes, purpose: Purpose) -> Result<Ticket, Refusal> {
        let mut free = lock(&self.free);
        if let Some(fault) = free.closed {
            return Err(Refusal::Closed(fault));
        }
        let limit = if purpose == Purpose::Request { self.slots_max } else { ROUND_TRIPS_MAX };
        let used = self.used_for(purpose);
        if used.load(Ordering::Relaxed) >= limit {
            return Err(Refusal::Full);
        }
        used.fetch_add(1, Ordering::Relaxed);
        let index = free.given_back.pop().unwrap_or_else(|| {
            free.fresh += 1;
            free.fresh - 1
        });
        // Under the lock of the free list, so that closing sees every slot that was given.
        let generation = {
            let mut held = lock(&self.slot(index).0);
            held.subject = subject;
            held.phase = Phase::Waiting(None);
            held.generation
        };
        drop(free);
        Ok(Ticket { inbox: self.clone(), purpose, index, generation })
    }

    /// Takes a slot for a round trip: a message of the connection to its own inbox.
    pub(super) fn register_round_trip(self: &Arc<Self>) -> Result<Ticket, Refusal> {
        let ticket = self.register(Bytes::new(), Purpose::RoundTrip)?;
        lock(&self.slot(ticket.index).0).subject = ticket.reply_subject();
        Ok(ticket)
    }

    /// Hands a reply to the request that waits for it, or drops and counts it.
    pub(super) fn deliver(&self, message: Message) {
        let Some((slot, generation)) = self.locate(message.subject.as_bytes()) else {
            return self.counts.foreign_replies.add(1);
        };
        let mut held = lock(&slot.0);
        if held.generation != generation {
            // An older generation was given back; a newer one was never handed out.
            let counter = if generation < held.generation {
                &self.counts.late_replies
            } else {
                &self.counts.foreign_replies
            };
            return counter.add(1);
        }
        let Held { skips_acknowledgements, phase, .. } = &mut *held;
        match phase {
            Phase::Waiting(_) | Phase::Many(_)
                if *skips_acknowledgements && incoming::is_acknowledgement(&message.payload) =>
            {
                self.counts.acknowledgements_skipped.increment();
            }
            Phase::Waiting(waker) => {
                let (waker, memory, bytes) = (waker.take(), &self.counts.memory, message.payload.len());
                *phase = if memory.fits(bytes) {
                    Phase::Answered(Box::new((message, memory.charge_always(bytes))))
                } else {
                    Phase::Failed(Fault::NoRoom)
                };
                drop(held);
                wake(waker);
            }
            Phase::Many(replies) => {
                let replies = Arc::clone(replies);
                // What ends an answer may publish, so no lock is held.
                drop(held);
                if message.status == Some(StatusCode::NO_RESPONDERS) {
                    replies.fail(super::no_responders());
                } else if !replies.push(headers::incoming(message.headers), message.payload) {
                    self.counts.late_replies.increment();
                }
            }
            Phase::Free => self.counts.foreign_replies.add(1),
            Phase::Answered(_) | Phase::Failed(_) | Phase::Told => self.counts.double_replies.add(1),
        }
    }

    /// Fails every waiting request that was published to one of `subjects`. Returns how many there were. Looks at
    /// every slot, so it is called for many subjects at once, and not often.
    pub(super) fn deny(&self, subjects: &HashSet<Vec<u8>>) -> usize {
        let fresh = lock(&self.free).fresh;
        (0..fresh)
            .filter(|&index| {
                let mut held = lock(&self.slot(index).0);
                subjects.contains(&held.subject[..]) && fail(&mut held, Fault::Denied)
            })
            .count()
    }

    /// Fails every waiting request and gives no slot any more.
    pub(super) fn close(&self, fault: Fault) {
        let fresh = {
            let mut free = lock(&self.free);
            free.closed.get_or_insert(fault);
            free.fresh
        };
        for index in 0..fresh {
            fail(&mut lock(&self.slot(index).0), fault);
        }
    }

    /// Requests that wait for a reply.
    pub(super) fn used(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn used_for(&self, purpose: Purpose) -> &AtomicUsize {
        match purpose {
            Purpose::Request => &self.requests,
            Purpose::RoundTrip => &self.round_trips,
        }
    }

    fn locate(&self, subject: &[u8]) -> Option<(&Slot, u64)> {
        let id = reply_id::decode(subject.strip_prefix(&*self.stem)?)?;
        let index = usize::try_from(id & ((1 << INDEX_BITS) - 1)).expect("24 bits fit");
        let slot = self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)?;
        Some((slot, id >> INDEX_BITS))
    }

    pub(super) fn slot(&self, index: u32) -> &Slot {
        let index = index as usize;
        let chunk = self.chunks[index / CHUNK].get_or_init(|| (0..CHUNK).map(|_| Slot::default()).collect());
        &chunk[index % CHUNK]
    }
}

fn fail(held: &mut Held, fault: Fault) -> bool {
    match std::mem::replace(&mut held.phase, Phase::Failed(fault)) {
        Phase::Waiting(waker) => wake(waker),
        Phase::Many(replies) => replies.lose(),
        over => {
            held.phase = over;
            return false;
        }
    }
    true
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A panic while a lock is held leaves whole values behind: every change below a lock is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
