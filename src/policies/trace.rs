//! Trace: continues the peer's trace with a span of the gateway's own, and writes the one log line of a
//! failure.
//!
//! The span exists when the `debug` level of this target is on; without it a request costs a random number.
//! Refusals are `debug`, since they are the peer's own doing and counted; the backend's faults are warnings,
//! the gateway's own are errors. Of these at most [`LINES_PER_SECOND`] are written, and the next one tells how
//! many were left out: a backend that is down must not drown its own reason, nor stop the gateway at a full
//! pipe.

use std::sync::atomic::{AtomicU64, Ordering};

use contract::{Blame, Error, Kind, Operation, Reply, TraceContext};
use tokio::time::Instant;
use tracing::Span;

use crate::policy::{Held, Policy};
use crate::route::Call;

/// Lines about failed requests that are written in a second.
pub const LINES_PER_SECOND: u32 = 10;

/// The rule.
#[derive(Clone, Copy, Debug)]
pub struct Trace;

impl Policy for Trace {
    type Held = Traced;

    fn admit(&self, call: &mut Call) -> Result<Traced, Error> {
        let request = &mut call.request;
        request.trace = request.trace.child();
        let operation = request.target.operation();
        let span = tracing::debug_span!(
            "request",
            trace_id = %request.trace.trace_id(),
            span_id = %request.trace.span_id(),
            operation = operation.name(),
            target = request.target.as_str(),
            route = call.route.settings.name.as_str(),
            door = request.origin.door,
            identity = &*request.origin.identity.name,
        );
        Ok(Traced { span, trace: request.trace.clone(), operation })
    }
}

/// What the rule knows of a call until its end.
#[derive(Debug)]
pub struct Traced {
    span: Span,
    trace: TraceContext,
    operation: Operation,
}

impl Held for Traced {
    fn settle(self, outcome: Result<&mut Reply, &Error>) {
        let Err(error) = outcome else { return };
        let _entered = self.span.enter();
        let (kind, fate, text) = (error.kind().code(), error.outcome().code(), error.text());
        let cause = error.cause().map(tracing::field::display);
        if error.kind().row().blame == Blame::Peer || error.kind() == Kind::Overloaded {
            return tracing::debug!(kind, outcome = fate, cause, "{text}");
        }
        let Some(left_out) = LINES.take(Instant::now()) else { return };
        let (trace_id, operation) = (self.trace.trace_id(), self.operation.name());
        if error.kind() == Kind::Internal {
            tracing::error!(%trace_id, operation, kind, outcome = fate, cause, left_out, "{text}");
        } else {
            tracing::warn!(%trace_id, operation, kind, outcome = fate, cause, left_out, "{text}");
        }
    }

    fn abandon(&mut self) {
        let _entered = self.span.enter();
        tracing::debug!("cancelled by its peer");
    }

    fn span(&self) -> Option<&Span> {
        Some(&self.span)
    }
}

static LINES: Lines = Lines::new();

/// Lines written in the current second, and those left out since the last one that was.
struct Lines {
    /// The second, in the upper half, and its lines.
    written: AtomicU64,
    left_out: AtomicU64,
}

impl Lines {
    const fn new() -> Self {
        Self { written: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether a line may be written now, and how many were left out before it.
    fn take(&self, now: Instant) -> Option<u64> {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        let second =
            now.saturating_duration_since(*START.get_or_init(|| now)).as_secs() & u64::from(u32::MAX);
        let next = |written: u64| {
            if written >> 32 != second {
                Some(second << 32 | 1)
            } else if written & u64::from(u32::MAX) < u64::from(LINES_PER_SECOND) {
                Some(written + 1)
            } else {
                None
            }
        };
        if self.written.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok() {
            Some(self.left_out.swap(0, Ordering::Relaxed))
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::{Subject, Target};

    use super::*;
    use crate::testing;

    #[test]
    fn a_flood_of_failures_writes_a_few_lines_and_tells_the_rest() {
        let (lines, now) = (Lines::new(), Instant::now());
        let written = (0..1000).filter(|_| lines.take(now).is_some()).count();
        assert_eq!(written, LINES_PER_SECOND as usize);
        let later = now + std::time::Duration::from_secs(2);
        assert_eq!(lines.take(later), Some(1000 - u64::from(LINES_PER_SECOND)));
        assert_eq!(lines.take(later), Some(0));
    }

    #[test]
    fn the_trace_goes_on_under_a_span_of_our_own() {
        let mut call = testing::call(Target::Request(Subject::from_static("a")));
        let before = call.request.trace.clone();
        let _held = Trace.admit(&mut call).unwrap();
        let after = &call.request.trace;
        assert_eq!(before.trace_id().to_string(), after.trace_id().to_string());
        assert_ne!(before.span_id().to_string(), after.span_id().to_string());
    }
}
