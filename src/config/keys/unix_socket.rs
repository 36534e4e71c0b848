//! The keys of `[ipc]`.

use super::{BOOL, MIB, Section, TIMEOUT_MS, int};
use crate::config::key::{Key, same};
use crate::config::value::Kind;

pub(super) static SECTION: Section = Section {
    name: "ipc",
    heading: "The Unix socket door: frames of versions 1 and 2, and raw JSON.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    Key::new("ipc.enabled", BOOL, "Whether the Unix socket is offered.")
        .default_to("true")
        .old(&[same("CGW_IPC_ENABLE")]),
    Key::new("ipc.path", Kind::Path, "Where the socket is created.")
        .default_to("/tmp/beamline-gateway.sock")
        .old(&[same("IPC_SOCKET_PATH"), same("CGW_IPC_SOCKET_PATH")]),
    Key::new("ipc.mode", Kind::Mode, "The mode of the socket file.").default_to("0600"),
    Key::new(
        "ipc.connections_max",
        int(1, 1_000_000, "connections"),
        "Connections at one time; one more gets an error frame and is closed.",
    )
    .default_to("1024")
    .old(&[same("CGW_IPC_MAX_CONNECTIONS")]),
    Key::new(
        "ipc.in_flight_max",
        int(1, 4096, "requests"),
        "Requests that one connection may have in flight; at this number reading from it stops.",
    )
    .default_to("256"),
    Key::new("ipc.streams_max", int(1, 4096, "streams"), "Streams that one connection may have open.")
        .default_to("64"),
    Key::new(
        "ipc.buffer_pool_size",
        int(0, 128, "buffers"),
        "Read buffers kept ready. Idle connections hold none.",
    )
    .default_to("32")
    .old(&[same("BUFFER_POOL_SIZE")]),
    Key::new("ipc.buffer_bytes", int(512, 65_536, "bytes"), "Size of a read buffer.")
        .default_to("4096")
        .old(&[same("BUFFER_SIZE")]),
    Key::new(
        "ipc.header_timeout_ms",
        TIMEOUT_MS,
        "How long the six bytes of a frame's header may take, from its first byte.",
    )
    .default_to("5000"),
    Key::new(
        "ipc.body_timeout_ms",
        TIMEOUT_MS,
        "How long the rest of a frame, or one raw JSON document, may take.",
    )
    .default_to("30000"),
    Key::new(
        "ipc.write_timeout_ms",
        TIMEOUT_MS,
        "How long a client may take nothing of what is written to it; then the connection is dropped.",
    )
    .default_to("30000"),
    Key::new(
        "ipc.write_queue_bytes_max",
        int(64 * 1024, 1024 * MIB, "bytes"),
        "Replies waiting to be read by one peer; at this number reading from it stops.",
    )
    .default_to("8388608"),
    Key::new(
        "ipc.allow_uids",
        Kind::List(&Kind::Id),
        "Users that may connect, by number. With both lists empty: the gateway's own user and root.",
    )
    .default_to("[]"),
    Key::new(
        "ipc.allow_gids",
        Kind::List(&Kind::Id),
        "Groups that may connect, by number; what counts is the effective group of the process.",
    )
    .default_to("[]"),
    Key::new(
        "ipc.failed_as_error",
        BOOL,
        "Whether a version 1 reply whose body says \"ok\": false leaves as an error frame (0x11) instead \
         of RESPONSE_OK with that body.",
    )
    .default_to("false"),
];
