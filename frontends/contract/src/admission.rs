//! Admission: how many connections may be on their way in at once, before anybody knows who they are.
//!
//! A connection that has not said anything yet costs a descriptor, a task and a buffer, and whoever opens it has
//! paid nothing. So there is a bound on these in all doors together, below the bound on connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::Counter;

/// The room for handshakes. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    open: AtomicUsize,
    max: usize,
    full_total: Counter,
    pressed_total: Counter,
}

/// A connection that has not come to its first request yet; its room is given back when that comes, or when it
/// is dropped.
#[derive(Debug)]
pub struct Handshake {
    admission: Admission,
    is_open: AtomicBool,
}

impl Admission {
    /// Room for `max` handshakes at once.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Counts {
            open: AtomicUsize::new(0),
            max,
            full_total: Counter::default(),
            pressed_total: Counter::default(),
        }))
    }

    /// Takes room for one; `None` when there is none left. Never waits.
    pub fn begin(&self) -> Option<Handshake> {
        let more = |open| (open < self.0.max).then(|| open + 1);
        if self.0.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            self.0.full_total.increment();
            return None;
        }
        Some(Handshake { admission: self.clone(), is_open: AtomicBool::new(true) })
    }

    /// Counts a connection that was refused because memory was short.
    pub fn note_pressed(&self) {
        self.0.pressed_total.increment();
    }

    /// Handshakes under way.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.0.max
    }

    /// Connections refused because too many handshakes were under way.
    pub fn full_total(&self) -> u64 {
        self.0.full_total.get()
    }

    /// Connections refused because memory was short.
    pub fn pressed_total(&self) -> u64 {
        self.0.pressed_total.get()
    }
}

/// Without a bound.
impl Default for Admission {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Handshake {
    /// The connection has shown what it wants. Whoever says so again changes nothing.
    pub fn finish(&self) {
        if self.is_open.swap(false, Ordering::Relaxed) {
            self.admission.0.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_once_by_the_first_request_or_the_end() {
        let admission = Admission::new(2);
        let (one, two) = (admission.begin().unwrap(), admission.begin().unwrap());
        assert!(admission.begin().is_none());
        one.finish();
        one.finish();
        assert_eq!(admission.open(), 1);
        drop((one, two));
        assert_eq!((admission.open(), admission.full_total()), (0, 1));
    }
}
