//! The door: bind first, serve later. And the gate: all that a door is given.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tower_service::Service;

use crate::{
    Admission, ByteBudget, DoorMeters, Drain, Error, Handshake, Identity, Kind, Origin, Presented, Reply,
    Request,
};

/// The pipeline as a door sees it: always ready, because *refusal is an answer, not a wait*. Implemented by
/// every service of this shape.
pub trait Pipeline:
    Service<
        Request,
        Response = Reply,
        Error = Error,
        Future: Future<Output = Result<Reply, Error>> + Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Pipeline for S where
    S: Service<
            Request,
            Response = Reply,
            Error = Error,
            Future: Future<Output = Result<Reply, Error>> + Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// A way in. `bind` takes the address and accepts nothing, so that every address of the process is taken
/// before the first request; `serve` accepts until the gate's drain begins, and returns when every
/// connection has ended.
pub trait Frontend: Sized + Send + 'static {
    /// The door's name in logs, metrics and [`Origin`].
    const NAME: &'static str;
    /// What can be configured.
    type Settings;

    /// Takes the address.
    fn bind(settings: Self::Settings) -> impl Future<Output = Result<Self, BindError>> + Send;

    /// The address taken; tells the port when 0 was asked for.
    fn address(&self) -> Address;

    /// Accepts and serves until the drain begins, then lets what is in flight finish.
    fn serve(self, gate: Gate<impl Pipeline>) -> impl Future<Output = Result<(), ServeError>> + Send;
}

/// All that a door is given: the way in, who is there, when to stop, what to count, what memory it may use.
#[derive(Clone)]
pub struct Gate<P> {
    /// The way in.
    pub pipeline: P,
    /// Who is there.
    pub authenticate: Arc<dyn Authenticate>,
    /// When to stop.
    pub drain: Drain,
    /// What to count.
    pub meters: Arc<DoorMeters>,
    /// What memory may be used.
    pub budget: ByteBudget,
    /// How many connections may be on their way in.
    pub admission: Admission,
    /// How long a request may take.
    pub timeouts: Timeouts,
}

/// When a connection that found no room may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl<P> Gate<P> {
    /// Lets a new connection begin its handshake, or refuses it as `overloaded`: because memory is short, or too
    /// many are on their way in. Asked first of all, as it costs next to nothing.
    pub fn handshake(&self) -> Result<Handshake, Error> {
        self.check_memory()?;
        self.admission.begin().ok_or_else(|| overloaded("too many new connections at once; try again later"))
    }

    /// Refuses a new connection as `overloaded` while memory is short. Instead of [`Gate::handshake`] where who is
    /// there is known at once, or has said what it wants: strangers on their way in must not keep those out.
    pub fn check_memory(&self) -> Result<(), Error> {
        if self.budget.is_pressed() {
            self.admission.note_pressed();
            return Err(overloaded("the gateway is short of memory; try again later"));
        }
        Ok(())
    }

    /// Authenticates a peer and builds the origin of its requests.
    pub fn admit(&self, door: &'static str, presented: &Presented) -> Result<Arc<Origin>, Error> {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
        let identity = self.authenticate.authenticate(presented)?;
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Origin { door, identity, address: presented.address(), connection }))
    }

    /// The deadline of a request received at `received` whose peer asked for `timeout`: never later than
    /// [`Timeouts::max`]. Without a wish it is the maximum, and the route's own timeout sets it.
    pub fn deadline(&self, received: Instant, timeout: Option<Duration>) -> Instant {
        received + timeout.map_or(self.timeouts.max, |wish| wish.min(self.timeouts.max))
    }
}

/// Says to a connection that there is no room for it now.
fn overloaded(text: &'static str) -> Error {
    Error::new(Kind::Overloaded, text).with_retry_after(RETRY_AFTER)
}

impl<P> fmt::Debug for Gate<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gate").field("meters", &self.meters).finish_non_exhaustive()
    }
}

/// Bounds on the time a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The longest any request may take, whatever its peer or its route says.
    pub max: Duration,
}

/// Says who a peer is, or refuses it. Asked once a connection.
pub trait Authenticate: Send + Sync + 'static {
    /// The identity of the peer, or `unauthenticated` or `denied`.
    fn authenticate(&self, presented: &Presented) -> Result<Identity, Error>;
}

/// An address a door listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP socket.
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(formatter),
            Self::Tcp(address) => address.fmt(formatter),
        }
    }
}

/// An address could not be taken. The text says which, why (with the owner, if known) and what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct BindError {
    /// The address asked for.
    pub address: Address,
    /// Why not, and what to do.
    pub reason: String,
    /// What the system said, if it did.
    #[source]
    pub source: Option<std::io::Error>,
}

/// A door stopped serving on its own.
#[derive(Debug, thiserror::Error)]
#[error("the door {door} stopped: {reason}")]
pub struct ServeError {
    /// The door's name.
    pub door: &'static str,
    /// Why.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_clamped_and_a_handshake_needs_room_and_memory() {
        struct Nobody;
        impl Authenticate for Nobody {
            fn authenticate(&self, _: &Presented) -> Result<Identity, Error> {
                Err(Error::new(Kind::Unauthenticated, "nobody"))
            }
        }
        let gate = Gate {
            pipeline: (),
            authenticate: Arc::new(Nobody),
            drain: Drain::new(),
            meters: Arc::default(),
            budget: ByteBudget::new(1),
            admission: Admission::new(1),
            timeouts: Timeouts { max: Duration::from_secs(5) },
        };
        let now = Instant::now();
        assert_eq!(gate.deadline(now, None), now + Duration::from_secs(5));
        assert_eq!(gate.deadline(now, Some(Duration::from_secs(1))), now + Duration::from_secs(1));
        assert_eq!(gate.deadline(now, Some(Duration::MAX)), now + Duration::from_secs(5));
        let first = gate.handshake().unwrap();
        assert_eq!(gate.handshake().unwrap_err().kind(), Kind::Overloaded);
        gate.check_memory().unwrap();
        drop(first);
        let _charge = gate.budget.charge_always(1);
        assert_eq!(gate.handshake().unwrap_err().kind(), Kind::Overloaded);
        assert_eq!(gate.check_memory().unwrap_err().kind(), Kind::Overloaded);
        assert_eq!((gate.admission.full_total(), gate.admission.pressed_total()), (1, 2));
    }
}
