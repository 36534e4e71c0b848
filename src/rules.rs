//! Everything that a request consults, as one value behind one swappable handle.
//!
//! A request takes the handle's value once, when it arrives, and keeps it to its end: no request sees half
//! of a reload. Policies themselves hold no settings.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::load::{Load, LoadSettings};
use crate::metrics::RouteMeters;
use crate::permits::Permits;
use crate::policies::rate_limit::{Bucket, Peers};
use crate::route::{Rate, RouteSettings, RouteTable};
use crate::services::idempotency::{Bounds, Entries};

/// The rules in force, with the state that belongs to them.
#[derive(Debug)]
pub struct Rules {
    /// The routes.
    pub routes: RouteTable,
    /// The limits over all routes.
    pub limits: Limits,
    /// Spent rate of everything together, kept across reloads.
    pub bucket: Arc<Bucket>,
    /// Spent rate of each peer, kept across reloads.
    pub peers: Arc<Peers>,
    /// Calls in flight over all routes, kept across reloads.
    pub calls: Arc<Permits>,
    /// Streams open over all routes, kept across reloads.
    pub streams: Arc<Permits>,
    /// The load of the whole gateway, kept across reloads.
    pub load: Arc<Load>,
    /// Requests with keys over all routes, kept across reloads.
    pub idempotency: Arc<Entries>,
}

/// Limits over all routes.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Rate of everything together.
    pub rate: Option<Rate>,
    /// Rate of each peer.
    pub peer_rate: Option<Rate>,
    /// Whether local peers have the peer's rate too.
    pub peer_rate_local: bool,
    /// Peers remembered at once.
    pub peers_max: usize,
    /// Requests and publishes in flight at once.
    pub calls_max: usize,
    /// Streams open at once.
    pub streams_max: usize,
    /// A subject prefix of the backend's own that no peer may name, besides the reserved ones.
    pub inbox_prefix: String,
    /// Memory, and the slow start after a trouble.
    pub load: LoadSettings,
    /// What is kept of requests with keys.
    pub idempotency: Bounds,
}

impl Rules {
    /// Builds the rules; state is shared with `before`.
    pub fn new(
        routes: Vec<RouteSettings>,
        limits: Limits,
        before: Option<&Self>,
        meters: impl FnMut(&str) -> RouteMeters,
    ) -> Self {
        let routes = RouteTable::new(routes, before.map(|rules| &rules.routes), meters);
        let rules = Self {
            routes,
            bucket: before.map_or_else(Arc::default, |rules| Arc::clone(&rules.bucket)),
            peers: before.map_or_else(Arc::default, |rules| Arc::clone(&rules.peers)),
            calls: before.map_or_else(Arc::default, |rules| Arc::clone(&rules.calls)),
            streams: before.map_or_else(Arc::default, |rules| Arc::clone(&rules.streams)),
            load: before.map_or_else(|| Arc::new(Load::new(&limits.load)), |rules| Arc::clone(&rules.load)),
            idempotency: before.map_or_else(Arc::default, |rules| Arc::clone(&rules.idempotency)),
            limits,
        };
        rules.peers.set_limit(rules.limits.peers_max);
        rules.calls.set_limit(rules.limits.calls_max);
        rules.streams.set_limit(rules.limits.streams_max);
        rules.load.memory.set_limit(rules.limits.load.memory_bytes_max);
        rules.load.memory.set_marks(rules.limits.load.marks);
        rules.idempotency.set_bounds(rules.limits.idempotency);
        rules
    }

    /// Whether no peer may name this subject or pattern.
    pub fn is_reserved(&self, text: &str) -> bool {
        let inbox = &self.limits.inbox_prefix;
        text.starts_with(['$', '_'])
            || text
                .strip_prefix(inbox.as_str())
                .is_some_and(|rest| !inbox.is_empty() && (rest.is_empty() || rest.starts_with('.')))
    }
}

/// The one handle to the rules in force. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Handle(Arc<InForce>);

#[derive(Debug)]
struct InForce {
    rules: ArcSwap<Rules>,
    swapped: watch::Sender<()>,
}

impl Handle {
    /// A handle to `rules`.
    pub fn new(rules: Rules) -> Self {
        Self(Arc::new(InForce { rules: ArcSwap::from_pointee(rules), swapped: watch::Sender::new(()) }))
    }

    /// The rules in force now.
    pub fn load(&self) -> Arc<Rules> {
        self.0.rules.load_full()
    }

    /// Puts other rules in force; requests under way keep theirs.
    pub fn swap(&self, rules: Rules) {
        self.0.rules.store(Arc::new(rules));
        self.0.swapped.send_replace(());
    }

    /// Tells of each swap from now on; several may be told as one.
    pub fn swaps(&self) -> watch::Receiver<()> {
        self.0.swapped.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{limits, route_settings};

    #[test]
    fn an_inbox_prefix_of_ones_own_is_reserved_token_by_token() {
        let limits = Limits { inbox_prefix: "inbox.gw".to_owned(), ..limits() };
        let rules = Rules::new(vec![route_settings("all", &[">"])], limits, None, crate::testing::meters);
        for text in ["inbox.gw", "inbox.gw.x", "inbox.gw.>", "_INBOX.x", "$SYS.x"] {
            assert!(rules.is_reserved(text), "{text}");
        }
        for text in ["inbox.gwx", "inbox", "x.inbox.gw"] {
            assert!(!rules.is_reserved(text), "{text}");
        }
    }
}
