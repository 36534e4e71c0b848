//! The keys of `[websocket]`.

use super::{BOOL, MIB, Section, TIMEOUT_MS, int};
use crate::config::key::Key;

pub(super) static SECTION: Section = Section {
    name: "websocket",
    heading: "WebSockets, at /ws on the port of the HTTP door, for its hosts and origins.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    Key::new("websocket.enabled", BOOL, "Whether WebSockets are offered; they need http.enabled.")
        .default_to("true"),
    Key::new(
        "websocket.connections_max",
        int(1, 1_000_000, "connections"),
        "WebSockets at one time; one more is answered 503. They count for http.connections_max too.",
    )
    .default_to("20000"),
    Key::new(
        "websocket.in_flight_max",
        int(1, 4096, "requests"),
        "Requests that one WebSocket may have in flight; at this number reading from it stops.",
    )
    .default_to("256"),
    Key::new(
        "websocket.streams_max",
        int(1, 4096, "streams"),
        "Subscriptions that one WebSocket may have open.",
    )
    .default_to("256"),
    Key::new(
        "websocket.message_bytes_max",
        int(8192, 64 * MIB, "bytes"),
        "Largest message, in all its fragments, in both directions; a larger one closes with 1009.",
    )
    .default_to("4194304"),
    Key::new(
        "websocket.fragments_max",
        int(16, 1_000_000, "fragments"),
        "Fragments of one message; more of them close with 1008.",
    )
    .default_to("4096"),
    Key::new("websocket.message_timeout_ms", TIMEOUT_MS, "How long one message may take to arrive.")
        .default_to("30000"),
    Key::new(
        "websocket.pings_per_second_max",
        int(1, 10_000, "pings"),
        "Pings and pongs that a client may send in a second; more of them close with 1008.",
    )
    .default_to("20"),
    Key::new(
        "websocket.ping_interval_ms",
        int(100, 3_600_000, "ms"),
        "How often a client is pinged; who is silent until the next ping is due is closed on with 4408.",
    )
    .default_to("25000"),
    Key::new(
        "websocket.write_queue_bytes_max",
        int(64 * 1024, 1024 * MIB, "bytes"),
        "Answers waiting to be read by one client; at this number reading from it stops.",
    )
    .default_to("1048576"),
    Key::new(
        "websocket.write_timeout_ms",
        TIMEOUT_MS,
        "How long a client may take nothing of what is written to it; then the connection is dropped.",
    )
    .default_to("30000"),
];
