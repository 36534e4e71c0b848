//! The keys of `[drain]`.

use super::{Section, int};
use crate::config::key::Key;

pub(super) static SECTION: Section = Section { name: "drain", heading: "Stopping.", keys: KEYS };

const KEYS: &[Key] = &[Key::new(
    "drain.grace_ms",
    int(0, 3_600_000, "ms"),
    "How long work in flight may take after the signal to stop.",
)
.default_to("30000")];
