//! The way into a door: the loop that accepts, and who is let in.
//!
//! A door says how it serves a connection and what one is told that is not let in; all that comes before is the same for
//! every door. The cheapest refusals come first: memory, then a place, then who is there. When the system has no
//! descriptors or no memory left, accepting again at once would spin, so it waits, longer each time. When the gateway
//! stops, who has connected and was not accepted yet is told, instead of reset; and the listener goes before the
//! connections, so that a gateway that starts now finds its place free.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use contract::{Error, Gate, Handshake, Kind, Origin, Presented};
use futures_util::FutureExt;

use crate::caps::{Place, Places};
use crate::listener::Listener;

/// Shortest and longest pause after `accept` failed, for want of descriptors or memory.
const ACCEPT_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// When a client that found no place may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a connection has on its way in.
pub trait Entry: Sized + Send {
    /// Asked first of all.
    ///
    /// # Errors
    ///
    /// `overloaded`, when there is no room for another one.
    fn begin<P>(gate: &Gate<P>) -> Result<Self, Error>;
}

/// Nothing: who is there is known at once, so that there is no handshake to wait for.
impl Entry for () {
    fn begin<P>(gate: &Gate<P>) -> Result<Self, Error> {
        gate.check_memory()
    }
}

/// Until its first request nobody knows what it wants.
impl Entry for Handshake {
    fn begin<P>(gate: &Gate<P>) -> Result<Self, Error> {
        gate.handshake()
    }
}

/// A connection that was let in.
#[derive(Debug)]
pub struct Guest<F, E> {
    /// Who is there.
    pub origin: Arc<Origin>,
    /// Where it comes from.
    pub from: F,
    /// Its place under the cap, until it is dropped.
    pub place: Place,
    /// What it has on its way in.
    pub entry: E,
}

/// A door, seen from its entrance.
pub trait Host<L: Listener>: Send + Sync {
    /// Its name in logs, metrics and origins.
    const NAME: &'static str;
    /// What its connections have on their way in.
    type Entry: Entry;

    /// What an open connection costs in bytes, whatever it does: its task, its timers, what its protocol keeps.
    const CONNECTION_BYTES: usize;

    /// Serves a connection to its end.
    fn serve(
        &self,
        stream: L::Stream,
        guest: Guest<L::From, Self::Entry>,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// What a connection that is not let in is told, before a byte of it is read; nothing where the protocol has no words
    /// for it.
    fn refusal(&self, error: &Error) -> Vec<u8>;
}

/// Accepts until the gateway stops. What was let in by then is served on, in tasks that the gate's drain tracks.
pub async fn receive<L, H, P>(listener: L, host: &H, gate: &Gate<P>, places: &Places)
where
    L: Listener,
    H: Host<L>,
    P: Sync,
{
    let mut pause = ACCEPT_PAUSES.0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = gate.drain.draining() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                pause = ACCEPT_PAUSES.0;
                admit::<L, H, P>(stream, from, host, gate, places);
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                gate.meters.accept_failures_total.increment();
                tracing::warn!(door = H::NAME, %error, "cannot accept a connection; waiting");
                tokio::select! {
                    () = gate.drain.draining() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(ACCEPT_PAUSES.1);
            }
        }
    }
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        let draining = Error::new(Kind::Draining, "the gateway is stopping; connect again");
        refuse::<L, H, P>(stream, host, gate, &draining.with_retry_after(gate.drain.retry_after()));
    }
}

/// Lets a connection in, or says why not.
fn admit<L, H, P>(stream: L::Stream, from: L::From, host: &H, gate: &Gate<P>, places: &Places)
where
    L: Listener,
    H: Host<L>,
{
    let entry = match H::Entry::begin(gate) {
        Ok(entry) => entry,
        Err(error) => return refuse::<L, H, P>(stream, host, gate, &error),
    };
    let presented = match L::presented(&stream, &from) {
        Ok(presented) => presented,
        Err(error) => {
            tracing::warn!(door = H::NAME, %error, "a peer without credentials");
            let error = Error::new(Kind::Unauthenticated, "no peer credentials");
            return refuse::<L, H, P>(stream, host, gate, &error);
        }
    };
    let address = match &presented {
        Presented::Anonymous(address) => Some(address.ip()),
        Presented::Unix(_) => None,
    };
    let Some(place) = places.take(address) else {
        let full = Error::new(Kind::Overloaded, "too many connections; try again later");
        return refuse::<L, H, P>(stream, host, gate, &full.with_retry_after(RETRY_AFTER));
    };
    let standing = match &presented {
        Presented::Anonymous(_) => gate.budget.stand(H::CONNECTION_BYTES),
        // Strangers on the network never keep out who is on this machine, and is known.
        Presented::Unix(_) => Some(gate.budget.stand_always(H::CONNECTION_BYTES)),
    };
    let Some(standing) = standing else {
        gate.admission.note_pressed();
        let full = Error::new(Kind::Overloaded, "the gateway has no memory for another connection");
        return refuse::<L, H, P>(stream, host, gate, &full.with_retry_after(RETRY_AFTER));
    };
    let place = place.standing(standing);
    let origin = match gate.admit(H::NAME, &presented) {
        Ok(origin) => origin,
        Err(error) => {
            match presented {
                Presented::Anonymous(address) => {
                    tracing::warn!(door = H::NAME, %address, "refused: {error}");
                }
                Presented::Unix(peer) => tracing::warn!(
                    door = H::NAME,
                    uid = peer.uid,
                    gid = peer.gid,
                    pid = peer.pid,
                    "refused: {error}"
                ),
            }
            return refuse::<L, H, P>(stream, host, gate, &error);
        }
    };
    gate.meters.connections_total.increment();
    L::prepare(&stream);
    gate.drain.track(host.serve(stream, Guest { origin, from, place, entry }));
}

fn refuse<L, H, P>(stream: L::Stream, host: &H, gate: &Gate<P>, error: &Error)
where
    L: Listener,
    H: Host<L>,
{
    gate.meters.connections_refused_total.increment();
    tracing::debug!(door = H::NAME, "a connection is not let in: {error}");
    L::dismiss(stream, &host.refusal(error));
}

/// The peer went away between its connect and our accept (accept(2)): the next connection is not affected.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
