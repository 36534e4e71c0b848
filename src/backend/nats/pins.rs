//! Pins: which link the ordered work of a client's connection goes by.
//!
//! NATS keeps order within a connection only, so what must stay in order stays on one link for as long as
//! that link lives. When it is lost, the next message takes another one at once. When it retires, the client
//! moves: whoever comes first waits until the new link's server has all that went by the old one, the others queue
//! up behind, and a newcomer may not pass them. When the link is busy and another is not, the client moves
//! as soon as nothing of it can be on its way any more: as the trail of its work on the link shows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use contract::{Error, Origin};
use tokio::sync::OwnedMutexGuard;

use super::link::{Link, Pinning, Use};
use super::pool::Pool;

/// How long a client that moves waits until the new link's server has what went by the old link. Past it
/// order is worth less than going on.
const MOVE_LIMIT: Duration = Duration::from_secs(2);

/// The pins of all clients, by the number of their connection.
#[derive(Default)]
pub(super) struct Pins(Mutex<HashMap<u64, Pin>>);

struct Pin {
    link: Pinning,
    /// Dead when the client's connection and all its requests are gone.
    origin: Weak<Origin>,
    gate: Arc<Gate>,
    trail: Arc<Trail>,
}

/// Where those wait who may not be passed: while the client moves, or while the link's queue is full.
#[derive(Default)]
struct Gate {
    /// Fair: who came first goes first.
    queue: Arc<tokio::sync::Mutex<()>>,
    waiting: AtomicUsize,
}

/// What went by the link of a pin, and how much of it is known to have arrived.
#[derive(Default)]
struct Trail {
    /// The number of the last message.
    sent: AtomicU64,
    /// How many were answered.
    answered: AtomicU64,
    /// The highest number that was answered.
    last_answered: AtomicU64,
}

impl Trail {
    /// Whether all of it has arrived: where it was to go to, because all was answered; or at the same server as
    /// what is sent next, because the last was answered, and a server reads one message after another.
    fn has_arrived(&self, same_server: bool) -> bool {
        let sent = self.sent.load(Ordering::SeqCst);
        self.answered.load(Ordering::SeqCst) == sent
            || same_server && self.last_answered.load(Ordering::SeqCst) == sent
    }
}

/// A link for a message.
pub(super) struct Pinned {
    pub(super) link: Use,
    /// Where to wait, for a message that keeps an order.
    gate: Option<Arc<Gate>>,
    place: Option<Place>,
    step: Option<(Arc<Trail>, u64)>,
}

struct Place {
    gate: Arc<Gate>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Place {
    /// A place behind those who wait already; counted at once.
    fn at(gate: Arc<Gate>) -> Self {
        gate.waiting.fetch_add(1, Ordering::SeqCst);
        Self { gate, turn: None }
    }

    async fn turn(&mut self) {
        self.turn = Some(self.gate.queue.clone().lock_owned().await);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turn = None;
        self.gate.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Pinned {
    /// A link for a message that keeps no order.
    pub(super) fn free(link: Use) -> Self {
        Self { link, gate: None, place: None, step: None }
    }

    /// Lets nobody of the same client pass until the message is handed over.
    pub(super) async fn hold(&mut self) {
        if let (Some(gate), None) = (&self.gate, &self.place) {
            self.place.insert(Place::at(gate.clone())).turn().await;
        }
    }

    /// The message was handed over: the next may come.
    pub(super) fn handed_over(&mut self) {
        self.place = None;
    }

    /// An answer came.
    pub(super) fn answered(&self) {
        if let Some((trail, number)) = &self.step {
            trail.last_answered.fetch_max(*number, Ordering::SeqCst);
            trail.answered.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Pin {
    fn new(link: Arc<Link>, origin: &Arc<Origin>) -> Self {
        let origin = Arc::downgrade(origin);
        Self { link: Pinning::to(link), origin, gate: Arc::default(), trail: Arc::default() }
    }

    fn move_to(&mut self, link: Arc<Link>) {
        if !Arc::ptr_eq(&self.link, &link) {
            self.link = Pinning::to(link);
            self.trail = Arc::default();
        }
    }

    fn take(&self, place: Option<Place>) -> Pinned {
        let number = self.trail.sent.fetch_add(1, Ordering::SeqCst) + 1;
        Pinned {
            link: Use::of(self.link.clone()),
            gate: Some(self.gate.clone()),
            place,
            step: Some((self.trail.clone(), number)),
        }
    }
}

impl Pins {
    /// The link of the client that asks; one of the pool's when it has none that can be used.
    pub(super) async fn link(&self, origin: &Arc<Origin>, pool: &Pool) -> Result<Pinned, Error> {
        let (mut place, old) = match self.at_once(origin, pool)? {
            Ok(pinned) => return Ok(pinned),
            Err(moving) => moving,
        };
        place.turn().await;
        let link = if old.is_fresh() { old.clone() } else { pool.choose_for_pin()? };
        if !Arc::ptr_eq(&link, &old) && old.is_open() && self.is_pinned_to(origin, &old) {
            // An error says that the link is gone or stuck; either way there is nothing more to wait for.
            let _ = old.reach(&link, MOVE_LIMIT).await;
        }
        let mut pins = self.lock();
        let pin = pins.entry(origin.connection).or_insert_with(|| Pin::new(link.clone(), origin));
        if !pin.link.is_fresh() {
            pin.move_to(link);
        }
        Ok(pin.take(Some(place)))
    }

    /// The link if there is no need to wait, else the place to wait at (already counted) and the link to
    /// move from.
    fn at_once(
        &self,
        origin: &Arc<Origin>,
        pool: &Pool,
    ) -> Result<Result<Pinned, (Place, Arc<Link>)>, Error> {
        let mut pins = self.lock();
        let Some(pin) = pins.get_mut(&origin.connection) else {
            let pin = Pin::new(pool.choose_for_pin()?, origin);
            let pinned = pin.take(None);
            pins.insert(origin.connection, pin);
            return Ok(Ok(pinned));
        };
        if pin.gate.waiting.load(Ordering::SeqCst) > 0 {
            return Ok(Err((Place::at(pin.gate.clone()), pin.link.clone())));
        }
        if pin.link.is_fresh() {
            if let Some(lighter) = pool.lighter_than(&pin.link)
                && pin.trail.has_arrived(lighter.server.is_same(&pin.link.server))
            {
                pin.move_to(lighter);
            }
            return Ok(Ok(pin.take(None)));
        }
        if !pin.link.is_open() {
            pin.move_to(pool.choose_for_pin()?);
            return Ok(Ok(pin.take(None)));
        }
        if pin.link.is_usable() && pool.choose().is_ok_and(|link| !link.is_fresh()) {
            // It retires, and there is no other to move to.
            return Ok(Ok(pin.take(None)));
        }
        Ok(Err((Place::at(pin.gate.clone()), pin.link.clone())))
    }

    /// Forgets clients that are gone, and pins to links that are gone, unless somebody waits there: the memory
    /// of a dead link would be kept for an idle client.
    pub(super) fn purge(&self) {
        self.lock().retain(|_, pin| {
            let is_awaited = pin.gate.waiting.load(Ordering::SeqCst) > 0;
            pin.origin.strong_count() > 0 && (is_awaited || pin.link.is_open())
        });
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// Clients that have a pin.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn is_pinned_to(&self, origin: &Origin, link: &Arc<Link>) -> bool {
        self.lock().get(&origin.connection).is_some_and(|pin| Arc::ptr_eq(&pin.link, link))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Pin>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(sent: u64, answered: &[u64]) -> Trail {
        let trail = Trail::default();
        trail.sent.store(sent, Ordering::SeqCst);
        for number in answered {
            trail.last_answered.fetch_max(*number, Ordering::SeqCst);
            trail.answered.fetch_add(1, Ordering::SeqCst);
        }
        trail
    }

    #[test]
    fn what_was_sent_has_arrived_when_answers_say_so() {
        let cases: [(u64, &[u64], bool, bool); 6] = [
            (0, &[], true, true),
            (2, &[1, 2], true, true),
            (2, &[2, 1], true, true),
            // A publish before the last request: the same server has read it, another may not have it yet.
            (2, &[2], true, false),
            (2, &[1], false, false),
            (1, &[], false, false),
        ];
        for (sent, answered, same_server, another) in cases {
            let trail = trail(sent, answered);
            assert_eq!(trail.has_arrived(true), same_server, "{sent} {answered:?}");
            assert_eq!(trail.has_arrived(false), another, "{sent} {answered:?}");
        }
    }
}
