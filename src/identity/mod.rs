//! Who a peer is. Each way of knowing is a file here; [`Identities`] asks the one that fits what a door
//! presents.

use contract::{Authenticate, Error, Identity, Method, Presented};

mod local;

pub use local::Local;

/// All the ways of knowing a peer that the configuration allows.
#[derive(Clone, Debug)]
pub struct Identities {
    /// Local processes, by the kernel's word.
    pub local: Local,
}

impl Authenticate for Identities {
    fn authenticate(&self, presented: &Presented) -> Result<Identity, Error> {
        match presented {
            Presented::Unix(peer) => self.local.identify(*peer),
            Presented::Anonymous(_) => Ok(Identity::new("anonymous", Method::Anonymous)),
        }
    }
}
