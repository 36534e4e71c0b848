//! The rules of a route that have a section of their own: what the route leaves open is as its section says.

use std::time::Duration;

use super::resolved::Resolved;
use super::routes::subject;
use crate::adaptive::AdaptiveSettings;
use crate::circuit::CircuitSettings;
use crate::pressure::PressureSettings;
use crate::services::idempotency::IdempotencySettings;
use crate::services::retry::RetrySettings;

/// The breaker of a route; `None` if it has none.
pub(super) fn breaker(settings: &Resolved, name: &str) -> Option<CircuitSettings> {
    let int = |key: &str| -> u32 { own_int(settings, name, "breaker", key) };
    let millis = |key: &str| Duration::from_millis(own_int(settings, name, "breaker", key));
    own_bool(settings, name, "breaker_enabled", "breaker.enabled").then(|| CircuitSettings {
        window: settings.millis("breaker.window_ms"),
        volume_min: int("volume_min"),
        error_percent: int("error_percent"),
        consecutive_max: int("consecutive_max"),
        slow: Some(millis("slow_ms")).filter(|slow| !slow.is_zero()),
        slow_percent: settings.int("breaker.slow_percent"),
        open: millis("open_ms"),
        probes: settings.int("breaker.probes"),
    })
}

/// How a route's requests are tried again; `None` if they are not.
pub(super) fn retry(settings: &Resolved, name: &str) -> Option<RetrySettings> {
    let attempts_max = own_int(settings, name, "retry", "attempts_max");
    let attempt_timeout = Duration::from_millis(own_int(settings, name, "retry", "attempt_timeout_ms"));
    (attempts_max > 0).then(|| RetrySettings {
        attempts_max,
        attempt_timeout: Some(attempt_timeout).filter(|timeout| !timeout.is_zero()),
        backoff: settings.millis("retry.backoff_ms"),
        backoff_max: settings.millis("retry.backoff_ms_max"),
        budget_percent: settings.int("retry.budget_percent"),
        budget_max: settings.int("retry.budget_max"),
    })
}

/// What a route does with idempotency keys; `None` if it does not look at them.
pub(super) fn idempotency(settings: &Resolved, name: &str) -> Option<IdempotencySettings> {
    let own = |key: &str| format!("routes.{name}.{key}");
    settings.bool(&own("idempotency")).then(|| IdempotencySettings {
        window: Duration::from_millis(own_int(settings, name, "idempotency", "window_ms")),
        default_tenant: settings.text("identity.default_tenant").into(),
    })
}

/// The adaptive limit of a route, below the fixed one if it has that; `None` if it has no adaptive one.
pub(super) fn adaptive(
    settings: &Resolved,
    name: &str,
    calls_max: Option<usize>,
) -> Option<AdaptiveSettings> {
    own_bool(settings, name, "calls_adaptive", "concurrency.adaptive").then(|| {
        let calls_max = calls_max.unwrap_or_else(|| settings.int("limits.calls_max"));
        AdaptiveSettings {
            calls_min: settings.int::<usize>("concurrency.calls_min").min(calls_max),
            calls_max,
            calls_start: settings.int("concurrency.calls_start"),
            tolerance_percent: settings.int("concurrency.tolerance_percent"),
            window: settings.millis("concurrency.window_ms"),
        }
    })
}

/// How a route's responder is asked for its pressure; `None` if it is not.
pub(super) fn pressure(settings: &Resolved, name: &str) -> Option<PressureSettings> {
    let asked = settings.text_if_set(&format!("routes.{name}.backpressure_subject"))?;
    own_bool(settings, name, "backpressure_enabled", "backpressure.enabled").then(|| PressureSettings {
        subject: subject(asked),
        interval: settings.millis("backpressure.interval_ms"),
        absent_interval: settings.millis("backpressure.absent_interval_ms"),
        timeout: settings.millis("backpressure.timeout_ms"),
        believed: settings.millis("backpressure.believed_ms"),
        warning_percent: settings.int("backpressure.warning_percent"),
        retry_after_max: settings.millis("backpressure.retry_after_ms_max"),
        recovery: settings.millis("backpressure.recovery_ms"),
    })
}

/// `routes.<name>.<section>_<key>`, or else `<section>.<key>`.
fn own_int<N: TryFrom<u64>>(settings: &Resolved, name: &str, section: &str, key: &str) -> N {
    let own = settings.int_if_set(&format!("routes.{name}.{section}_{key}"));
    own.unwrap_or_else(|| settings.int(&format!("{section}.{key}")))
}

fn own_bool(settings: &Resolved, name: &str, own: &str, path: &str) -> bool {
    settings.bool_if_set(&format!("routes.{name}.{own}")).unwrap_or_else(|| settings.bool(path))
}
