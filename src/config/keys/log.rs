//! The keys of `[log]`.

use super::Section;
use crate::config::key::{Key, same};
use crate::config::value::Kind;

pub(super) static SECTION: Section =
    Section { name: "log", heading: "The log on standard error.", keys: KEYS };

const KEYS: &[Key] = &[
    Key::new(
        "log.level",
        Kind::Filter,
        "What is logged: a level (off, error, warn, info, debug, trace), or directives such as \
         warn,ipc_gateway=debug.",
    )
    .default_to("info")
    .old(&[same("RUST_LOG")]),
    Key::new(
        "log.format",
        Kind::Choice(&["auto", "human", "json"]),
        "auto is human on a terminal and json otherwise.",
    )
    .default_to("auto"),
];
