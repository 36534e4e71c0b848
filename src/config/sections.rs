//! The typed settings of each section: what the program reads.
//!
//! Plain structs with public fields and no logic: every value was checked before one of them exists, so
//! whoever gets one needs no error path. The fields carry the names of the keys, without units where the type
//! has them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use contract::Marks;

use super::resolved::Resolved;
use crate::load::{LoadSettings, chargeable};
use crate::route::Rate;
use crate::telemetry::{LogFormat, LogSettings};

/// `[ipc]`: the Unix socket door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipc {
    /// Whether it is offered.
    pub enabled: bool,
    /// The socket file.
    pub path: PathBuf,
    /// Its mode, 0 to 0o777.
    pub mode: u32,
    /// Connections at one time.
    pub connections_max: usize,
    /// Requests in flight per connection, 1 to 4096.
    pub in_flight_max: usize,
    /// Streams per connection.
    pub streams_max: usize,
    /// Read buffers kept ready, 0 to 128.
    pub buffer_pool_size: usize,
    /// Bytes of a read buffer, 512 to 65536.
    pub buffer_bytes: usize,
    /// How long a frame's header may take, from its first byte.
    pub header_timeout: Duration,
    /// How long the rest of a frame may take.
    pub body_timeout: Duration,
    /// How long a peer may take nothing of what is written to it.
    pub write_timeout: Duration,
    /// Waiting replies of one connection, in bytes, at which reading from it stops.
    pub write_queue_bytes_max: usize,
    /// Users that may connect. Both lists empty: the gateway's own user and root.
    pub allow_uids: Vec<u32>,
    /// Groups that may connect.
    pub allow_gids: Vec<u32>,
    /// Whether a version 1 body that says `"ok": false` leaves as an error frame.
    pub failed_as_error: bool,
}

/// The backend that the settings select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The broker inside the process.
    Embedded,
    /// The pool of connections to NATS.
    Nats,
}

/// `[embedded]`: the broker inside the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Whether the demo responders answer.
    pub demo: bool,
    /// Interval of the demo's ticking subject.
    pub tick: Duration,
    /// Messages queued per subscription.
    pub subscription_capacity: usize,
    /// Largest payload in bytes.
    pub payload_bytes_max: usize,
}

/// `[hub]`: fan-out. What a listener's queue may hold is in the routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// How long a pattern without listeners is kept.
    pub linger: Duration,
    /// How long the backend may take to open a subscription.
    pub open_timeout: Duration,
    /// Patterns subscribed at one time.
    pub patterns_max: usize,
}

/// `[limits]`: limits over all doors.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Default deadline.
    pub timeout: Duration,
    /// Longest deadline.
    pub timeout_max: Duration,
    /// Largest payload in bytes.
    pub payload_bytes_max: usize,
    /// Memory, and the slow start after a trouble.
    pub load: LoadSettings,
    /// Connections at one time that have not said yet what they want.
    pub handshakes_max: usize,
    /// Requests in progress in all.
    pub calls_max: usize,
    /// Open streams in all.
    pub streams_max: usize,
    /// Rate over all peers; `None`: no limit.
    pub rate: Option<Rate>,
    /// Rate of one peer; `None`: no limit.
    pub peer_rate: Option<Rate>,
    /// Peers whose rate is remembered.
    pub peers_max: usize,
    /// Whether the peers' rate holds for local peers too.
    pub peer_rate_local: bool,
}

/// `[admin]`: health, readiness and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Whether it is offered.
    pub enabled: bool,
    /// Address and port; port 0 is any free one.
    pub address: SocketAddr,
    /// Host names allowed besides localhost and the address.
    pub hosts: Vec<String>,
    /// Connections at one time.
    pub connections_max: usize,
}

impl Ipc {
    pub(super) fn from_resolved(settings: &Resolved) -> Self {
        let mode =
            u32::from_str_radix(settings.text("ipc.mode"), 8).expect("the kind allows octal digits only");
        Self {
            enabled: settings.bool("ipc.enabled"),
            path: settings.text("ipc.path").into(),
            mode,
            connections_max: settings.int("ipc.connections_max"),
            in_flight_max: settings.int("ipc.in_flight_max"),
            streams_max: settings.int("ipc.streams_max"),
            buffer_pool_size: settings.int("ipc.buffer_pool_size"),
            buffer_bytes: settings.int("ipc.buffer_bytes"),
            header_timeout: settings.millis("ipc.header_timeout_ms"),
            body_timeout: settings.millis("ipc.body_timeout_ms"),
            write_timeout: settings.millis("ipc.write_timeout_ms"),
            write_queue_bytes_max: settings.int("ipc.write_queue_bytes_max"),
            allow_uids: settings.ids("ipc.allow_uids"),
            allow_gids: settings.ids("ipc.allow_gids"),
            failed_as_error: settings.bool("ipc.failed_as_error"),
        }
    }
}

impl Backend {
    pub(super) fn from_resolved(settings: &Resolved) -> Self {
        match settings.text("backend.kind") {
            "nats" => Self::Nats,
            // Set but not readable counts: such a configuration means NATS.
            "auto" if settings.setting("nats.urls").value().is_none() => Self::Nats,
            "auto" if !settings.list("nats.urls").is_empty() => Self::Nats,
            _ => Self::Embedded,
        }
    }
}

impl Embedded {
    pub(super) fn from_resolved(settings: &Resolved) -> Self {
        Self {
            demo: settings.bool("embedded.demo"),
            tick: settings.millis("embedded.tick_ms"),
            subscription_capacity: settings.int("embedded.subscription_capacity"),
            payload_bytes_max: settings.int("embedded.payload_bytes_max"),
        }
    }
}

impl Hub {
    pub(super) fn from_resolved(settings: &Resolved) -> Self {
        Self {
            linger: settings.millis("hub.linger_ms"),
            open_timeout: settings.millis("hub.open_timeout_ms"),
            patterns_max: settings.int("hub.patterns_max"),
        }
    }
}

impl Limits {
    pub(super) fn from_resolved(settings: &Resolved) -> Self {
        Self {
            timeout: settings.millis("limits.timeout_ms"),
            timeout_max: settings.millis("limits.timeout_ms_max"),
            payload_bytes_max: settings.int("limits.payload_bytes_max"),
            load: LoadSettings {
                process_bytes_max: settings.int("limits.memory_bytes_max"),
                memory_bytes_max: chargeable(
                    settings.int("limits.memory_bytes_max"),
                    settings.int("idempotency.bytes_max"),
                    settings.int("limits.peers_max"),
                ),
                marks: Marks {
                    short: settings.int("limits.memory_short_percent"),
                    low: settings.int("limits.memory_low_percent"),
                    high: settings.int("limits.memory_high_percent"),
                },
                slow_start: settings.millis("limits.slow_start_ms"),
            },
            handshakes_max: settings.int("limits.handshakes_max"),
            calls_max: settings.int("limits.calls_max"),
            streams_max: settings.int("limits.streams_max"),
            rate: rate(settings, "limits.rate_per_second", "limits.rate_burst"),
            peer_rate: rate(settings, "limits.peer_rate_per_second", "limits.peer_rate_burst"),
            peers_max: settings.int("limits.peers_max"),
            peer_rate_local: settings.bool("limits.peer_rate_local"),
        }
    }
}

impl Admin {
    pub(super) fn from_resolved(settings: &Resolved) -> Self {
        let address: IpAddr =
            settings.text("admin.address").parse().expect("the kind allows IP addresses only");
        Self {
            enabled: settings.bool("admin.enabled"),
            address: SocketAddr::new(address, settings.int("admin.port")),
            hosts: settings.texts("admin.hosts"),
            connections_max: settings.int("admin.connections_max"),
        }
    }
}

/// A rate that is not 0 with its burst.
pub(super) fn rate(settings: &Resolved, rate: &str, burst: &str) -> Option<Rate> {
    let per_second = Some(settings.int::<u32>(rate)).filter(|rate| *rate > 0)?;
    let burst = Some(settings.int(burst)).filter(|burst| *burst > 0).unwrap_or(per_second);
    Some(Rate { per_second: per_second.into(), burst })
}

/// `[log]`.
pub(super) fn log(settings: &Resolved) -> LogSettings {
    let format = match settings.text("log.format") {
        "human" => LogFormat::Human,
        "json" => LogFormat::Json,
        _ => LogFormat::Auto,
    };
    LogSettings { level: settings.text("log.level").to_owned(), format }
}
