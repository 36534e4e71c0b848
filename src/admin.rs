//! The admin listener: health, readiness and metrics over plain HTTP/1.1, for probes, scrapers and people.
//!
//! It knows nothing of the gateway but the [`Status`] it is given, so it can be served before the first door is
//! open and until the last one is closed. It is small on purpose: three read-only pages need a parser and a
//! match, not a framework. Every answer is made at once from memory, so nothing here waits except on the peer,
//! and the peer is bounded everywhere: headers in bytes, count and time, the connection in number and in life.

pub(crate) mod clock;
mod pages;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use wire::site::Site;

use crate::holder::{Holder, tcp_holder};

/// Bytes of one request's head, all headers together. Hyper's own default is about 400 KiB, which is what every
/// idle stranger could make us hold.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of one request: a browser sends about 20, a scraper behind two proxies about 30.
const HEADERS_MAX: usize = 64;
/// A connection is told to end after this long, so that a peer that stops reading cannot keep its place for ever.
/// Scrapers reconnect at once, and one connection a minute costs nothing.
const CONNECTION_LIFE: Duration = Duration::from_mins(1);
/// What a connection gets to take its last answer when it is told to end. Answers are ready when they are asked
/// for, so this is one trip through a socket buffer.
const LAST_ANSWER: Duration = Duration::from_millis(500);
/// First and longest pause after `accept` failed, for example for want of descriptors.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What the admin listener tells about the gateway. Called on each request: answer from memory, do not wait.
pub trait Status: Send + Sync {
    /// Alive or not is told by answering at all; this is what else there is to say, a JSON object. `status` and
    /// `timestamp` are added when they are not in it.
    fn health(&self) -> serde_json::Value;

    /// Whether the gateway can serve now, and an object with the `message` and the reasons. `status` is written
    /// from the flag, `timestamp` is added.
    fn ready(&self) -> (bool, serde_json::Value);

    /// Everything counted, in Prometheus' text format, version 0.0.4.
    fn metrics(&self) -> String;
}

/// Where the admin listener listens and whom it answers.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// The address to take; port 0 takes a free one, see [`Admin::local_address`].
    pub address: SocketAddr,
    /// Names that may stand in `Host` beside `localhost` and IP addresses; `*` allows every name.
    pub hosts: Vec<String>,
    /// Connections at one time, at least 1; one more is accepted and closed. A probe and a scraper need 2.
    pub connections_max: usize,
    /// How long a peer may take for a request's head, and how long a kept connection may be idle.
    pub header_timeout: Duration,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            hosts: Vec::new(),
            connections_max: 64,
            header_timeout: Duration::from_secs(5),
        }
    }
}

/// The admin address could not be taken. The text names who has it and the setting to change.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another socket listens there.
    #[error(
        "cannot listen on {address}: the port is taken{}; choose another with --set admin.port=N \
         (IPC_GATEWAY__ADMIN__PORT), or 0 for any free one",
        by(.holder.as_ref())
    )]
    Taken {
        /// The address that was asked for.
        address: SocketAddr,
        /// Who listens there, as far as this process may know.
        holder: Option<Holder>,
    },
    /// The system refused for another reason: no right to a low port, or no such address on this machine.
    #[error(
        "cannot listen on {address}: {source}; choose another with --set admin.port=N \
         (IPC_GATEWAY__ADMIN__PORT) or --set admin.address=IP (IPC_GATEWAY__ADMIN__ADDRESS)"
    )]
    Refused {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

fn by(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |holder| format!(" by {holder}"))
}

/// The listener, its address taken, not yet answering.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    site: Arc<Site>,
    slots: Arc<Semaphore>,
    header_timeout: Duration,
}

impl Admin {
    /// Takes the address. Must be called inside a tokio runtime.
    pub fn bind(settings: AdminSettings) -> Result<Self, BindError> {
        let AdminSettings { address, hosts, connections_max, header_timeout } = settings;
        let (listener, address) = listen(address).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken { address, holder: tcp_holder(address) },
            _ => BindError::Refused { address, source },
        })?;
        Ok(Self {
            listener,
            address,
            site: Arc::new(Site::new("admin", &hosts)),
            slots: Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS))),
            header_timeout,
        })
    }

    /// The address taken, with the port that the system chose if 0 was asked for.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is cancelled. Then idle connections are closed at once, one that is taking its
    /// answer gets half a second more, and the future ends when the last is gone.
    pub async fn serve(self, status: Arc<dyn Status>, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        let mut pause = ACCEPT_PAUSE.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_of_the_peer(&error) => continue,
                Err(error) => {
                    // Accepting again at once would spin: what is short (descriptors, memory) stays short for a
                    // while. One line a shortage, not one a try.
                    if pause == ACCEPT_PAUSE.0 {
                        warn!(%error, address = %self.address, "the admin listener cannot accept; it keeps trying");
                    }
                    let woken = tokio::time::timeout(pause, shutdown.cancelled()).await;
                    pause = (pause * 2).min(ACCEPT_PAUSE.1);
                    if woken.is_ok() {
                        break;
                    }
                    continue;
                }
            };
            pause = ACCEPT_PAUSE.0;
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
                debug!(address = %self.address, "an admin connection was closed: all places are taken");
                continue;
            };
            let (site, status, shutdown) = (Arc::clone(&self.site), Arc::clone(&status), shutdown.clone());
            let header_timeout = self.header_timeout;
            connections.spawn(async move {
                converse(stream, site, status, shutdown, header_timeout).await;
                drop(slot);
            });
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }
}

/// One connection, from its first byte to its last.
async fn converse(
    stream: TcpStream,
    site: Arc<Site>,
    status: Arc<dyn Status>,
    shutdown: CancellationToken,
    header_timeout: Duration,
) {
    let answer = service_fn(move |request| {
        let response = pages::answer(&request, &site, status.as_ref());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        // `printf 'GET ...' | nc` closes its half before it reads.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                debug!(%error, "an admin connection ended badly");
            }
            return;
        }
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(CONNECTION_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    if tokio::time::timeout(LAST_ANSWER, connection).await.is_err() {
        debug!("an admin connection was cut: its peer did not take the answer in time");
    }
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((TcpListener::from_std(listener)?, address))
}

/// The peer went away between its connect and our accept (accept(2)): the next connection is not affected.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
