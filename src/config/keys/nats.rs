//! The keys of `[nats]`.

use super::{BOOL, MIB, Section, TIMEOUT_MS, int};
use crate::config::key::{Key, same};
use crate::config::value::Kind;

pub(super) static SECTION: Section = Section {
    name: "nats",
    heading: "The pool of connections to NATS. Give one kind of credential at most.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    Key::new(
        "nats.urls",
        Kind::List(&Kind::Url),
        "Servers of one cluster. An address that cannot be parsed is an error.",
    )
    .default_to("[]")
    .old(&[same("NATS_URL"), same("CGW_IPC_NATS_URL")]),
    Key::new("nats.pool_connections_min", int(1, 256, "connections"), "Connections kept open.")
        .default_to("2")
        .old(&[same("NATS_POOL_MIN_CONNECTIONS")]),
    Key::new("nats.pool_connections_max", int(1, 256, "connections"), "Connections opened under load.")
        .default_to("10")
        .old(&[same("NATS_POOL_MAX_CONNECTIONS")]),
    Key::new(
        "nats.in_flight_per_connection",
        int(1, 65_536, "requests"),
        "The pool grows while the mean of requests in flight per connection is above this. A Unix-socket client \
         of version 1 keeps to one connection; when that one has more than this in flight, the client moves to one \
         with at most half as many as soon as nothing of its own is on its way.",
    )
    .default_to("128"),
    Key::new(
        "nats.idle_shrink_ms",
        int(1000, 86_400_000, "ms"),
        "How long a connection above the minimum may be idle before it is closed.",
    )
    .default_to("60000"),
    Key::new("nats.connect_timeout_ms", TIMEOUT_MS, "How long one attempt to connect may take.")
        .default_to("5000"),
    Key::new(
        "nats.reconnect_attempts_max",
        int(0, 1_000_000, "attempts, 0 = endless"),
        "Attempts to reconnect before a connection gives up.",
    )
    .default_to("0"),
    Key::new(
        "nats.reconnect_delay_ms_max",
        int(10, 300_000, "ms"),
        "Longest wait between two attempts; the wait is random below it.",
    )
    .default_to("5000"),
    Key::new("nats.ping_interval_ms", int(100, 300_000, "ms"), "How often a connection is probed.")
        .default_to("10000"),
    Key::new("nats.inbox_prefix", Kind::Prefix, "First tokens of the subjects that replies come back on.")
        .default_to("_INBOX"),
    Key::new(
        "nats.inbox_slots_max",
        int(1, 1_048_576, "requests"),
        "Requests of one connection that may wait for an answer.",
    )
    .default_to("65536"),
    Key::new(
        "nats.subscription_capacity",
        int(16, 1_048_576, "messages"),
        "Messages queued per subscription.",
    )
    .default_to("4096"),
    Key::new("nats.publish_queue", int(16, 1_048_576, "commands"), "Commands queued per connection.")
        .default_to("8192"),
    Key::new(
        "nats.publish_queue_bytes_max",
        int(64 * 1024, 1024 * MIB, "bytes"),
        "Bytes queued per connection; messages of up to 4 KiB are counted together. Above it requests are \
         refused and publishes wait.",
    )
    .default_to("16777216"),
    Key::new("nats.user", Kind::Text, "User name; needs nats.password.").example("gateway"),
    Key::new("nats.password", Kind::Secret, "Password of nats.user.").example("change me"),
    Key::new("nats.token", Kind::Secret, "Token.").example("change me"),
    Key::new("nats.nkey_seed", Kind::Secret, "Seed of an nkey, as text.").example("SU..."),
    Key::new("nats.credentials_file", Kind::Path, "A .creds file: a JWT and its seed.")
        .example("/run/secrets/gateway.creds"),
    Key::new("nats.tls", BOOL, "Whether a connection without TLS is refused.").default_to("false"),
    Key::new(
        "nats.tls_first",
        BOOL,
        "Whether the TLS handshake comes before the server's greeting; needs nats.tls.",
    )
    .default_to("false"),
    Key::new(
        "nats.tls_ca_file",
        Kind::Path,
        "Certificates (PEM) that the server's certificate is checked against, instead of the system's.",
    )
    .example("/etc/ipc-gateway/ca.pem"),
    Key::new(
        "nats.tls_certificate_file",
        Kind::Path,
        "Certificate (PEM) shown to the server; needs nats.tls_key_file.",
    )
    .example("/etc/ipc-gateway/client.pem"),
    Key::new("nats.tls_key_file", Kind::Path, "Private key (PEM) of that certificate.")
        .example("/run/secrets/client.key"),
];
