//! The states of a circuit and what changes them, without clock and lock.
//!
//! Each change of state begins an epoch, and a ticket knows its own: the verdict on a call that was let through before
//! the change says nothing about the state after it, and is dropped.

use std::time::Duration;

use super::CircuitSettings;
use super::window::Window;

/// What a circuit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls pass.
    Closed,
    /// A few calls pass, to see how they fare.
    HalfOpen,
    /// No call passes.
    Open,
}

impl State {
    /// All of them, in the order of the numbers that metrics show for them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// The word for it in pages and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// Of [`Machine::word`].
    pub(super) fn of_word(word: u64) -> Self {
        Self::ALL[usize::try_from(word & STATE_BITS).expect("two bits are a small number")]
    }
}

const STATE_BITS: u64 = 0b11;

/// What a call that passed must bring back.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a probe that does not come back is one that the circuit waits for"]
pub struct Ticket {
    epoch: u64,
}

impl Ticket {
    /// The ticket that a closed circuit gives; `None` if the word says that it is not closed.
    pub(super) fn of_closed(word: u64) -> Option<Self> {
        (word & STATE_BITS == State::Closed as u64).then_some(Self { epoch: word >> 2 })
    }
}

/// How a call fared, as far as it says something about the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend did its work.
    Good,
    /// It did, and took too long.
    Slow,
    /// It did not.
    Fault,
    /// Nothing can be said.
    Neutral,
}

/// When to come again while all probes are out: they are back within the length of a request.
const WHILE_PROBING: Duration = Duration::from_secs(1);

/// The machine. Times are since any one moment, the same for all calls.
#[derive(Debug)]
pub(super) struct Machine {
    now_is: Inner,
    epoch: u64,
    window: Window,
    consecutive: u32,
}

#[derive(Clone, Copy, Debug)]
enum Inner {
    Closed,
    HalfOpen { out: u32, passed: u32 },
    Open { until: Duration },
}

impl Default for Machine {
    fn default() -> Self {
        Self { now_is: Inner::Closed, epoch: 0, window: Window::default(), consecutive: 0 }
    }
}

impl Machine {
    /// The state in the lowest two bits, the epoch above them.
    pub(super) fn word(&self) -> u64 {
        let state = match self.now_is {
            Inner::Closed => State::Closed,
            Inner::HalfOpen { .. } => State::HalfOpen,
            Inner::Open { .. } => State::Open,
        };
        self.epoch << 2 | state as u64
    }

    pub(super) fn admit(&mut self, settings: &CircuitSettings, now: Duration) -> Result<Ticket, Duration> {
        if let Inner::Open { until } = self.now_is {
            let left = until.saturating_sub(now);
            if !left.is_zero() {
                return Err(left);
            }
            self.enter(Inner::HalfOpen { out: 0, passed: 0 });
        }
        if let Inner::HalfOpen { out, passed } = &mut self.now_is {
            if *out + *passed >= settings.probes {
                return Err(WHILE_PROBING.min(settings.open));
            }
            *out += 1;
        }
        Ok(Ticket { epoch: self.epoch })
    }

    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used up: no call is settled twice")]
    pub(super) fn settle(
        &mut self,
        settings: &CircuitSettings,
        now: Duration,
        ticket: Ticket,
        verdict: Verdict,
    ) {
        if ticket.epoch != self.epoch {
            return;
        }
        match &mut self.now_is {
            Inner::Closed => {
                if self.opens(settings, now, verdict) {
                    self.enter(Inner::Open { until: now + settings.open });
                }
            }
            Inner::HalfOpen { out, passed } => {
                *out -= 1;
                match verdict {
                    Verdict::Neutral => {}
                    Verdict::Good => {
                        *passed += 1;
                        if *passed >= settings.probes {
                            self.enter(Inner::Closed);
                        }
                    }
                    Verdict::Slow | Verdict::Fault => {
                        self.enter(Inner::Open { until: now + settings.open });
                    }
                }
            }
            Inner::Open { .. } => unreachable!("an open circuit gives no ticket"),
        }
    }

    /// Adds a verdict to the window; says whether it is one too many.
    fn opens(&mut self, settings: &CircuitSettings, now: Duration, verdict: Verdict) -> bool {
        let fault = match verdict {
            Verdict::Neutral => return false,
            Verdict::Good | Verdict::Slow => false,
            Verdict::Fault => true,
        };
        self.window.add(settings.window, now, fault, verdict == Verdict::Slow);
        self.consecutive = if fault { self.consecutive.saturating_add(1) } else { 0 };
        // A call that did well opens nothing.
        if verdict == Verdict::Good {
            return false;
        }
        if settings.consecutive_max > 0 && self.consecutive >= settings.consecutive_max {
            return true;
        }
        let counts = self.window.counts(settings.window, now);
        let reaches = |count: u32, percent: u32| {
            percent > 0 && u64::from(count) * 100 >= u64::from(percent) * u64::from(counts.calls)
        };
        counts.calls >= settings.volume_min
            && (reaches(counts.faults, settings.error_percent) || reaches(counts.slow, settings.slow_percent))
    }

    fn enter(&mut self, next: Inner) {
        self.now_is = next;
        self.epoch += 1;
        self.window.clear();
        self.consecutive = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a circuit should do, written down as simply as it can be: every call is remembered.
    struct Model {
        settings: CircuitSettings,
        state: State,
        changes: usize,
        /// Millisecond and verdict of each call that counts in this closed state.
        ended: Vec<(u64, Verdict)>,
        out: u32,
        passed: u32,
        open_until: u64,
    }

    impl Model {
        fn admit(&mut self, now: u64) -> Result<usize, ()> {
            if self.state == State::Open && now >= self.open_until {
                self.enter(State::HalfOpen);
            }
            match self.state {
                State::Open => Err(()),
                State::HalfOpen if self.out + self.passed == self.settings.probes => Err(()),
                State::HalfOpen => {
                    self.out += 1;
                    Ok(self.changes)
                }
                State::Closed => Ok(self.changes),
            }
        }

        fn settle(&mut self, now: u64, admitted_at: usize, verdict: Verdict) {
            if admitted_at != self.changes {
                return;
            }
            let opens = if self.state == State::HalfOpen {
                self.out -= 1;
                self.passed += u32::from(verdict == Verdict::Good);
                if self.passed == self.settings.probes {
                    return self.enter(State::Closed);
                }
                matches!(verdict, Verdict::Fault | Verdict::Slow)
            } else {
                if verdict != Verdict::Neutral {
                    self.ended.push((now, verdict));
                }
                matches!(verdict, Verdict::Fault | Verdict::Slow) && self.is_too_much(now)
            };
            if opens {
                self.open_until = now + u64::try_from(self.settings.open.as_millis()).unwrap();
                self.enter(State::Open);
            }
        }

        fn is_too_much(&self, now: u64) -> bool {
            let slot = u64::try_from(self.settings.window.as_millis()).unwrap() / 10;
            let recent: Vec<_> =
                self.ended.iter().filter(|(at, _)| at / slot + 10 > now / slot).map(|(_, is)| *is).collect();
            let count = |wanted| recent.iter().filter(|verdict| **verdict == wanted).count() * 100;
            let row = self.ended.iter().rev().take_while(|(_, is)| *is == Verdict::Fault).count();
            let limit = |percent: u32| usize::try_from(percent).unwrap() * recent.len();
            row >= usize::try_from(self.settings.consecutive_max).unwrap()
                || (recent.len() >= usize::try_from(self.settings.volume_min).unwrap()
                    && (count(Verdict::Fault) >= limit(self.settings.error_percent)
                        || count(Verdict::Slow) >= limit(self.settings.slow_percent)))
        }

        fn enter(&mut self, state: State) {
            (self.state, self.out, self.passed) = (state, 0, 0);
            self.changes += 1;
            self.ended.clear();
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Wait(u64),
        Admit,
        /// The end of one of the calls under way.
        End(usize, Verdict),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let verdict = prop_oneof![
            3 => Just(Verdict::Good),
            1 => Just(Verdict::Slow),
            3 => Just(Verdict::Fault),
            1 => Just(Verdict::Neutral),
        ];
        let step = prop_oneof![
            2 => (0_u64..800).prop_map(Step::Wait),
            5 => Just(Step::Admit),
            5 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Step::End(which, verdict)),
        ];
        prop::collection::vec(step, 1..400)
    }

    fn settings() -> impl Strategy<Value = CircuitSettings> {
        (1_u32..12, 1_u32..=100, 1_u32..8, 1_u32..=100, 1_u64..2000, 1_u32..4).prop_map(
            |(volume_min, error_percent, consecutive_max, slow_percent, open_ms, probes)| CircuitSettings {
                window: Duration::from_secs(1),
                volume_min,
                error_percent,
                consecutive_max,
                slow: None,
                slow_percent,
                open: Duration::from_millis(open_ms),
                probes,
            },
        )
    }

    proptest! {
        #[test]
        fn it_does_what_the_model_does((settings, steps) in (settings(), steps())) {
            let mut machine = Machine::default();
            let mut model = Model {
                settings, state: State::Closed, changes: 0, ended: Vec::new(), out: 0, passed: 0, open_until: 0,
            };
            let (mut now, mut under_way) = (0, Vec::new());
            for step in steps {
                let time = Duration::from_millis(now);
                match step {
                    Step::Wait(ms) => now += ms,
                    Step::Admit => match (machine.admit(&settings, time), model.admit(now)) {
                        (Ok(ticket), Ok(at)) => under_way.push((ticket, at)),
                        (Err(wait), Err(())) => {
                            prop_assert!(wait > Duration::ZERO && wait <= settings.open);
                            if model.state == State::Open {
                                prop_assert_eq!(time + wait, Duration::from_millis(model.open_until));
                            }
                        }
                        (is, should_be) => prop_assert!(false, "{is:?} instead of {should_be:?}"),
                    },
                    Step::End(which, verdict) if !under_way.is_empty() => {
                        let (ticket, at) = under_way.swap_remove(which % under_way.len());
                        machine.settle(&settings, time, ticket, verdict);
                        model.settle(now, at, verdict);
                    }
                    Step::End(..) => {}
                }
                prop_assert_eq!(State::of_word(machine.word()), model.state);
            }
        }
    }

    #[test]
    fn what_is_set_to_zero_never_opens_it() {
        let never = CircuitSettings {
            window: Duration::from_secs(1),
            volume_min: 1,
            error_percent: 0,
            consecutive_max: 0,
            slow: None,
            slow_percent: 0,
            open: Duration::from_secs(1),
            probes: 1,
        };
        let mut machine = Machine::default();
        for verdict in [Verdict::Fault, Verdict::Slow].repeat(100) {
            let ticket = machine.admit(&never, Duration::ZERO).unwrap();
            machine.settle(&never, Duration::ZERO, ticket, verdict);
        }
        assert_eq!(State::of_word(machine.word()), State::Closed);
    }
}
