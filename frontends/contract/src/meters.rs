//! What a door counts: plain atomics, so that this crate names no metrics library and counting costs an add.
//!
//! The process reads them when it is scraped. One [`DoorMeters`] a door, made once and shared.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `amount`, which may be negative.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts of one door.
#[derive(Debug, Default)]
pub struct DoorMeters {
    /// Connections open now.
    pub connections: Gauge,
    /// Connections accepted and admitted.
    pub connections_total: Counter,
    /// Connections refused: over the cap, or not allowed.
    pub connections_refused_total: Counter,
    /// Times that a connection could not be accepted, for want of descriptors or memory.
    pub accept_failures_total: Counter,
    /// Requests handed to the pipeline and not answered yet.
    pub in_flight: Gauge,
    /// Streams open now.
    pub streams: Gauge,
    /// Bytes read from peers.
    pub received_bytes_total: Counter,
    /// Bytes written to peers.
    pub sent_bytes_total: Counter,
    /// Messages that broke the door's protocol.
    pub protocol_errors_total: Counter,
    /// Connections that ended with requests in flight, which were cancelled.
    pub vanished_total: Counter,
    /// Connections ended because their peer took nothing for too long.
    pub stalled_total: Counter,
    /// Requests whose handling panicked; each was answered `internal`.
    pub panics_total: Counter,
    /// Pooled read buffers ready for use.
    pub buffers_ready: Gauge,
    /// Pooled read buffers lent out now.
    pub buffers_lent: Gauge,
    /// Read buffers allocated because none was ready.
    pub buffers_allocated_total: Counter,
}
