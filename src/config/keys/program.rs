//! The keys of the whole program, which stand at the top of the file.

use super::{BOOL, Section};
use crate::config::key::Key;

pub(super) static SECTION: Section = Section { name: "", heading: "The whole program.", keys: KEYS };

const KEYS: &[Key] = &[Key::new(
    "allow_anonymous_network",
    BOOL,
    "Whether listeners without authentication may be reached from other machines. Without it only \
         loopback addresses can be bound.",
)
.default_to("false")];
