//! x
#![forbid(unsafe_code)]
#[allow(dead_code, reason = "the session uses it")]
pub(crate) mod buffers;
#[allow(dead_code, reason = "the session uses it")]
pub(crate) mod inflight;
#[allow(dead_code, unused_imports, reason = "the session uses it")]
pub(crate) mod json;
#[allow(dead_code, reason = "the session uses it")]
pub(crate) mod socket;
