//! THE list: every rule that a request passes, in order, with the reason for its place. Only this file knows
//! the order; a new rule is one file under `policies` (or `services`, if it waits) and one line here.

use std::task::{Context, Poll};

use contract::{Error, Pipeline, Reply, Request};
use tower::ServiceBuilder;
use tower_service::Service;

use crate::backend::Backend;
use crate::backend::cancel::Manner;
use crate::policies::authorize::Authorize;
use crate::policies::backpressure::Backpressure;
use crate::policies::breaker::Breaker;
use crate::policies::concurrency::Concurrency;
use crate::policies::measure::Measure;
use crate::policies::overload::Overload;
use crate::policies::rate_limit::RateLimit;
use crate::policies::trace::Trace;
use crate::policies::validate::Validate;
use crate::policy::Enforce;
use crate::route::Call;
use crate::rules::Handle;
use crate::services::deadline::DeadlineLayer;
use crate::services::envelope::EnvelopeLayer;
use crate::services::idempotency::IdempotencyLayer;
use crate::services::retry::RetryLayer;

/// The pipeline in front of `backend`, under the rules that `handle` has.
pub fn pipeline<B: Backend>(handle: Handle, backend: B) -> impl Pipeline {
    let stack = ServiceBuilder::new()
        // Everything below is in the span, refusals too.
        .layer(Enforce(Trace))
        // A refused request is a counted request.
        .layer(Enforce(Measure))
        // Identity and route, before anything that would tell a stranger about limits.
        .layer(Enforce(Authorize))
        // Malformed input spends no tokens.
        .layer(Enforce(Validate))
        // Peer, then route, then total: peer first, or one abuser drains everyone.
        .layer(Enforce(RateLimit))
        // Before anything is held for it: while memory is short, new work only makes it shorter.
        .layer(Enforce(Overload))
        // What a responder said that it will not take now; before a permit is taken for it.
        .layer(Enforce(Backpressure))
        // A permit is the scarcest thing: refuse, never queue. Calls and streams from separate pools.
        .layer(Enforce(Concurrency))
        // One execution a key, with all its attempts; a twin waits for its end, and holds a permit meanwhile.
        .layer(IdempotencyLayer)
        // Outside of the breaker and the deadline: each attempt is judged and timed for itself.
        .layer(RetryLayer)
        // A circuit a route, which sees every attempt, so that a hung backend opens it.
        .layer(Enforce(Breaker))
        // Silence ends here, inside everything that counts faults.
        .layer(DeadlineLayer)
        // What a route's responder wants around a payload, so that every door has it; its no is counted above.
        .layer(EnvelopeLayer)
        .service(Carry(backend));
    Resolve { handle, stack }
}

/// The entrance: finds the route and takes the rules in force, once, so that each rule below works with a
/// typed [`Call`] and no rule looks anything up.
#[derive(Clone, Debug)]
struct Resolve<S> {
    handle: Handle,
    stack: S,
}

impl<S> Service<Request> for Resolve<S>
where
    S: Service<Call, Response = Reply, Error = Error>,
{
    type Response = Reply;
    type Error = Error;
    type Future = S::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let rules = self.handle.load();
        let route = rules.routes.resolve(&mut request);
        self.stack.call(Call { request, route, rules, attempt_due: None, sent_once: false })
    }
}

/// The exit: the backend carries the request out.
#[derive(Clone, Debug)]
struct Carry<B>(B);

impl<B: Backend> Service<Call> for Carry<B> {
    type Response = Reply;
    type Error = Error;
    type Future = B::Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let settings = &call.route.settings;
        let manner = Manner {
            cancel_subject: settings.cancel_subject.clone(),
            replies: settings.replies,
            memory: settings.replies.map(|_| call.rules.load.memory.clone()),
            skips_acknowledgements: settings.profile.skips_acknowledgements(),
        };
        self.0.call_as(call.request, manner)
    }
}

#[cfg(test)]
mod tests;
