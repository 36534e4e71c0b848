//! The keys of `[identity]`.

use super::Section;
use crate::config::key::Key;
use crate::config::value::Kind;

pub(super) static SECTION: Section =
    Section { name: "identity", heading: "Who peers are taken for.", keys: KEYS };

const KEYS: &[Key] = &[Key::new(
    "identity.default_tenant",
    Kind::Text,
    "Tenant of peers that no credential gives one: local and anonymous ones. Profiles write it into bodies, \
     idempotency keys belong to it, and REST routes compare what a request says with it.",
)
.default_to("default_tenant")
.reloadable()];
