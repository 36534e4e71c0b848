//! Trace: continues the peer's trace with a span of the gateway's own, and writes the one log line of a
//! failure.
//!
//! The span exists when the `debug` level of this target is on; without it a request costs a random number.
//! Refusals and the backend's faults are `debug` (they are counted, and the pool logs its own state);
//! the gateway's own faults are errors.

use contract::{Blame, Error, Kind, Operation, Reply, TraceContext};
use tracing::Span;

use crate::policy::{Held, Policy};
use crate::route::Call;

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
        if error.kind() == Kind::Internal && error.kind().row().blame == Blame::Gateway {
            let (trace_id, operation) = (self.trace.trace_id(), self.operation.name());
            tracing::error!(%trace_id, operation, kind, outcome = fate, cause, "{text}");
        } else {
            tracing::debug!(kind, outcome = fate, cause, "{text}");
        }
    }

    fn abandon(self) {
        let _entered = self.span.enter();
        tracing::debug!("cancelled by its peer");
    }

    fn span(&self) -> Option<&Span> {
        Some(&self.span)
    }
}

#[cfg(test)]
mod tests {
    use contract::{Subject, Target};

    use super::*;
    use crate::testing;

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
