//! How the demo router behaves: well, or in one of the ways that routers go wrong.

use std::time::Duration;

use serde_json::{Value, json};

/// The longest that it can be told to wait, in milliseconds.
pub const WAIT_MS_MAX: u64 = 600_000;
/// How long a sender waits that does not say so.
pub(super) const DUE_DEFAULT: Duration = Duration::from_secs(5);
/// What it can say about its pressure.
pub const PRESSURES: &[&str] = &["inactive", "warning", "active", "unknown"];

/// In which shapes it can have its workers report; both: each result twice, once in each.
pub const RESULTS: &[&str] = &["none", "flat", "envelope", "both"];

/// What is done with a decide request that is well formed. One that is not is refused in every mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is answered.
    Answer,
    /// It is answered after the wait.
    Slow,
    /// It is answered after its sender's deadline, and the wait.
    Late,
    /// It is never answered.
    Silent,
    /// It is answered twice.
    Double,
    /// It is answered with this error code.
    Fail(String),
    /// The router ends.
    Crash,
}

/// A mode, and how long to wait in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// What is done.
    pub mode: Mode,
    /// How long before, or after the deadline.
    pub wait: Duration,
}

impl Behaviour {
    /// The words for modes.
    pub const NAMES: &'static [&'static str] =
        &["answer", "slow", "late", "silent", "double", "fail", "crash"];

    /// From words: a mode, milliseconds, and a code for `fail`. The error says what is wrong.
    pub fn new(mode: &str, wait_ms: Option<u64>, code: Option<&str>) -> Result<Self, String> {
        let (mode, usual_ms) = match mode {
            "answer" => (Mode::Answer, 0),
            "slow" => (Mode::Slow, 1000),
            "late" => (Mode::Late, 200),
            "silent" => (Mode::Silent, 0),
            "double" => (Mode::Double, 0),
            "fail" => (Mode::Fail(code.unwrap_or("internal").to_owned()), 0),
            "crash" => (Mode::Crash, 0),
            _ => return Err(format!("mode is one of {}", Self::NAMES.join(", "))),
        };
        let wait_ms = wait_ms.unwrap_or(usual_ms);
        if wait_ms > WAIT_MS_MAX {
            return Err(format!("wait_ms is at most {WAIT_MS_MAX}"));
        }
        Ok(Self { mode, wait: Duration::from_millis(wait_ms) })
    }

    /// From `{"mode", "wait_ms"?, "code"?}`.
    pub fn read(asked: &Value) -> Result<Self, String> {
        let mode = asked["mode"].as_str().unwrap_or_default();
        Self::new(mode, asked["wait_ms"].as_u64(), asked["code"].as_str())
    }

    /// As [`Self::read`] takes it.
    pub fn to_json(&self) -> Value {
        let mode = match &self.mode {
            Mode::Answer => "answer",
            Mode::Slow => "slow",
            Mode::Late => "late",
            Mode::Silent => "silent",
            Mode::Double => "double",
            Mode::Fail(_) => "fail",
            Mode::Crash => "crash",
        };
        let mut told =
            json!({"mode": mode, "wait_ms": u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX)});
        if let Mode::Fail(code) = &self.mode {
            told["code"] = code.as_str().into();
        }
        told
    }
}
