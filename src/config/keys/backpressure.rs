//! The keys of `[backpressure]`.

use super::{BOOL, Section, int};
use crate::config::key::Key;

pub(super) static SECTION: Section = Section {
    name: "backpressure",
    heading: "Responders that say how much they can take. Each route with a backpressure_subject has its responder asked \
              there.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    Key::new("backpressure.enabled", BOOL, "Whether they are asked.").default_to("true").reloadable(),
    Key::new(
        "backpressure.interval_ms",
        int(50, 600_000, "ms"),
        "How often a responder is asked, give or take a quarter.",
    )
    .default_to("2000")
    .reloadable(),
    Key::new(
        "backpressure.absent_interval_ms",
        int(50, 3_600_000, "ms"),
        "How often one is asked that does not offer such answers, give or take a quarter.",
    )
    .default_to("60000")
    .reloadable(),
    Key::new("backpressure.timeout_ms", int(10, 60_000, "ms"), "How long an answer may take.")
        .default_to("1000")
        .reloadable(),
    Key::new(
        "backpressure.believed_ms",
        int(100, 3_600_000, "ms"),
        "How long the last answer is believed when none follows it.",
    )
    .default_to("10000")
    .reloadable(),
    Key::new(
        "backpressure.warning_percent",
        int(1, 100, "percent"),
        "At the status warning: how many requests may be in progress, as a share of the route's calls_max (of \
         limits.calls_max if it has none).",
    )
    .default_to("50")
    .reloadable(),
    Key::new(
        "backpressure.retry_after_ms_max",
        int(1000, 3_600_000, "ms"),
        "The longest that clients are told to wait at the status active, whatever the responder says.",
    )
    .default_to("60000")
    .reloadable(),
    Key::new(
        "backpressure.recovery_ms",
        int(0, 3_600_000, "ms, 0 = at once"),
        "How long the share takes to grow back to the whole when the pressure is over.",
    )
    .default_to("5000")
    .reloadable(),
];
