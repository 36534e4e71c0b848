//! Who a peer is. Each way of knowing is a file here; [`Identities`] asks the one that fits what a door
//! presents.

use contract::{Authenticate, Error, Identity, Method, PeerKey, Presented};

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
            Presented::Anonymous(address) => {
                let mut identity = Identity::new("anonymous", Method::Anonymous);
                // They share a name, but one of them must not spend the rate of all.
                identity.key = PeerKey::of(&address.ip().to_canonical().to_string());
                Ok(identity)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_share_a_name_and_no_limit() {
        let identities = Identities { local: Local::new(Vec::new(), Vec::new()) };
        let of =
            |address: &str| identities.authenticate(&Presented::Anonymous(address.parse().unwrap())).unwrap();
        let (one, same, other) = (of("10.0.0.1:1"), of("[::ffff:10.0.0.1]:2"), of("10.0.0.2:1"));
        assert_eq!((&*one.name, &*other.name), ("anonymous", "anonymous"));
        assert_eq!(one.key, same.key);
        assert_ne!(one.key, other.key);
    }
}
