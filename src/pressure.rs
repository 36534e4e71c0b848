//! What is known of the pressure that a route's responder is under, and what may be sent to it therefore.
//!
//! What the responder said and what it means later is a plain value with the time passed in ([`Belief`]), so that it
//! can be held against a model. Nothing is believed for ever: a responder that fell silent in the middle of its
//! trouble would otherwise never be asked for work again. And nothing ends at once: while it recovers, its route's
//! bound grows back little by little, or everybody who was told to wait would come at the same moment.
//!
//! Around the belief stand one flag, which is all that an admission reads while there is no pressure, and a lock that
//! is held for a few instructions while there is. The settings come with each call: a reload changes them and leaves
//! the state.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::Subject;
use tokio::time::Instant;

use crate::permits::{Permit, Permits};

/// When a request may come again that was refused because the responder is slow: what is in flight is out for the
/// length of a request, which is short against a second.
const RETRY_AFTER_SLOWED: Duration = Duration::from_secs(1);

/// Where a responder is asked for its pressure, and what is made of its answers.
#[derive(Clone, Debug, PartialEq)]
pub struct PressureSettings {
    /// Where it is asked.
    pub subject: Subject,
    /// How often.
    pub interval: Duration,
    /// How often where nobody answered such questions.
    pub absent_interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long an answer is believed when no other follows.
    pub believed: Duration,
    /// Which share of the route's bound may be in flight at the status `warning`, in percent, 1 to 100.
    pub warning_percent: u32,
    /// The most that a peer is told to wait, whatever the responder says.
    pub retry_after_max: Duration,
    /// How long the bound takes to grow back.
    pub recovery: Duration,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It takes nothing more; try again after this time.
    Active {
        /// As it said, or what the settings make of it.
        retry_after: Duration,
    },
    /// It takes less.
    Warning,
    /// It is free.
    Inactive,
    /// Nobody answers such questions here.
    Absent,
    /// It is there, and said nothing that could be understood: that changes nothing.
    Unknown,
    /// It did not answer: that changes nothing.
    Silent,
}

impl News {
    /// All, with any `retry_after`.
    pub const ALL: [Self; 6] = [
        Self::Active { retry_after: Duration::ZERO },
        Self::Warning,
        Self::Inactive,
        Self::Absent,
        Self::Unknown,
        Self::Silent,
    ];

    /// The word in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active { .. } => "active",
            Self::Warning => "warning",
            Self::Inactive => "inactive",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
            Self::Silent => "silent",
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Active { .. } => 0,
            Self::Warning => 1,
            Self::Inactive => 2,
            Self::Absent => 3,
            Self::Unknown => 4,
            Self::Silent => 5,
        }
    }
}

/// What holds for a route now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything passes.
    Free,
    /// The pressure is over; a share passes that grows.
    Recovering,
    /// A share passes.
    Slowed,
    /// Nothing passes.
    Refusing,
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Recovering => "recovering",
            Self::Slowed => "slowed",
            Self::Refusing => "refusing",
        }
    }
}

/// What may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As many requests at once as this share of the bound, in percent, 1 to 100.
    Share(u32),
    /// None; another may come after this time.
    None(Duration),
}

/// What is believed of a responder: what it said last that counts, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Belief {
    #[default]
    Free,
    Recovering {
        since: Instant,
    },
    Slowed {
        heard: Instant,
    },
    Refusing {
        heard: Instant,
        retry_after: Duration,
    },
}

impl Belief {
    /// What it has become by `now`, if nothing was heard since.
    fn at(self, settings: &PressureSettings, now: Instant) -> Self {
        match self {
            Self::Slowed { heard } | Self::Refusing { heard, .. } if now >= heard + settings.believed => {
                Self::Recovering { since: heard + settings.believed }.at(settings, now)
            }
            Self::Recovering { since } if now >= since + settings.recovery => Self::Free,
            other => other,
        }
    }

    fn hear(self, settings: &PressureSettings, now: Instant, news: News) -> Self {
        match (news, self.at(settings, now)) {
            (News::Active { retry_after }, _) => {
                Self::Refusing { heard: now, retry_after: retry_after.min(settings.retry_after_max) }
            }
            (News::Warning, _) => Self::Slowed { heard: now },
            (News::Inactive | News::Absent, Self::Slowed { .. } | Self::Refusing { .. }) => {
                Self::Recovering { since: now }.at(settings, now)
            }
            (_, unchanged) => unchanged,
        }
    }

    /// What it means at `now`; to be asked of what it has become by then.
    fn verdict(self, settings: &PressureSettings, now: Instant) -> Verdict {
        match self {
            Self::Free => Verdict::Share(100),
            Self::Slowed { .. } => Verdict::Share(settings.warning_percent),
            Self::Refusing { retry_after, .. } => Verdict::None(retry_after),
            Self::Recovering { since } => {
                let passed = now.saturating_duration_since(since).as_millis();
                let whole = settings.recovery.as_millis().max(1);
                let grown = u128::from(100_u32.saturating_sub(settings.warning_percent)) * passed / whole;
                let grown = u32::try_from(grown).unwrap_or(100);
                Verdict::Share(settings.warning_percent.saturating_add(grown).min(100))
            }
        }
    }

    fn state(self) -> State {
        match self {
            Self::Free => State::Free,
            Self::Recovering { .. } => State::Recovering,
            Self::Slowed { .. } => State::Slowed,
            Self::Refusing { .. } => State::Refusing,
        }
    }
}

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What holds: [`State::Refusing`], or a state in which the share is used up.
    pub state: State,
    /// When another may come.
    pub retry_after: Duration,
}

/// The pressure of one route. Without any at first.
#[derive(Debug)]
pub struct Pressure {
    /// Nothing is believed that keeps anybody away. Written under the lock.
    free: AtomicBool,
    belief: Mutex<Belief>,
    /// Requests that were let through, counted in every state: those of before are in flight too when it changes.
    calls: Arc<Permits>,
    /// Refusals, for want of a share and altogether.
    refused: [AtomicU64; 2],
    /// How often each of [`News`] came.
    heard: [AtomicU64; News::ALL.len()],
}

impl Default for Pressure {
    fn default() -> Self {
        Self {
            free: AtomicBool::new(true),
            belief: Mutex::default(),
            calls: Arc::new(Permits::new(usize::MAX)),
            refused: [const { AtomicU64::new(0) }; 2],
            heard: [const { AtomicU64::new(0) }; News::ALL.len()],
        }
    }
}

impl Pressure {
    /// Lets a request through, or says why not. `bound` is how many of the route may be in flight without any
    /// pressure. Never waits, never allocates.
    pub fn admit(
        &self,
        settings: &PressureSettings,
        bound: usize,
        now: impl FnOnce() -> Instant,
    ) -> Result<Permit, Refusal> {
        // Relaxed: the flag guards no other memory; a request that misses a change by a moment is one that came a
        // moment earlier.
        let (state, verdict) = if self.free.load(Ordering::Relaxed) {
            (State::Free, Verdict::Share(100))
        } else {
            self.look(settings, now())
        };
        let (counter, retry_after) = match verdict {
            Verdict::Share(percent) => {
                let limit = if state == State::Free { usize::MAX } else { share(bound, percent) };
                if let Some(permit) = self.calls.take_within(limit) {
                    return Ok(permit);
                }
                (&self.refused[0], RETRY_AFTER_SLOWED)
            }
            Verdict::None(retry_after) => (&self.refused[1], retry_after),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Err(Refusal { state, retry_after })
    }

    /// Counts a request that is in flight whatever holds now.
    pub fn count(&self) -> Permit {
        self.calls.take_always()
    }

    /// Takes what was heard. Returns what holds from now on.
    pub fn hear(&self, settings: &PressureSettings, now: Instant, news: News) -> State {
        self.heard[news.place()].fetch_add(1, Ordering::Relaxed);
        self.change(|belief| belief.hear(settings, now, news)).state()
    }

    /// What holds now, and what may pass.
    pub fn look(&self, settings: &PressureSettings, now: Instant) -> (State, Verdict) {
        let belief = self.change(|belief| belief.at(settings, now));
        (belief.state(), belief.verdict(settings, now))
    }

    /// Requests that were let through and are in flight.
    pub fn calls(&self) -> usize {
        self.calls.used()
    }

    /// Requests refused because the share was used up, since the start.
    pub fn slowed_total(&self) -> u64 {
        self.refused[0].load(Ordering::Relaxed)
    }

    /// Requests refused because the responder takes nothing, since the start.
    pub fn refused_total(&self) -> u64 {
        self.refused[1].load(Ordering::Relaxed)
    }

    /// How often this was heard.
    pub fn heard_total(&self, news: News) -> u64 {
        self.heard[news.place()].load(Ordering::Relaxed)
    }

    fn change(&self, change: impl FnOnce(Belief) -> Belief) -> Belief {
        // Nothing panics while it is held, and a belief is whole at any moment.
        let mut belief = self.belief.lock().unwrap_or_else(PoisonError::into_inner);
        *belief = change(*belief);
        self.free.store(*belief == Belief::Free, Ordering::Relaxed);
        *belief
    }
}

/// How many may be in flight: never none, or nobody would notice that the responder works again.
pub fn share(bound: usize, percent: u32) -> usize {
    let share = bound as u128 * u128::from(percent) / 100;
    usize::try_from(share).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests;
