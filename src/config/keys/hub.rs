//! The keys of `[hub]`.

use super::{QUEUE_BYTES, QUEUE_MESSAGES, Section, TIMEOUT_MS, int};
use crate::config::key::Key;

pub(super) static SECTION: Section = Section {
    name: "hub",
    heading: "Fan-out: one subscription of the backend a pattern, shared by all who listen on it.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    Key::new(
        "hub.linger_ms",
        int(0, 3_600_000, "ms"),
        "How long the subscription of a pattern is kept after its last listener left.",
    )
    .default_to("5000"),
    Key::new("hub.open_timeout_ms", TIMEOUT_MS, "How long the backend may take to open a subscription.")
        .default_to("5000"),
    Key::new(
        "hub.patterns_max",
        int(1, 1_000_000, "patterns"),
        "Patterns subscribed at one time; those that nobody listens on give way first.",
    )
    .default_to("4096"),
    Key::new("hub.queue_messages_max", QUEUE_MESSAGES, "Unread messages kept for one listener.")
        .default_to("1024")
        .reloadable(),
    Key::new("hub.queue_bytes_max", QUEUE_BYTES, "Bytes of unread messages kept for one listener.")
        .default_to("8388608")
        .reloadable(),
];
