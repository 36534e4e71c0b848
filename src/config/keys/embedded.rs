//! The keys of `[embedded]`.

use super::{BOOL, MIB, Section, int};
use crate::config::key::Key;

pub(super) static SECTION: Section = Section {
    name: "embedded",
    heading: "The broker inside the process, used when no NATS is configured.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    Key::new("embedded.demo", BOOL, "Whether the built-in demo responders answer.").default_to("true"),
    Key::new("embedded.tick_ms", int(10, 3_600_000, "ms"), "Interval of the demo's ticking subject.")
        .default_to("1000"),
    Key::new(
        "embedded.subscription_capacity",
        int(16, 1_048_576, "messages"),
        "Messages queued per subscription.",
    )
    .default_to("1024"),
    Key::new("embedded.payload_bytes_max", int(1024, 64 * MIB, "bytes"), "Largest payload the broker takes.")
        .default_to("8388608"),
];
