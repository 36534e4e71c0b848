//! The keys of `[limits]`.

use super::{BOOL, BURST, MIB, RATE, Section, TIMEOUT_MS, int};
use crate::config::key::{Key, same};
use crate::config::value::Kind;
use crate::load::PROCESS_BYTES_MIN;

pub(super) static SECTION: Section = Section {
    name: "limits",
    heading: "Limits over all doors. Work above a limit is refused at once, never queued.",
    keys: KEYS,
};

/// A share of the memory.
const SHARE: Kind = int(1, 100, "percent of what memory_bytes_max leaves for payloads, buffers and queues");

const KEYS: &[Key] = &[
    Key::new(
        "limits.timeout_ms",
        TIMEOUT_MS,
        "Deadline of a request that brings none of its own and whose route has none.",
    )
    .default_to("30000")
    .old(&[same("CGW_IPC_TIMEOUT_MS")])
    .reloadable(),
    Key::new(
        "limits.timeout_ms_max",
        TIMEOUT_MS,
        "Longest deadline that a peer may ask for; a longer one is cut to it.",
    )
    .default_to("300000"),
    Key::new(
        "limits.payload_bytes_max",
        int(1024, 64 * MIB, "bytes"),
        "Largest payload of a request; doors and servers may have lower limits of their own.",
    )
    .default_to("8388608"),
    Key::new(
        "limits.memory_bytes_max",
        int(PROCESS_BYTES_MIN, 1024 * 1024 * MIB, "bytes"),
        "Resident memory that the process stays under. What it needs for itself (24 MiB), idempotency.bytes_max and 48 \
         bytes a peer of limits.peers_max are taken off; half of the rest is for payloads, buffers, \
         queues and waiting replies of all connections together.",
    )
    .default_to("536870912"),
    Key::new(
        "limits.memory_short_percent",
        SHARE,
        "From here on the queues of clients that do not read are cut short.",
    )
    .default_to("50").reloadable(),
    Key::new("limits.memory_low_percent", SHARE, "At or below this, new work is taken again.")
        .default_to("70").reloadable(),
    Key::new(
        "limits.memory_high_percent",
        SHARE,
        "From here on new requests and connections are refused; work under way goes on.",
    )
    .default_to("85").reloadable(),
    Key::new(
        "limits.memory_unread_ms",
        TIMEOUT_MS,
        "How long a client may take nothing of what is written to it while new work is refused for want of memory; \
         then its connection is dropped.",
    )
    .default_to("2000").reloadable(),
    Key::new(
        "limits.slow_start_ms",
        int(0, 300_000, "ms, 0 = at once"),
        "How long the limits of requests at once take to grow from a tenth to all, after an outage or overload.",
    )
    .default_to("5000").reloadable(),
    Key::new(
        "limits.handshakes_max",
        int(1, 1_000_000, "connections"),
        "Connections of the HTTP and gRPC doors together that have not said yet what they want.",
    )
    .default_to("1024"),
    Key::new("limits.calls_max", int(1, 1_000_000, "requests"), "Requests in progress in all.")
        .default_to("8192").reloadable(),
    Key::new("limits.streams_max", int(1, 1_000_000, "streams"), "Open streams in all.").default_to("4096").reloadable(),
    Key::new("limits.rate_per_second", RATE, "Requests a second in all.").default_to("0").reloadable(),
    Key::new("limits.rate_burst", BURST, "Requests that may come at once above that rate.").default_to("0").reloadable(),
    Key::new("limits.peer_rate_per_second", RATE, "Requests a second of one peer.").default_to("0").reloadable(),
    Key::new("limits.peer_rate_burst", BURST, "Requests of one peer that may come at once above that rate.")
        .default_to("0").reloadable(),
    Key::new(
        "limits.peers_max",
        int(1, 16_777_216, "peers"),
        "Peers whose rate is remembered; who has nothing spent is forgotten, and beyond that newcomers share one rate.",
    )
    .default_to("65536").reloadable(),
    Key::new(
        "limits.peer_rate_local",
        BOOL,
        "Whether the peers' rate also holds for local peers, that is on the Unix socket.",
    )
    .default_to("false").reloadable(),
];
