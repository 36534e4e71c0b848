//! The keys of `[idempotency]`.

use super::{MIB, Section, int};
use crate::config::key::Key;
use crate::config::value::Kind;

pub(super) static SECTION: Section = Section {
    name: "idempotency",
    heading: "Requests and publishes that their peer sends under an idempotency key, on routes that look at keys: \
              executed once, and answered with what came of it.",
    keys: KEYS,
};

/// How long an answer is kept; shared with the routes.
pub(in crate::config) const WINDOW_MS: Kind = int(1000, 86_400_000, "ms");

const STORES: &[&str] = &["memory", "nats_kv"];
const WHEN_UNAVAILABLE: &[&str] = &["refuse", "execute"];

const KEYS: &[Key] = &[
    Key::new("idempotency.window_ms", WINDOW_MS, "How long an answer is kept. Routes may differ.")
        .default_to("600000"),
    Key::new(
        "idempotency.entries_max",
        int(1, 10_000_000, "keys"),
        "Keys that this process knows at one time. The oldest answer goes first; what is being executed stays.",
    )
    .default_to("65536")
    .reloadable(),
    Key::new(
        "idempotency.bytes_max",
        int(4096, 16 * 1024 * MIB, "bytes"),
        "Memory of the answers that are kept, 512 bytes for each included. One that is larger is not kept.",
    )
    .default_to("33554432")
    .reloadable(),
    Key::new(
        "idempotency.store",
        Kind::Choice(STORES),
        "Who knows the keys. memory: this process alone; nats_kv: every gateway with the same bucket, so that a \
         client may come back to another one.",
    )
    .default_to("memory"),
    Key::new(
        "idempotency.bucket",
        Kind::Text,
        "Key-value bucket of JetStream for nats_kv: letters, digits, - and _. It is made if it is not there, with the \
         longest window of all routes.",
    )
    .default_to("ipc_gateway_idempotency"),
    Key::new(
        "idempotency.bucket_bytes_max",
        int(65_536, 1024 * 1024 * MIB, "bytes"),
        "Largest size of the bucket when it is made. A full one takes nothing new.",
    )
    .default_to("268435456"),
    Key::new("idempotency.bucket_replicas", int(1, 5, "servers"), "Servers that keep the bucket when it is made.")
        .default_to("1"),
    Key::new(
        "idempotency.when_unavailable",
        Kind::Choice(WHEN_UNAVAILABLE),
        "What becomes of requests with keys while the bucket cannot be reached. refuse: nothing is executed twice; \
         execute: each gateway executes a key once.",
    )
    .default_to("refuse"),
    Key::new(
        "idempotency.lease_ms",
        int(500, 600_000, "ms"),
        "After what time without word a gateway that executes is taken for dead, and another executes. Clocks have \
         to differ by less.",
    )
    .default_to("10000"),
    Key::new(
        "idempotency.store_timeout_ms",
        int(10, 60_000, "ms"),
        "How long the bucket may take for one thing.",
    )
    .default_to("1000"),
];
