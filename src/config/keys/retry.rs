//! The keys of `[retry]`.

use super::{Section, int};
use crate::config::key::Key;
use crate::config::value::Kind;

pub(super) static SECTION: Section = Section {
    name: "retry",
    heading: "Further attempts of requests and publishes that their peer calls idempotent.",
    keys: KEYS,
};

/// Attempts after the first; shared with the routes.
pub(in crate::config) const ATTEMPTS: Kind = int(0, 20, "attempts, 0 = none");
/// Time of one attempt; shared with the routes.
pub(in crate::config) const ATTEMPT_MS: Kind = int(0, 300_000, "ms, 0 = all that is left");

const KEYS: &[Key] = &[
    Key::new("retry.attempts_max", ATTEMPTS, "Attempts after the first.").default_to("2"),
    Key::new(
        "retry.attempt_timeout_ms",
        ATTEMPT_MS,
        "What an attempt may take that another can follow. With 0 the first one may use the whole deadline, so only \
         an unreachable backend is tried again.",
    )
    .default_to("0"),
    Key::new(
        "retry.backoff_ms",
        int(1, 60_000, "ms"),
        "Longest pause before the second attempt; it doubles with each. Pauses are random up to it.",
    )
    .default_to("50"),
    Key::new("retry.backoff_ms_max", int(1, 60_000, "ms"), "Longest pause at all.").default_to("1000"),
    Key::new(
        "retry.budget_percent",
        int(1, 100, "percent"),
        "Further attempts that a route may make for each hundred of its idempotent requests.",
    )
    .default_to("20"),
    Key::new(
        "retry.budget_max",
        int(1, 100_000, "attempts"),
        "Further attempts that a route can save up; what it begins with.",
    )
    .default_to("10"),
];
