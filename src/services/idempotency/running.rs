//! What an execution holds once nobody waits for it: the permits and the bytes that whoever asked gave back by leaving.
//!
//! Until then the request in front of it holds them. After that the responder and the memory have as much to do as
//! before, so they are counted even past a limit, and new work is refused until the execution is over. Otherwise peers
//! with short deadlines would have any number of requests executed at once.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::Charge;

use crate::permits::Permit;
use crate::route::{Call, Route};
use crate::rules::Rules;

/// Whoever asked first, while it waits. When it leaves, what it held passes to the execution.
#[derive(Debug)]
pub(super) struct Asker {
    place: Place,
    route: Arc<Route>,
    rules: Arc<Rules>,
    bytes: usize,
}

/// The execution, while it runs.
#[derive(Debug)]
pub(super) struct Running(Place);

type Place = Arc<Mutex<State>>;

#[derive(Debug)]
enum State {
    /// Whoever asked waits.
    Attended,
    /// It has left.
    Alone(#[expect(dead_code, reason = "held for its drop")] Hold),
    Over,
}

#[derive(Debug)]
struct Hold {
    _own: Permit,
    _total: Permit,
    _responders: Option<Permit>,
    _memory: Charge,
}

/// The two sides of an execution of `call`.
pub(super) fn sides(call: &Call) -> (Asker, Running) {
    let place = Arc::new(Mutex::new(State::Attended));
    let (route, rules) = (Arc::clone(&call.route), Arc::clone(&call.rules));
    let bytes = call.request.payload.len();
    (Asker { place: Arc::clone(&place), route, rules, bytes }, Running(place))
}

fn lock(place: &Place) -> MutexGuard<'_, State> {
    // A state is whole at any moment.
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Asker {
    fn drop(&mut self) {
        let mut state = lock(&self.place);
        if let State::Attended = *state {
            let (route, rules) = (&self.route, &self.rules);
            *state = State::Alone(Hold {
                _own: route.calls.take_always(),
                _total: rules.calls.take_always(),
                _responders: route.settings.pressure.is_some().then(|| route.pressure.count()),
                _memory: rules.load.memory.charge_always(self.bytes),
            });
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let held = mem::replace(&mut *lock(&self.0), State::Over);
        drop(held);
    }
}
