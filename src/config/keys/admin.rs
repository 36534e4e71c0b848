//! The keys of `[admin]`.

use super::{BOOL, Section, int};
use crate::config::key::{Key, same};
use crate::config::value::Kind;

pub(super) static SECTION: Section =
    Section { name: "admin", heading: "The listener for health, readiness and metrics.", keys: KEYS };

const KEYS: &[Key] = &[
    Key::new("admin.enabled", BOOL, "Whether the listener is offered.").default_to("true"),
    Key::new(
        "admin.address",
        Kind::Address,
        "The address it binds. Anything but loopback needs allow_anonymous_network = true.",
    )
    .default_to("127.0.0.1"),
    Key::new("admin.port", int(0, 65_535, "0 = any free one"), "Its TCP port.")
        .default_to("8080")
        .old(&[same("GATEWAY_PORT")]),
    Key::new(
        "admin.hosts",
        Kind::List(&Kind::Host),
        "Host names that requests may use besides localhost and IP addresses; * allows every name.",
    )
    .default_to("[]"),
    Key::new("admin.connections_max", int(1, 65_536, "connections"), "Connections at one time.")
        .default_to("64"),
];
