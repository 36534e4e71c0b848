//! Configuration: from flags, environment, file and defaults to one typed [`Config`], or to all that is
//! wrong.
//!
//! Each setting is declared once, in `keys`, `route_keys` and `rest_keys`; everything else follows from that list:
//! reading, checking, showing, the JSON Schema and `config/gateway.toml`. The way of a value:
//!
//! ```text
//! Sources ─ file ─────────┐
//!         ─ environment ──┼─▶ candidates ─▶ Resolved ─▶ checks ─▶ Config
//!         ─ flags ────────┘   (parsed by    (one value   (across   (typed, no
//!                              their kind)   a key)       keys)     error left)
//! ```

mod candidate;
mod checks;
mod defaults;
mod environment;
mod family;
mod file;
mod grpc_door;
mod http;
mod idempotency;
mod key;
mod keys;
mod nats;
mod nats_url;
mod problem;
mod reload;
mod resolved;
mod rest;
mod rest_keys;
mod route_keys;
mod route_rules;
mod routes;
mod schema;
mod secret;
mod sections;
mod sources;
#[cfg(test)]
mod tests;
mod unused;
mod value;
mod web_socket;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::route::RouteSettings;
use crate::telemetry::LogSettings;

pub use defaults::defaults;
pub use environment::{Environment, environment};
pub use grpc_door::Grpc;
pub use http::Http;
pub use idempotency::{Bucket, Idempotency};
pub use key::{Key, OldName};
pub use keys::keys;
pub use nats::{Credentials, Nats, NatsTls};
pub use nats_url::NatsUrl;
pub use problem::{Problem, Problems, Source};
pub use reload::{Change, Reloaded};
pub use resolved::{Resolved, Setting};
pub use rest::{Rest, RestErrors};
pub use route_keys::ROUTE_KEYS;
pub use schema::schema;
pub use secret::Secret;
pub use sections::{Admin, Backend, Embedded, Hub, Ipc, Limits};
pub use sources::{Flag, MissingFiles, Sources};
pub use value::{Kind, Value};
pub use web_socket::WebSocket;

/// All settings, typed and checked. `Debug` shows no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Whether listeners without authentication may be bound to more than loopback.
    pub allow_anonymous_network: bool,
    /// The Unix socket door.
    pub ipc: Ipc,
    /// The HTTP door.
    pub http: Http,
    /// WebSockets on its port.
    pub websocket: WebSocket,
    /// The gRPC door.
    pub grpc: Grpc,
    /// The backend that is selected.
    pub backend: Backend,
    /// The pool of connections to NATS.
    pub nats: Nats,
    /// The broker inside the process.
    pub embedded: Embedded,
    /// Fan-out of subscriptions.
    pub hub: Hub,
    /// Limits over all doors.
    pub limits: Limits,
    /// What is kept of requests with keys.
    pub idempotency: Idempotency,
    /// The admin listener.
    pub admin: Admin,
    /// How long everybody is served on after the signal to stop, with readiness false.
    pub drain_pause: Duration,
    /// How long work in flight may take after that.
    pub drain_grace: Duration,
    /// Over how long clients leave and come back: at most half of the grace, so that what is in flight when the last
    /// is told has the other half.
    pub drain_spread: Duration,
    /// How often to look for another configuration file; `None`: never.
    pub reload_watch: Option<Duration>,
    /// The log.
    pub log: LogSettings,
    /// Whether the predecessor's metric names are offered beside the new ones.
    pub metrics_old_names: bool,
    /// The tenant of peers that no credential gives one.
    pub default_tenant: Arc<str>,
    /// The routes by name, in alphabetical order; never empty.
    pub routes: Vec<RouteSettings>,
    /// The REST routes by name, in alphabetical order.
    pub rest: Vec<Rest>,
    /// The forms of their errors by name, in alphabetical order.
    pub rest_errors: Vec<RestErrors>,
}

/// A configuration that was loaded, with what can be told about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the program runs on.
    pub config: Config,
    /// Each setting with its value and where it came from.
    pub resolved: Resolved,
    /// What is not wrong but should be known; one sentence each, without secrets.
    pub warnings: Vec<String>,
    /// The file that was read; `None` if there was none.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads, weighs and checks all sources. Fails with every problem that was found, not with the first.
    pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
        let mut outcome = sources.resolve();
        // Without the file's settings every contradiction would be a guess.
        if !outcome.file_unreadable {
            let checks = checks::Checks::run(&outcome.resolved);
            let (contradictions, more_warnings) = (checks.problems, checks.warnings);
            outcome.problems.extend(contradictions);
            outcome.warnings.extend(more_warnings);
        }
        if !outcome.problems.is_empty() {
            return Err(Problems(outcome.problems));
        }
        let config = Self::from_resolved(&outcome.resolved);
        Ok(Loaded { config, resolved: outcome.resolved, warnings: outcome.warnings, file: outcome.file })
    }

    fn from_resolved(settings: &Resolved) -> Self {
        Self {
            allow_anonymous_network: settings.bool("allow_anonymous_network"),
            ipc: Ipc::from_resolved(settings),
            http: Http::from_resolved(settings),
            websocket: WebSocket::from_resolved(settings),
            grpc: Grpc::from_resolved(settings),
            backend: Backend::from_resolved(settings),
            nats: Nats::from_resolved(settings),
            embedded: Embedded::from_resolved(settings),
            hub: Hub::from_resolved(settings),
            limits: Limits::from_resolved(settings),
            idempotency: Idempotency::from_resolved(settings),
            admin: Admin::from_resolved(settings),
            drain_pause: settings.millis("drain.pause_ms"),
            drain_grace: settings.millis("drain.grace_ms"),
            drain_spread: settings.millis("drain.spread_ms").min(settings.millis("drain.grace_ms") / 2),
            reload_watch: Some(settings.millis("reload.watch_ms")).filter(|pause| !pause.is_zero()),
            log: sections::log(settings),
            metrics_old_names: settings.bool("metrics.old_names"),
            default_tenant: settings.text("identity.default_tenant").into(),
            routes: settings.routes().iter().map(|name| routes::route(settings, name)).collect(),
            rest: settings.tables("rest").iter().map(|name| Rest::from_resolved(settings, name)).collect(),
            rest_errors: settings
                .tables("rest_errors")
                .iter()
                .map(|name| RestErrors::from_resolved(settings, name))
                .collect(),
        }
    }
}

/// The defaults alone, with no file and no environment.
impl Default for Config {
    fn default() -> Self {
        let sources = Sources { usual_files: Vec::new(), ..Sources::default() };
        Self::from_resolved(&sources.resolve().resolved)
    }
}
