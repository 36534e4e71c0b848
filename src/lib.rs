//! IPC Gateway: lets any client talk to services on NATS.

pub mod admin;
pub mod holder;
pub mod limits;
pub mod metrics;
pub mod telemetry;
