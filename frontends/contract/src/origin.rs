//! Who asks: an [`Origin`] is built once a connection and shared by its requests.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

/// Where a request comes from: the door, who is there, and from what address.
#[derive(Debug)]
pub struct Origin {
    /// The door's name, such as `unix`.
    pub door: &'static str,
    /// Who is there.
    pub identity: Identity,
    /// From where.
    pub address: PeerAddress,
    /// A number of this connection, unique in the process: what belongs together and must keep its order
    /// (publishes, version 1 requests) is pinned by it.
    pub connection: u64,
}

/// A peer as authenticated.
#[derive(Clone, Debug)]
pub struct Identity {
    /// A stable name, such as `uid:1000`; what limits and logs know the peer by.
    pub name: Arc<str>,
    /// How it is known.
    pub method: Method,
    /// The tenant it belongs to, if it has one.
    pub tenant: Option<Arc<str>>,
    /// The process, for a local peer.
    pub unix: Option<UnixPeer>,
    /// The key of the peer's own limits.
    pub key: PeerKey,
}

impl Identity {
    /// An identity of this name, its limit key derived from the name.
    pub fn new(name: impl Into<Arc<str>>, method: Method) -> Self {
        let name = name.into();
        let key = PeerKey::of(&name);
        Self { name, method, tenant: None, unix: None, key }
    }
}

/// How a peer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Not at all.
    Anonymous,
    /// By the credentials the kernel gives of a local process.
    Local,
}

/// Credentials of a local process, as the kernel gives them at connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixPeer {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id, where the system tells it.
    pub pid: Option<i32>,
}

/// The key by which limits know a peer: a hash of its name, keyed anew in each process so that nobody can
/// choose names that collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey(pub u64);

impl PeerKey {
    /// The key of a name.
    pub fn of(name: &str) -> Self {
        static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEYS.hash_one(name))
    }
}

/// The address a peer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// A local process over a Unix socket: it has credentials instead of an address.
    Unix,
    /// An address of the network.
    Tcp(SocketAddr),
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => formatter.write_str("unix"),
            Self::Tcp(address) => address.fmt(formatter),
        }
    }
}

/// What a door knows of a peer and presents for authentication.
#[derive(Clone, Debug)]
pub enum Presented {
    /// A local process.
    Unix(UnixPeer),
    /// Nothing but an address.
    Anonymous(SocketAddr),
}

impl Presented {
    /// The address part.
    pub fn address(&self) -> PeerAddress {
        match self {
            Self::Unix(_) => PeerAddress::Unix,
            Self::Anonymous(address) => PeerAddress::Tcp(*address),
        }
    }
}
