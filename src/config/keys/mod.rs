//! Every setting, declared once: its name, kind, range, default, old names and description.
//!
//! All else is derived from this list: reading the file, the environment and flags, the checks of ranges, the
//! `config` output, the JSON Schema and `config/gateway.toml`. So a setting cannot be known to one of them
//! and unknown to another. A section is one file here and one line in [`SECTIONS`].

mod admin;
mod backend;
mod backpressure;
pub(super) mod breaker;
mod concurrency;
mod drain;
mod embedded;
mod grpc_door;
mod http;
mod hub;
pub(super) mod idempotency;
mod identity;
mod limits;
mod log;
mod metrics;
mod nats;
mod program;
mod reload;
pub(super) mod retry;
mod unix_socket;
mod web_socket;

use super::key::Key;
use super::value::Kind;

/// One section of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// Its name; empty for what stands at the top of the file.
    pub(super) name: &'static str,
    /// What it is about, for people.
    pub(super) heading: &'static str,
    /// Its keys, in the order of the file.
    pub(super) keys: &'static [Key],
}

/// The sections in the order of the file.
pub(super) static SECTIONS: &[&Section] = &[
    &program::SECTION,
    &unix_socket::SECTION,
    &http::SECTION,
    &web_socket::SECTION,
    &grpc_door::SECTION,
    &backend::SECTION,
    &nats::SECTION,
    &embedded::SECTION,
    &hub::SECTION,
    &identity::SECTION,
    &limits::SECTION,
    &breaker::SECTION,
    &retry::SECTION,
    &concurrency::SECTION,
    &backpressure::SECTION,
    &idempotency::SECTION,
    &admin::SECTION,
    &drain::SECTION,
    &reload::SECTION,
    &log::SECTION,
    &metrics::SECTION,
];

/// All settings outside `[routes.*]`, in the order of the file.
pub fn keys() -> impl Iterator<Item = &'static Key> + Clone {
    SECTIONS.iter().flat_map(|section| section.keys)
}

const fn int(min: u64, max: u64, unit: &'static str) -> Kind {
    Kind::Int { min, max, unit }
}

const MIB: u64 = 1024 * 1024;
const BOOL: Kind = Kind::Bool;

/// The bounds of every deadline of a request, in milliseconds: below, a busy scheduler alone can miss it;
/// above, a request is better a stream.
pub(super) const TIMEOUT_MS: Kind = int(100, 300_000, "ms");

/// A rate; shared with the routes.
pub(super) const RATE: Kind = int(0, 10_000_000, "a second, 0 = no limit");
/// What a rate's bucket holds; shared with the routes.
pub(super) const BURST: Kind = int(0, 10_000_000, "requests, 0 = the same as the rate");

/// A share that never counts if it is 0; shared with the routes.
pub(super) const PERCENT: Kind = int(0, 100, "percent, 0 = never");

/// Messages that one listener's queue may hold; shared with the routes.
pub(super) const QUEUE_MESSAGES: Kind = int(1, 1_048_576, "messages");
/// Bytes that one listener's queue may hold; shared with the routes. The newest message is kept in any case.
pub(super) const QUEUE_BYTES: Kind = int(1024, 1024 * MIB, "bytes");
