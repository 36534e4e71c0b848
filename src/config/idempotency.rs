//! The typed settings of `[idempotency]`: what the program keeps of requests with keys. How long is the routes' to say.

use super::resolved::Resolved;
use crate::services::idempotency::Bounds;

/// `[idempotency]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// What is kept in memory.
    pub bounds: Bounds,
}

impl Idempotency {
    pub(super) fn from_resolved(settings: &Resolved) -> Self {
        let bounds = Bounds {
            entries_max: settings.int("idempotency.entries_max"),
            bytes_max: settings.int("idempotency.bytes_max"),
        };
        Self { bounds }
    }
}
