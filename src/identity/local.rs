//! Local processes: known by the credentials that the kernel gives at connect, which no process can choose.

use contract::{Error, Identity, Kind, Method, UnixPeer};

/// Which local processes are let in.
#[derive(Clone, Debug)]
pub struct Local {
    uids: Vec<u32>,
    gids: Vec<u32>,
}

impl Local {
    /// Those of these users or groups; with both lists empty, those of this process's own user and of root.
    pub fn new(uids: Vec<u32>, gids: Vec<u32>) -> Self {
        if uids.is_empty() && gids.is_empty() {
            return Self { uids: vec![rustix::process::geteuid().as_raw(), 0], gids };
        }
        Self { uids, gids }
    }

    /// The identity of a local process, or `unauthenticated` if it is not let in.
    pub fn identify(&self, peer: UnixPeer) -> Result<Identity, Error> {
        if !self.uids.contains(&peer.uid) && !self.gids.contains(&peer.gid) {
            return Err(Error::new(
                Kind::Unauthenticated,
                "this user may not connect; see the settings ipc.allow_uids and ipc.allow_gids",
            ));
        }
        let mut identity = Identity::new(format!("uid:{}", peer.uid), Method::Local);
        identity.unix = Some(peer);
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32) -> UnixPeer {
        UnixPeer { uid, gid, pid: Some(1) }
    }

    #[test]
    fn without_lists_the_own_user_and_root_are_let_in() {
        let local = Local::new(Vec::new(), Vec::new());
        let own = rustix::process::geteuid().as_raw();
        assert!(local.identify(peer(own, 5)).is_ok() && local.identify(peer(0, 5)).is_ok());
        assert_eq!(local.identify(peer(own + 77, 5)).unwrap_err().kind(), Kind::Unauthenticated);
    }

    #[test]
    fn lists_let_in_whom_they_name_and_nobody_else() {
        let local = Local::new(vec![7], vec![9]);
        assert!(local.identify(peer(7, 1)).is_ok() && local.identify(peer(1, 9)).is_ok());
        assert!(local.identify(peer(1, 1)).is_err() && local.identify(peer(0, 0)).is_err());
        assert_eq!(&*local.identify(peer(7, 1)).unwrap().name, "uid:7");
    }
}
