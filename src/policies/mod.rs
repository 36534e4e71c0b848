//! The rules that admit or refuse without waiting, a file a rule. Their order is the pipeline's.

pub mod authorize;
pub mod backpressure;
pub mod breaker;
pub mod concurrency;
pub mod measure;
pub mod overload;
pub mod rate_limit;
pub mod trace;
pub mod validate;
