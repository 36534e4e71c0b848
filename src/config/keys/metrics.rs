//! The keys of `[metrics]`.

use super::{BOOL, Section};
use crate::config::key::Key;

pub(super) static SECTION: Section =
    Section { name: "metrics", heading: "The numbers on the admin listener.", keys: KEYS };

const KEYS: &[Key] = &[Key::new(
    "metrics.old_names",
    BOOL,
    "Whether the predecessor's metric names are offered beside the new ones.",
)
.default_to("true")];
