//! The keys of `[breaker]`.

use super::{BOOL, PERCENT, Section, int};
use crate::config::key::Key;
use crate::config::value::Kind;

pub(super) static SECTION: Section = Section {
    name: "breaker",
    heading: "Circuit breakers, one a route: what fails is not asked again for a while. Routes may differ.",
    keys: KEYS,
};

/// From when on a call is slow; shared with the routes.
pub(in crate::config) const SLOW_MS: Kind = int(0, 300_000, "ms, 0 = never");
/// How long a circuit stays open; shared with the routes.
pub(in crate::config) const OPEN_MS: Kind = int(100, 3_600_000, "ms");
/// Calls before a share is judged; shared with the routes.
pub(in crate::config) const VOLUME: Kind = int(1, 1_000_000, "calls");
/// Faults in a row; shared with the routes.
pub(in crate::config) const CONSECUTIVE: Kind = int(0, 1_000_000, "faults, 0 = any number");

const KEYS: &[Key] = &[
    Key::new("breaker.enabled", BOOL, "Whether routes have a breaker.").default_to("true"),
    Key::new("breaker.window_ms", int(1000, 600_000, "ms"), "Calls that ended within this time are judged.")
        .default_to("10000"),
    Key::new("breaker.volume_min", VOLUME, "Calls in that time below which no share of them is judged.")
        .default_to("20"),
    Key::new("breaker.error_percent", PERCENT, "Share of the backend's faults that opens the circuit.")
        .default_to("50"),
    Key::new("breaker.consecutive_max", CONSECUTIVE, "Faults in a row that open it, however few calls there are.")
        .default_to("10"),
    Key::new("breaker.slow_ms", SLOW_MS, "A call that takes so long is slow.").default_to("0"),
    Key::new("breaker.slow_percent", PERCENT, "Share of slow calls that opens it.").default_to("80"),
    Key::new("breaker.open_ms", OPEN_MS, "How long it refuses everything before a few calls may try.")
        .default_to("5000"),
    Key::new(
        "breaker.probes",
        int(1, 1000, "calls"),
        "Calls that may try then; all of them must do well for it to close, and one that does not opens it again.",
    )
    .default_to("3"),
];
