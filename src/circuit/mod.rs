//! The circuit of one route: closed while its backend does its work, open while it does not, half-open while a few
//! calls try whether it does again.
//!
//! The states and their changes are a plain value with the time passed in ([`Machine`]), so that it can be held against
//! a model. Around it stand one word that says the state, which is all that an admission reads while the circuit is
//! closed, and a lock that is held for a few instructions when a call ends. The settings come with each call: a reload
//! changes them and leaves the state.

mod machine;
mod window;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::machine::Machine;
pub use self::machine::{State, Ticket, Verdict};

/// When a circuit opens, and how it closes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitSettings {
    /// What is judged: the calls that ended within this time. At least 10 ms.
    pub window: Duration,
    /// Calls that must have ended within the window before a share of them is judged.
    pub volume_min: u32,
    /// Share of faults that opens it, in percent; 0 is never.
    pub error_percent: u32,
    /// Faults in a row that open it, whatever the volume; 0 is never.
    pub consecutive_max: u32,
    /// From when on a call is slow; `None` is never.
    pub slow: Option<Duration>,
    /// Share of slow calls that opens it, in percent; 0 is never.
    pub slow_percent: u32,
    /// How long it stays open before it is half-open.
    pub open: Duration,
    /// Calls that a half-open circuit lets through; all of them must do well for it to close. At least 1.
    pub probes: u32,
}

/// A circuit, closed at first.
#[derive(Debug)]
pub struct Circuit {
    /// State and epoch of the machine, written under its lock.
    word: AtomicU64,
    machine: Mutex<Machine>,
    origin: Instant,
    /// How often each state was entered, by [`State`].
    entered: [AtomicU64; State::ALL.len()],
}

impl Default for Circuit {
    fn default() -> Self {
        let machine = Machine::default();
        Self {
            word: AtomicU64::new(machine.word()),
            machine: Mutex::new(machine),
            origin: Instant::now(),
            entered: [const { AtomicU64::new(0) }; State::ALL.len()],
        }
    }
}

impl Circuit {
    /// Lets a call through, or says after which time another may be. `now` is read only if the circuit is not closed.
    pub fn admit(
        &self,
        settings: &CircuitSettings,
        now: impl FnOnce() -> Instant,
    ) -> Result<Ticket, Duration> {
        // Relaxed: the word guards no other memory; a call that misses a change by a moment is one that came
        // a moment earlier.
        if let Some(ticket) = Ticket::of_closed(self.word.load(Ordering::Relaxed)) {
            return Ok(ticket);
        }
        let now = self.since_origin(now());
        self.change(|machine| machine.admit(settings, now))
    }

    /// Takes the verdict on a call that it let through. Every ticket comes back exactly once.
    pub fn settle(&self, settings: &CircuitSettings, now: Instant, ticket: Ticket, verdict: Verdict) {
        let now = self.since_origin(now);
        self.change(|machine| machine.settle(settings, now, ticket, verdict));
    }

    /// The state as of the last call: an open circuit is half-open from the first call after its time.
    pub fn state(&self) -> State {
        State::of_word(self.word.load(Ordering::Relaxed))
    }

    /// How often `state` was entered.
    pub fn entered(&self, state: State) -> u64 {
        self.entered[state as usize].load(Ordering::Relaxed)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.lock();
        let before = machine.word();
        let result = change(&mut machine);
        let after = machine.word();
        if after != before {
            self.word.store(after, Ordering::Relaxed);
            self.entered[State::of_word(after) as usize].fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        // Nothing panics while it is held; and a machine is whole between any two of its statements.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_origin(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.origin)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const SETTINGS: CircuitSettings = CircuitSettings {
        window: Duration::from_secs(10),
        volume_min: 10,
        error_percent: 50,
        consecutive_max: 2,
        slow: None,
        slow_percent: 0,
        open: Duration::from_secs(5),
        probes: 3,
    };

    fn opened() -> (Circuit, Instant) {
        let circuit = Circuit::default();
        let now = Instant::now();
        for _ in 0..2 {
            let ticket = circuit.admit(&SETTINGS, || now).unwrap();
            circuit.settle(&SETTINGS, now, ticket, Verdict::Fault);
        }
        assert_eq!(circuit.state(), State::Open);
        (circuit, now)
    }

    #[test]
    fn a_closed_circuit_reads_no_clock() {
        let circuit = Circuit::default();
        assert!(circuit.admit(&SETTINGS, || unreachable!("it is closed")).is_ok());
    }

    #[test]
    fn it_says_when_to_come_again_and_counts_its_changes() {
        let (circuit, now) = opened();
        let wait = circuit.admit(&SETTINGS, || now + Duration::from_secs(2)).unwrap_err();
        assert_eq!(wait, Duration::from_secs(3));
        let later = now + Duration::from_secs(6);
        for _ in 0..3 {
            let ticket = circuit.admit(&SETTINGS, || later).unwrap();
            circuit.settle(&SETTINGS, later, ticket, Verdict::Good);
        }
        assert_eq!(State::ALL.map(|state| circuit.entered(state)), [1, 1, 1]);
        assert_eq!(circuit.state(), State::Closed);
    }

    #[test]
    fn from_many_threads_half_open_admits_exactly_its_probes() {
        for _ in 0..200 {
            let (circuit, now) = opened();
            let admitted = AtomicUsize::new(0);
            let later = now + Duration::from_secs(6);
            let start = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        start.wait();
                        for _ in 0..50 {
                            if circuit.admit(&SETTINGS, || later).is_ok() {
                                admitted.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            assert_eq!(admitted.into_inner(), 3);
        }
    }

    #[test]
    fn probes_given_back_from_many_threads_let_as_many_others_in() {
        let (circuit, now) = opened();
        let later = now + Duration::from_secs(6);
        let (out, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let Ok(ticket) = circuit.admit(&SETTINGS, || later) else { continue };
                        most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        out.fetch_sub(1, Ordering::SeqCst);
                        circuit.settle(&SETTINGS, later, ticket, Verdict::Neutral);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert_eq!(circuit.state(), State::HalfOpen);
        let again = (0..9).filter(|_| circuit.admit(&SETTINGS, || later).is_ok()).count();
        assert_eq!(again, 3, "what was given back can be had again");
    }
}
