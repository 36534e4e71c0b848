//! The keys of `[backend]`.

use super::Section;
use crate::config::key::{Key, OldName};
use crate::config::value::Kind;

pub(super) static SECTION: Section =
    Section { name: "backend", heading: "What is behind the rules.", keys: KEYS };

const KEYS: &[Key] = &[Key::new(
    "backend.kind",
    Kind::Choice(&["auto", "embedded", "nats"]),
    "auto is nats when nats.urls names a server, and embedded otherwise. nats without an address is \
         an error: set it in production.",
)
.default_to("auto")
.old(&[OldName { name: "CGW_IPC_NATS_ENABLE", switch: Some(("embedded", "nats")) }])];
