//! The keys of `[reload]`.

use super::{Section, int};
use crate::config::key::Key;

pub(super) static SECTION: Section =
    Section { name: "reload", heading: "Reading the configuration again while serving.", keys: KEYS };

const KEYS: &[Key] = &[Key::new(
    "reload.watch_ms",
    int(0, 3_600_000, "ms, 0 = not at all"),
    "How often to look whether the configuration file is another one. SIGHUP reloads in any case.",
)
.default_to("2000")];
