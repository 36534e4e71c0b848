//! The typed settings of the pool of connections to NATS.
//!
//! The kinds of credentials are one enum, so that two of them at once cannot be written down.

use std::path::PathBuf;
use std::time::Duration;

use super::nats_url::NatsUrl;
use super::resolved::Resolved;
use super::secret::Secret;
use super::value::Value;

/// `[nats]`: the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nats {
    /// Servers of one cluster; at least one where [`Backend::Nats`](super::Backend::Nats) is selected.
    pub urls: Vec<NatsUrl>,
    /// Connections kept open, at least 1 and at most `pool_connections_max`.
    pub pool_connections_min: usize,
    /// Connections opened under load.
    pub pool_connections_max: usize,
    /// Mean of messages in flight per connection above which the pool grows.
    pub in_flight_per_connection: usize,
    /// How long a connection above the minimum may be idle.
    pub idle_shrink: Duration,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// Attempts to reconnect; `None` is endless.
    pub reconnect_attempts_max: Option<usize>,
    /// Longest wait between two attempts.
    pub reconnect_delay_max: Duration,
    /// How often a connection is probed.
    pub ping_interval: Duration,
    /// First tokens of the reply subjects, without a dot at the end.
    pub inbox_prefix: String,
    /// Requests of one connection that may wait for an answer.
    pub inbox_slots_max: usize,
    /// Messages queued per subscription.
    pub subscription_capacity: usize,
    /// Commands queued per connection.
    pub publish_queue: usize,
    /// Bytes queued per connection.
    pub publish_queue_bytes_max: usize,
    /// Who the gateway is to the server; addresses may hold credentials of their own instead.
    pub credentials: Credentials,
    /// TLS.
    pub tls: NatsTls,
}

/// Who the gateway is to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody, or what the addresses say.
    None,
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// The seed of an nkey.
    Nkey(Secret),
    /// A `.creds` file.
    File(PathBuf),
}

/// TLS to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsTls {
    /// Whether a connection without TLS is refused.
    pub required: bool,
    /// Whether the handshake comes before the server's greeting.
    pub first: bool,
    /// Certificates to check the server's against, PEM; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// The gateway's own certificate with its key, both PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Nats {
    pub(super) fn from_resolved(settings: &Resolved) -> Self {
        let url = |value: &Value| match value {
            Value::Url(url) => url.clone(),
            other => unreachable!("nats.urls is a list of addresses, not {other:?}"),
        };
        Self {
            urls: settings.list("nats.urls").iter().map(url).collect(),
            pool_connections_min: settings.int("nats.pool_connections_min"),
            pool_connections_max: settings.int("nats.pool_connections_max"),
            in_flight_per_connection: settings.int("nats.in_flight_per_connection"),
            idle_shrink: settings.millis("nats.idle_shrink_ms"),
            connect_timeout: settings.millis("nats.connect_timeout_ms"),
            reconnect_attempts_max: settings.int_if_set("nats.reconnect_attempts_max").filter(|max| *max > 0),
            reconnect_delay_max: settings.millis("nats.reconnect_delay_ms_max"),
            ping_interval: settings.millis("nats.ping_interval_ms"),
            inbox_prefix: settings.text("nats.inbox_prefix").to_owned(),
            inbox_slots_max: settings.int("nats.inbox_slots_max"),
            subscription_capacity: settings.int("nats.subscription_capacity"),
            publish_queue: settings.int("nats.publish_queue"),
            publish_queue_bytes_max: settings.int("nats.publish_queue_bytes_max"),
            credentials: Credentials::from_resolved(settings),
            tls: NatsTls::from_resolved(settings),
        }
    }
}

impl Credentials {
    fn from_resolved(settings: &Resolved) -> Self {
        let user = settings.text_if_set("nats.user").map(str::to_owned);
        if let Some((user, password)) = user.zip(settings.secret_if_set("nats.password")) {
            Self::Password { user, password }
        } else if let Some(token) = settings.secret_if_set("nats.token") {
            Self::Token(token)
        } else if let Some(seed) = settings.secret_if_set("nats.nkey_seed") {
            Self::Nkey(seed)
        } else {
            settings.path_if_set("nats.credentials_file").map_or(Self::None, Self::File)
        }
    }
}

impl NatsTls {
    fn from_resolved(settings: &Resolved) -> Self {
        let certificate = settings.path_if_set("nats.tls_certificate_file");
        Self {
            required: settings.bool("nats.tls"),
            first: settings.bool("nats.tls_first"),
            ca_file: settings.path_if_set("nats.tls_ca_file"),
            identity: certificate.zip(settings.path_if_set("nats.tls_key_file")),
        }
    }
}
