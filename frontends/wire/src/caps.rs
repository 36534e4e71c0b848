//! How many connections there may be: in all, and from one address.
//!
//! One lock taken at a connect and at an end, never in between. Loopback has no limit of its own: everything on
//! this machine has that address, proxies too.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use contract::{DoorMeters, Standing};

/// The places for connections; cloning shares them.
#[derive(Clone, Debug)]
pub struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    per_address_max: Option<usize>,
    meters: Arc<DoorMeters>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    /// Only addresses with a connection, so it is bounded as the connections are.
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    /// Where it counts, if its address is counted.
    counted: Option<IpAddr>,
    /// What its connection costs.
    standing: Option<Standing>,
}

impl Place {
    /// The same, of a connection that costs this.
    #[must_use]
    pub fn standing(self, standing: Standing) -> Self {
        let mut place = self;
        place.standing = Some(standing);
        place
    }

    /// From now on its connection costs no more than `bytes`.
    pub fn costs_only(&self, bytes: usize) {
        if let Some(standing) = &self.standing {
            standing.shrink_to(bytes);
        }
    }
}

impl Places {
    /// Room for `max` connections, of which `per_address_max` may come from one address.
    pub fn new(max: usize, per_address_max: Option<usize>, meters: Arc<DoorMeters>) -> Self {
        Self(Arc::new(Inner { max, per_address_max, meters, taken: Mutex::default() }))
    }

    /// Takes a place for a peer at `address` (for a local socket, none); `None` when there is none left for it.
    pub fn take(&self, address: impl Into<Option<IpAddr>>) -> Option<Place> {
        let address = address.into().and_then(subject_to_count);
        let counted = address.zip(self.0.per_address_max);
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= self.0.max {
            return None;
        }
        if let Some((address, max)) = counted {
            let here = taken.by_address.entry(address).or_default();
            if *here >= max {
                return None;
            }
            *here += 1;
        }
        taken.total += 1;
        self.0.meters.connections.add(1);
        Some(Place { places: self.clone(), counted: counted.map(|(address, _)| address), standing: None })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(address) = self.counted
            && let Some(here) = taken.by_address.get_mut(&address)
        {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&address);
            }
        }
        drop(taken);
        self.places.0.meters.connections.add(-1);
    }
}

/// What an address counts as: nothing for loopback, the first 64 bits for IPv6, since whoever has one address
/// there has all of them.
fn subject_to_count(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    if address.is_loopback() {
        return None;
    }
    Some(match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(max: usize, per_address_max: Option<usize>) -> (Places, Arc<DoorMeters>) {
        let meters = Arc::<DoorMeters>::default();
        (Places::new(max, per_address_max, Arc::clone(&meters)), meters)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_given_back() {
        let (places, meters) = places(2, None);
        let (one, two) = (places.take(ip("10.0.0.1")).unwrap(), places.take(ip("10.0.0.1")).unwrap());
        assert!(places.take(ip("10.0.0.2")).is_none());
        assert_eq!(meters.connections.get(), 2);
        drop(one);
        let three = places.take(ip("10.0.0.2")).unwrap();
        drop((two, three));
        assert_eq!(meters.connections.get(), 0);
    }

    #[test]
    fn one_address_cannot_take_all_and_loopback_may() {
        let (places, _) = places(100, Some(1));
        let kept = places.take(ip("10.0.0.1")).unwrap();
        assert!(places.take(ip("10.0.0.1")).is_none() && places.take(ip("::ffff:10.0.0.1")).is_none());
        let other = places.take(ip("10.0.0.2")).unwrap();
        let six = places.take(ip("2001:db8::1")).unwrap();
        assert!(places.take(ip("2001:db8::2")).is_none(), "the same 64 bits");
        let local: Vec<_> = (0..5).map(|_| places.take(ip("127.0.0.1")).unwrap()).collect();
        drop((kept, other, six, local));
        assert!(places.take(ip("10.0.0.1")).is_some());
        assert!(places.0.taken.lock().unwrap().by_address.is_empty(), "what is gone is forgotten");
    }
}
