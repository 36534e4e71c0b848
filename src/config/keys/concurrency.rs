//! The keys of `[concurrency]`.

use super::{BOOL, Section, int};
use crate::config::key::Key;

pub(super) static SECTION: Section = Section {
    name: "concurrency",
    heading: "Limits of requests at once that follow the latency of a route, below its calls_max. Routes may differ.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    Key::new("concurrency.adaptive", BOOL, "Whether routes have such a limit.").default_to("false"),
    Key::new("concurrency.calls_min", int(1, 1_000_000, "requests"), "The least that a limit falls to.")
        .default_to("4"),
    Key::new("concurrency.calls_start", int(1, 1_000_000, "requests"), "What a limit begins with.")
        .default_to("32"),
    Key::new(
        "concurrency.tolerance_percent",
        int(100, 1000, "percent"),
        "What calls may take before the limit falls, in percent of what they take in the long run.",
    )
    .default_to("150"),
    Key::new(
        "concurrency.window_ms",
        int(10, 60_000, "ms"),
        "How long latencies are gathered before the limit moves.",
    )
    .default_to("500"),
];
