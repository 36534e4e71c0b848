//! Names of the predecessor's environment that this version knows and has no use for: setting one is told, because a
//! feature that is silently missing is found in production.

/// Names of the predecessor whose features this version does not have: setting one is told, never ignored
/// silently.
pub(super) const UNUSED_NAMES: &[(&str, &str)] = &[
    ("GATEWAY_RATE_LIMIT_REDIS_URI", "shared rate limits"),
    ("GATEWAY_REDIS_URL", "shared rate limits"),
    ("OTLP_ENDPOINT", "trace export"),
];

/// The start of further such names.
pub(super) const UNUSED_PREFIX: (&str, &str) = ("OTEL_", "trace export");
