//! Watches whether the backend can be reached, so that its return begins a slow start.
//!
//! The backend is asked and not the errors of requests: one member of a pool that is away is no outage, and after an
//! outage without requests everybody comes at once too.

use std::sync::Arc;

use tokio::time::Instant;

use crate::backend::Backend;
use crate::load::Load;
use crate::ramp::Trouble;

/// Looks at each change until it is dropped, or nothing can change any more.
pub(super) async fn watch(backend: impl Backend, load: Arc<Load>) {
    let mut changes = backend.changes();
    // Before the first connection nobody was served, so there is nothing to recover from.
    let mut was_reachable = false;
    loop {
        let is_reachable = backend.is_reachable();
        was_reachable |= is_reachable;
        load.ramp.observe(Trouble::Backend, was_reachable && !is_reachable, Instant::now());
        if changes.changed().await.is_err() {
            return;
        }
    }
}
