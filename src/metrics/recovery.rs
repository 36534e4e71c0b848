//! What keeps each route up, read when Prometheus asks: its circuit, its further attempts, its adaptive limit, its
//! responder's pressure, and what became of what its streams brought.
//!
//! Readings and not registered samples, because the routes of tomorrow are those of another configuration.

use tokio::time::Instant;

use super::Reading;
use crate::circuit::State;
use crate::pressure::{News, Verdict, share};
use crate::profiles::Profile;
use crate::route::Route;
use crate::rules::Rules;

/// The readings of the rules in force; with `old_names` the predecessor's name too.
pub fn readings(rules: &Rules, old_names: bool) -> Vec<Reading> {
    let mut readings = Vec::new();
    for route in rules.routes.iter() {
        circuit(route, old_names, &mut readings);
        retries(route, &mut readings);
        adaptive(route, &mut readings);
        pressure(rules, route, &mut readings);
        results(route, &mut readings);
    }
    readings
}

fn circuit(route: &Route, old_names: bool, readings: &mut Vec<Reading>) {
    if route.settings.breaker.is_none() {
        return;
    }
    let state = f64::from(route.circuit.state() as u8);
    let help = "State of the route's circuit: 0 closed, 1 half-open, 2 open.";
    readings.push(gauge("ipc_gateway_breaker_state", help, route, state));
    if old_names {
        let help = "Old name of ipc_gateway_breaker_state.";
        readings.push(gauge("ipc_circuit_breaker_state", help, route, state));
    }
    for state in State::ALL {
        let help = "Times that the route's circuit entered a state.";
        let entered = float(route.circuit.entered(state));
        let reading = gauge("ipc_gateway_breaker_transitions_total", help, route, entered);
        readings.push(counter(reading, Some(("to", state.name()))));
    }
}

fn retries(route: &Route, readings: &mut Vec<Reading>) {
    if route.settings.retry.is_none() {
        return;
    }
    let budget = &route.retries;
    for (outcome, count) in [("ok", budget.ok_total()), ("failed", budget.failed_total())] {
        let help = "Further attempts of idempotent requests that ended, by how.";
        let reading = gauge("ipc_gateway_retries_total", help, route, float(count));
        readings.push(counter(reading, Some(("outcome", outcome))));
    }
    let help = "Further attempts that were not made, because the route's budget was spent.";
    let exhausted = float(budget.exhausted_total());
    readings.push(counter(gauge("ipc_gateway_retry_budget_exhausted_total", help, route, exhausted), None));
    let help = "Further attempts that the route's budget has left.";
    readings.push(gauge("ipc_gateway_retry_budget", help, route, f64::from(budget.left())));
    let help = "Further attempts that the route's budget can hold.";
    readings.push(gauge("ipc_gateway_retry_budget_max", help, route, f64::from(budget.max())));
}

fn adaptive(route: &Route, readings: &mut Vec<Reading>) {
    let Some(bounds) = &route.settings.adaptive else { return };
    let number = |count: usize| float(count as u64);
    let help = "Requests that hold a permit of a route whose limit is adaptive.";
    readings.push(gauge("ipc_gateway_route_calls", help, route, number(route.calls.used())));
    let help = "The adaptive limit of such a route now.";
    readings.push(gauge("ipc_gateway_route_calls_max", help, route, number(route.adaptive.current(bounds))));
}

fn pressure(rules: &Rules, route: &Route, readings: &mut Vec<Reading>) {
    let Some(settings) = &route.settings.pressure else { return };
    let pressure = &route.pressure;
    let (state, verdict) = pressure.look(settings, Instant::now());
    let help = "What the pressure of the route's responder lets pass: 0 everything, 1 a share that grows, 2 a share, \
                3 nothing.";
    readings.push(gauge("ipc_gateway_backpressure_state", help, route, f64::from(state as u8)));
    let bound = route.calls.limit().min(rules.calls.limit());
    let may = match verdict {
        Verdict::Share(percent) => share(bound, percent),
        Verdict::None(_) => 0,
    };
    let help = "Requests that the route's responder has of the gateway now.";
    readings.push(gauge("ipc_gateway_backpressure_calls", help, route, float(pressure.calls() as u64)));
    let help = "Requests that it may have now.";
    readings.push(gauge("ipc_gateway_backpressure_calls_max", help, route, float(may as u64)));
    for news in News::ALL {
        let help = "Questions for the pressure of the route's responder, by what came of them.";
        let asked =
            gauge("ipc_gateway_backpressure_asks_total", help, route, float(pressure.heard_total(news)));
        readings.push(counter(asked, Some(("answer", news.name()))));
    }
    for (status, count) in [("active", pressure.refused_total()), ("warning", pressure.slowed_total())] {
        let help =
            "Requests refused because of the pressure of the route's responder; warning: or its recovery.";
        let refused = gauge("ipc_gateway_backpressure_refusals_total", help, route, float(count));
        readings.push(counter(refused, Some(("status", status))));
    }
}

fn results(route: &Route, readings: &mut Vec<Reading>) {
    if !matches!(route.settings.profile, Profile::BeamlineResultsV1(_)) {
        return;
    }
    let tally = &route.results;
    let outcomes = [
        ("delivered", &tally.delivered),
        ("duplicate", &tally.duplicate),
        ("other_tenant", &tally.other_tenant),
        ("other_request", &tally.other_request),
        ("malformed", &tally.malformed),
    ];
    for (outcome, count) in outcomes {
        let help =
            "Workers' results that came on the route's streams, by what became of them, once a stream.";
        let reading = gauge("ipc_gateway_results_total", help, route, float(count.get()));
        readings.push(counter(reading, Some(("outcome", outcome))));
    }
    let help = "Workers' results that the route's streams remember now.";
    let keys = float(u64::try_from(tally.keys.get()).unwrap_or(0));
    readings.push(gauge("ipc_gateway_results_keys", help, route, keys));
}

fn gauge(name: &'static str, help: &'static str, route: &Route, value: f64) -> Reading {
    Reading { name, help, counter: false, labels: vec![("route", route.settings.name.clone())], value }
}

fn counter(reading: Reading, label: Option<(&'static str, &'static str)>) -> Reading {
    let mut labels = reading.labels;
    labels.extend(label.map(|(name, value)| (name, value.to_owned())));
    Reading { counter: true, labels, ..reading }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one process, below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}
