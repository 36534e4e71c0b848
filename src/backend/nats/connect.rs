//! Making a link: from an address to a connection whose inbox is in force.
//!
//! The library is given two addresses, the server's and a dead end that refuses at once (port 0 of the own
//! host, where nothing can listen), and a callback that chooses the dead end for every attempt after the
//! first. So its own reconnecting ends, with everything it queued, in the moment the connection is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{ConnectError, ConnectOptions, ReconnectToServer, ServerAddr};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::counts::Counts;
use super::inbox::Inbox;
use super::link::{Link, RoundTripError, Server};
use super::queue::Queue;
use super::settings::{Address, Credentials, Settings};
use super::signals::Signals;

/// Messages the library keeps for a subscription until its task fetches them. That task does nothing else,
/// so this is filled only when the whole process stands still; then it is told as a gap.
const UNFETCHED_MAX: usize = 65_536;

/// Why no connection was made, in words for the operator; never a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The library said no.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// Not done in time.
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    /// The credentials of the moment cannot be used.
    #[error("the credentials cannot be used: {0}")]
    Credentials(std::io::Error),
    /// Connected, but the server lets nobody hear the replies.
    #[error("the server does not permit the gateway to receive replies: see the inbox prefix")]
    Deaf,
    /// Connected, and lost again before the first round trip.
    #[error("the connection was lost at once")]
    Lost,
}

/// Connects to `address`.
pub(super) async fn connect(
    settings: &Settings,
    address: &Address,
    counts: &Arc<Counts>,
    tracker: &TaskTracker,
) -> Result<Arc<Link>, Failure> {
    let limit = settings.connect_timeout;
    timeout(limit, connect_unlimited(settings, address, counts, tracker))
        .await
        .unwrap_or(Err(Failure::TimedOut(limit)))
}

async fn connect_unlimited(
    settings: &Settings,
    address: &Address,
    counts: &Arc<Counts>,
    tracker: &TaskTracker,
) -> Result<Arc<Link>, Failure> {
    let inbox = Inbox::new(&settings.inbox_prefix, settings.inbox_slots_max, counts.clone());
    let signals = Signals::new(inbox.clone(), counts.clone());
    let heard = signals.clone();
    let options =
        options(settings, address).await.map_err(Failure::Credentials)?.event_callback(move |event| {
            heard.hear(&event);
            std::future::ready(())
        });
    let client = options.connect([address.server().clone(), dead_end()].as_slice()).await?;
    let replies = client.subscribe(inbox.wildcard()).await.map_err(|_| Failure::Lost)?;
    let said = client.server_info();
    let others = said.connect_urls.iter().filter_map(|url| address.beside(url)).collect();
    let server = Server {
        id: said.server_id,
        address: address.redacted(),
        name: said.server_name,
        version: said.version,
        others,
    };
    tracker.spawn(signals.clone().fetch_replies(replies));
    tracker.spawn(signals.clone().deny_requests());
    let queue = Queue::new(settings.publish_queue_bytes_max, counts.memory.clone());
    let link = Arc::new(Link::new(client, inbox, signals, server, queue));
    match link.round_trip(settings.connect_timeout).await {
        // Permissions may change: it is tried again like a server that is away.
        _ if link.is_deaf() => Err(Failure::Deaf),
        Err(RoundTripError::Lost) => Err(Failure::Lost),
        Err(RoundTripError::TimedOut) => Err(Failure::TimedOut(settings.connect_timeout)),
        Ok(_) | Err(_) => Ok(link),
    }
}

async fn options(settings: &Settings, address: &Address) -> std::io::Result<ConnectOptions> {
    let first = AtomicBool::new(true);
    let server = address.server().clone();
    let mut options = ConnectOptions::new()
        .name(&settings.name)
        .connection_timeout(settings.connect_timeout)
        .ping_interval(settings.ping_interval)
        .client_capacity(settings.publish_queue)
        .subscription_capacity(UNFETCHED_MAX)
        .custom_inbox_prefix(&settings.inbox_prefix)
        // Subjects are checked by their types already.
        .skip_subject_validation(true)
        .ignore_discovered_servers()
        .max_reconnects(1)
        .reconnect_to_server_callback(move |_, _| {
            let addr = if first.swap(false, Ordering::Relaxed) { server.clone() } else { dead_end() };
            std::future::ready(Some(ReconnectToServer { addr, delay: Some(Duration::ZERO) }))
        })
        .require_tls(settings.tls.required);
    if settings.tls.first {
        options = options.tls_first();
    }
    if let Some(ca) = &settings.tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let (Some(certificate), Some(key)) = (&settings.tls.certificate, &settings.tls.key) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    let of_address = address.credentials().filter(|_| matches!(settings.credentials, Credentials::None));
    match of_address.as_ref().unwrap_or(&settings.credentials) {
        Credentials::None => Ok(options),
        Credentials::UserPassword { user, password } => {
            Ok(options.user_and_password(user.clone(), password.clone()))
        }
        Credentials::Token(token) => Ok(options.token(token.clone())),
        Credentials::NkeySeed(seed) => Ok(options.nkey(seed.clone())),
        Credentials::CredentialsFile(path) => options.credentials_file(path).await,
        Credentials::CredentialsText(text) => options.credentials(text),
    }
}

fn dead_end() -> ServerAddr {
    "nats://127.0.0.1:0".parse().expect("the dead end is an address")
}
