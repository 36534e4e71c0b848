//! The keys of `[drain]`.

use super::{Section, int};
use crate::config::key::Key;

pub(super) static SECTION: Section = Section { name: "drain", heading: "Stopping.", keys: KEYS };

const KEYS: &[Key] = &[
    Key::new(
        "drain.pause_ms",
        int(0, 3_600_000, "ms"),
        "How long everybody is served on after the signal to stop while readiness is false already, so that load \
         balancers look elsewhere.",
    )
    .default_to("0"),
    Key::new(
        "drain.grace_ms",
        int(0, 3_600_000, "ms"),
        "How long work in flight may take after that.",
    )
    .default_to("30000"),
    Key::new(
        "drain.spread_ms",
        int(0, 3_600_000, "ms, at most half of drain.grace_ms counts"),
        "Over how long clients are told goodbye, each at a moment of its own, and over how long they are asked to \
         come back. It takes 5 ms a client if that is shorter.",
    )
    .default_to("5000"),
];
