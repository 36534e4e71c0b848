//! From the configuration to the backends' own settings.

use std::time::Duration;

use crate::backend::{embedded, nats};
use crate::config::{self, Config};
use crate::services::idempotency::Shared;

/// The embedded broker's.
pub(super) fn embedded(config: &config::Embedded) -> embedded::Settings {
    embedded::Settings {
        payload_bytes_max: config.payload_bytes_max,
        subscription_messages_max: config.subscription_capacity,
        demo: config.demo,
        tick: config.tick,
        ..embedded::Settings::default()
    }
}

/// The NATS pool's. Addresses were checked with the configuration; whatever the library finds wrong with one
/// nevertheless is told, never taken for "no NATS".
pub(crate) fn nats(config: &Config) -> Result<nats::Settings, nats::OpenErrors> {
    let settings = &config.nats;
    let servers = settings.urls.iter().map(|url| url.expose().parse::<nats::Address>());
    let servers = servers.collect::<Result<_, _>>()?;
    let credentials = match &settings.credentials {
        config::Credentials::None => nats::Credentials::None,
        config::Credentials::Password { user, password } => {
            nats::Credentials::UserPassword { user: user.clone(), password: password.expose().to_owned() }
        }
        config::Credentials::Token(token) => nats::Credentials::Token(token.expose().to_owned()),
        config::Credentials::Nkey(seed) => nats::Credentials::NkeySeed(seed.expose().to_owned()),
        config::Credentials::File(path) => nats::Credentials::CredentialsFile(path.clone()),
    };
    let (certificate, key) = settings.tls.identity.clone().unzip();
    Ok(nats::Settings {
        servers,
        pool_min: settings.pool_connections_min,
        pool_max: settings.pool_connections_max,
        in_flight_per_connection: settings.in_flight_per_connection,
        idle_shrink: settings.idle_shrink,
        connect_timeout: settings.connect_timeout,
        reconnect_attempts_max: settings.reconnect_attempts_max.unwrap_or(0),
        reconnect_delay_max: settings.reconnect_delay_max,
        ping_interval: settings.ping_interval,
        inbox_prefix: settings.inbox_prefix.clone(),
        inbox_slots_max: settings.inbox_slots_max,
        subscription_capacity: settings.subscription_capacity,
        publish_queue: settings.publish_queue,
        publish_queue_bytes_max: settings.publish_queue_bytes_max,
        credentials,
        tls: nats::Tls {
            required: settings.tls.required,
            first: settings.tls.first,
            ca: settings.tls.ca_file.clone(),
            certificate,
            key,
        },
        ..nats::Settings::default()
    })
}

/// The longest window there is, for routes that a reload brings.
const WINDOW_MAX: Duration = Duration::from_hours(24);

/// What idempotency keys are shared by; `None` if they are not. Values are kept as long as a route may ask for them.
pub(super) fn shared(config: &Config, backend: &nats::Nats) -> Option<Shared> {
    let bucket = config.idempotency.bucket.as_ref()?;
    let windows = config.routes.iter().filter_map(|route| route.idempotency.as_ref()).map(|keys| keys.window);
    let settings = nats::BucketSettings {
        name: bucket.name.clone(),
        bytes_max: bucket.bytes_max,
        replicas: bucket.replicas,
        age_max: windows.max().unwrap_or(WINDOW_MAX),
    };
    Some(Shared::new(backend.bucket(settings), bucket.sharing))
}
