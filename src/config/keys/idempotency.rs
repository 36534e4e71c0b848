//! The keys of `[idempotency]`.

use super::{MIB, Section, int};
use crate::config::key::Key;
use crate::config::value::Kind;

pub(super) static SECTION: Section = Section {
    name: "idempotency",
    heading: "Requests and publishes that their peer sends under an idempotency key, on routes that look at keys: \
              executed once, and answered with what came of it.",
    keys: KEYS,
};

/// How long an answer is kept; shared with the routes.
pub(in crate::config) const WINDOW_MS: Kind = int(1000, 86_400_000, "ms");

const KEYS: &[Key] = &[
    Key::new("idempotency.window_ms", WINDOW_MS, "How long an answer is kept. Routes may differ.")
        .default_to("600000"),
    Key::new(
        "idempotency.entries_max",
        int(1, 10_000_000, "keys"),
        "Keys that this process knows at one time. The oldest answer goes first; what is being executed stays.",
    )
    .default_to("65536")
    .reloadable(),
    Key::new(
        "idempotency.bytes_max",
        int(4096, 16 * 1024 * MIB, "bytes"),
        "Memory of the answers that are kept, 512 bytes for each included. One that is larger is not kept.",
    )
    .default_to("67108864")
    .reloadable(),
];
