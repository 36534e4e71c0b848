//! Pins: which link the ordered work of a client's connection goes by.
//!
//! NATS keeps order within a connection only, so what must stay in order stays on one link for as long as
//! that link lives. When it is lost, the next message takes another one at once. When it retires, the client
//! moves: whoever comes first waits until the new link's server has all that went by the old one, the others queue
//! up behind, and a newcomer may not pass them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use contract::{Error, Origin};
use tokio::sync::OwnedMutexGuard;

use super::link::{Link, Use};

/// How long a client that moves waits until the new link's server has what went by the old link. Past it
/// order is worth less than going on.
const MOVE_LIMIT: Duration = Duration::from_secs(2);

/// The pins of all clients, by the number of their connection.
#[derive(Default)]
pub(super) struct Pins(Mutex<HashMap<u64, Pin>>);

struct Pin {
    link: Arc<Link>,
    /// Dead when the client's connection and all its requests are gone.
    origin: Weak<Origin>,
    gate: Arc<Gate>,
}

/// Where those wait who are moving.
#[derive(Default)]
struct Gate {
    /// Fair: who came first goes first.
    queue: Arc<tokio::sync::Mutex<()>>,
    waiting: AtomicUsize,
}

/// A link for an ordered message. Keep the place until the message is handed to the link.
pub(super) struct Pinned {
    pub(super) link: Use,
    place: Option<Place>,
}

struct Place {
    gate: Arc<Gate>,
    turn: Option<OwnedMutexGuard<()>>,
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
        Self { link, place: None }
    }

    /// The message was handed over: the next may come.
    pub(super) fn handed_over(mut self) -> Use {
        self.place = None;
        self.link
    }
}

impl Pins {
    /// The link of the client that asks, chosen by `choose` when it has none that can be used. Whether links
    /// that take new work exist at all is `choose`'s to say: it may give a retiring one.
    pub(super) async fn link(
        &self,
        origin: &Arc<Origin>,
        choose: impl Fn() -> Result<Arc<Link>, Error>,
    ) -> Result<Pinned, Error> {
        let (gate, old) = match self.at_once(origin, &choose)? {
            Ok(link) => return Ok(Pinned { link, place: None }),
            Err(moving) => moving,
        };
        let mut place = Place { gate: gate.clone(), turn: None };
        place.turn = Some(gate.queue.clone().lock_owned().await);
        let link = choose()?;
        if !Arc::ptr_eq(&link, &old) && old.is_open() && self.is_pinned_to(origin, &old) {
            // An error says that the link is gone or stuck; either way there is nothing more to wait for.
            let _ = old.reach(&link, MOVE_LIMIT).await;
        }
        let mut pins = self.lock();
        let link = match pins.get_mut(&origin.connection) {
            Some(pin) if pin.link.is_fresh() => pin.link.clone(),
            Some(pin) => {
                pin.link = link.clone();
                link
            }
            None => link,
        };
        drop(pins);
        Ok(Pinned { link: Use::of(link), place: Some(place) })
    }

    /// The link if there is no need to wait, else the place to wait at (already counted) and the link to
    /// move from.
    #[expect(clippy::type_complexity, reason = "local to this file; a name would say no more")]
    fn at_once(
        &self,
        origin: &Arc<Origin>,
        choose: &impl Fn() -> Result<Arc<Link>, Error>,
    ) -> Result<Result<Use, (Arc<Gate>, Arc<Link>)>, Error> {
        let mut pins = self.lock();
        let Some(pin) = pins.get_mut(&origin.connection) else {
            let link = choose()?;
            let pin = Pin { link: link.clone(), origin: Arc::downgrade(origin), gate: Arc::default() };
            pins.insert(origin.connection, pin);
            return Ok(Ok(Use::of(link)));
        };
        let nobody_waits = pin.gate.waiting.load(Ordering::SeqCst) == 0;
        if nobody_waits && pin.link.is_fresh() {
            return Ok(Ok(Use::of(pin.link.clone())));
        }
        if nobody_waits && !pin.link.is_open() {
            pin.link = choose()?;
            return Ok(Ok(Use::of(pin.link.clone())));
        }
        if nobody_waits && choose().is_ok_and(|link| !link.is_fresh()) {
            // It retires, and there is no other to move to.
            return Ok(Ok(Use::of(pin.link.clone())));
        }
        pin.gate.waiting.fetch_add(1, Ordering::SeqCst);
        Ok(Err((pin.gate.clone(), pin.link.clone())))
    }

    /// Forgets clients that are gone.
    pub(super) fn purge(&self) {
        self.lock().retain(|_, pin| pin.origin.strong_count() > 0);
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
