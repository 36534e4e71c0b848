//! A reference router: validates and answers as the Beamline router was recorded to do
//! (`tests/vectors/beamline-router/`), and on command is slow, late, silent, double, failing or gone.
//!
//! Everything that decides is here and knows no NATS, so that it is tested without one; `backend::nats::responder`
//! carries messages to it. It checks requests with means of its own and nothing of the profile's: that is what makes
//! it worth asking.

mod admin;
mod duplicates;
pub mod intake;
mod mode;
#[cfg(test)]
pub(crate) mod recorded;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use self::duplicates::Duplicates;
pub use self::mode::{Behaviour, Mode, PRESSURES, RESULTS, WAIT_MS_MAX};

/// Where decide requests come.
pub const DECIDE: &str = "beamline.router.v1.decide";
/// Where an operator asks.
pub const ADMIN: &str = "beamline.router.v1.admin.*";
/// Where the pressure is asked for.
pub const BACKPRESSURE: &str = "beamline.router.v1.status.backpressure";
/// Where the results of its workers go.
pub const RESULT: &str = "caf.exec.result.v1";
/// Where a test says how to behave; each router hears it, in whatever group.
pub const CONTROL: &str = "beamline.demo-router.v1.control";

/// What a router is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tenants that have the policy `default`; any other tenant and policy is not found.
    pub tenants: Vec<String>,
    /// Where decide requests come, [`DECIDE`] mostly.
    pub decide: String,
    /// How it behaves until it is told otherwise.
    pub behaviour: Behaviour,
    /// What it says about its pressure, one of [`PRESSURES`].
    pub pressure: &'static str,
    /// What it says about when to come back while there is pressure, in seconds.
    pub retry_after_seconds: u64,
    /// How its workers report what was decided, one of [`RESULTS`].
    pub results: &'static str,
    /// Keys of earlier requests that are remembered.
    pub keys_max: usize,
}

/// A router.
#[derive(Debug)]
pub struct DemoRouter {
    settings: Settings,
    state: Mutex<State>,
    crashed: AtomicBool,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    pressure: &'static str,
    results: &'static str,
    duplicates: Duplicates,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// It is answered after a while, so many times, with this body.
    Answer {
        /// How long after it came.
        after: Duration,
        /// How often.
        times: u8,
        /// With what.
        body: Value,
        /// What its workers report of it then, on [`RESULT`].
        results: Vec<Value>,
    },
    /// Nothing.
    Silence,
    /// The router ends, and answers nobody.
    Crash,
}

impl Act {
    fn now(body: Value) -> Self {
        Self::Answer { after: Duration::ZERO, times: 1, body, results: Vec::new() }
    }
}

impl DemoRouter {
    /// A router that behaves as `settings` says.
    pub fn new(settings: Settings) -> Self {
        let state = State {
            behaviour: settings.behaviour.clone(),
            pressure: settings.pressure,
            results: settings.results,
            duplicates: Duplicates::new(settings.keys_max),
        };
        Self { settings, state: Mutex::new(state), crashed: AtomicBool::new(false) }
    }

    /// What becomes of a request on `subject`; `due` is how long its sender waits, as far as it says so.
    pub fn act(&self, subject: &str, payload: &[u8], due: Option<Duration>) -> Act {
        if self.crashed.load(Ordering::Relaxed) {
            return Act::Silence;
        }
        match subject {
            _ if subject == self.settings.decide => self.decide(payload, due),
            BACKPRESSURE => Act::now(self.backpressure(payload)),
            CONTROL => Act::now(self.control(payload)),
            _ => match admin::answer(subject, payload, &self.settings.tenants) {
                Some(body) => Act::now(body),
                None => Act::Silence,
            },
        }
    }

    fn decide(&self, payload: &[u8], due: Option<Duration>) -> Act {
        let decide = match intake::check(payload) {
            Ok(decide) => decide,
            Err(refusal) => return Act::now(refusal.body()),
        };
        let behaviour = {
            let mut state = self.state();
            let is_new = decide
                .idempotency_key
                .as_ref()
                .is_none_or(|key| state.duplicates.is_new(&decide.tenant_id, key));
            if !is_new {
                return Act::Silence;
            }
            decide.behaviour.clone().unwrap_or_else(|| state.behaviour.clone())
        };
        let body = match &behaviour.mode {
            Mode::Fail(code) => decide.failure(code, "the demo router was told to fail", None),
            _ => self.decision(&decide),
        };
        let after = match behaviour.mode {
            Mode::Silent => return Act::Silence,
            Mode::Crash => {
                self.crashed.store(true, Ordering::Relaxed);
                return Act::Crash;
            }
            Mode::Late => due.unwrap_or(mode::DUE_DEFAULT) + behaviour.wait,
            _ => behaviour.wait,
        };
        let times = if behaviour.mode == Mode::Double { 2 } else { 1 };
        let shapes = if body["ok"] == true { self.state().results } else { "none" };
        let results = decide.results(shapes);
        Act::Answer { after, times, body, results }
    }

    fn decision(&self, decide: &intake::Decide) -> Value {
        if let Some(user) = &decide.sticky_user {
            // As recorded of a router whose store of sticky choices is not running.
            return intake::Refusal::sticky(&decide.tenant_id, user).body();
        }
        let (tenant, policy) = (&decide.tenant_id, &decide.policy_id);
        if policy != "default" || !self.settings.tenants.contains(tenant) {
            let details = json!({
                "context": "Policy not found in store", "policy_id": policy, "tenant_id": tenant,
            });
            return decide.failure("policy_not_found", "Routing failed", Some(details));
        }
        json!({
            "ok": true,
            "decision": {
                "provider_id": "openai", "priority": 50, "expected_latency_ms": 0, "expected_cost": 0.0,
                "reason": "weighted", "metadata": {"executed_extensions": [], "tenant_id": tenant},
            },
            "context": decide.context(),
        })
    }

    fn backpressure(&self, payload: &[u8]) -> Value {
        let asked: Value = serde_json::from_slice(payload).unwrap_or_default();
        let pressure = self.state().pressure;
        json!({"ok": true, "data": {
            "subject": asked["subject"], "status": pressure,
            "policy": {"retry_after_seconds": self.settings.retry_after_seconds},
        }})
    }

    /// Takes `{"mode"?, "wait_ms"?, "code"?, "backpressure"?, "results"?}`, and says how it behaves from now on.
    fn control(&self, payload: &[u8]) -> Value {
        let asked: Value = serde_json::from_slice(payload).unwrap_or_else(|_| json!({}));
        let mut state = self.state();
        if asked.get("mode").is_some() {
            match Behaviour::read(&asked) {
                Ok(behaviour) => state.behaviour = behaviour,
                Err(problem) => return json!({"ok": false, "error": problem}),
            }
        }
        if let Some(pressure) = asked.get("backpressure") {
            match PRESSURES.iter().find(|known| pressure == **known) {
                Some(known) => state.pressure = known,
                None => return json!({"ok": false, "error": format!("backpressure is one of {PRESSURES:?}")}),
            }
        }
        if let Some(results) = asked.get("results") {
            match RESULTS.iter().find(|known| results == **known) {
                Some(known) => state.results = known,
                None => return json!({"ok": false, "error": format!("results is one of {RESULTS:?}")}),
            }
        }
        let mut now = state.behaviour.to_json();
        now["results"] = state.results.into();
        now["backpressure"] = state.pressure.into();
        now["ok"] = true.into();
        now
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
