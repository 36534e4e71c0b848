//! The typed settings of `[idempotency]`: what the program keeps of requests with keys, and with whom it shares them. How
//! long is the routes' to say.

use super::resolved::Resolved;
use crate::services::idempotency::{Bounds, SharedSettings, WhenUnavailable};

/// `[idempotency]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// What is kept in memory.
    pub bounds: Bounds,
    /// The bucket that keys are shared by; `None`: they are not.
    pub bucket: Option<Bucket>,
}

/// A bucket of JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Its size in bytes when it is made.
    pub bytes_max: u64,
    /// Servers that keep it when it is made, 1 to 5.
    pub replicas: u8,
    /// How keys are shared by it.
    pub sharing: SharedSettings,
}

impl Idempotency {
    pub(super) fn from_resolved(settings: &Resolved) -> Self {
        let bounds = Bounds {
            entries_max: settings.int("idempotency.entries_max"),
            bytes_max: settings.int("idempotency.bytes_max"),
        };
        let bucket = (settings.text("idempotency.store") == "nats_kv").then(|| Bucket {
            name: settings.text("idempotency.bucket").to_owned(),
            bytes_max: settings.int("idempotency.bucket_bytes_max"),
            replicas: settings.int("idempotency.bucket_replicas"),
            sharing: SharedSettings {
                lease: settings.millis("idempotency.lease_ms"),
                timeout: settings.millis("idempotency.store_timeout_ms"),
                when_unavailable: match settings.text("idempotency.when_unavailable") {
                    "execute" => WhenUnavailable::Execute,
                    _ => WhenUnavailable::Refuse,
                },
            },
        });
        Self { bounds, bucket }
    }
}
