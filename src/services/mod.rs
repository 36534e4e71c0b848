//! Rules that wait, and so are services of their own instead of policies.

pub mod deadline;
pub mod envelope;
pub mod idempotency;
pub mod retry;
