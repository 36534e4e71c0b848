//! The envelope: the profile of a route, applied once to what goes to the backend and once to what comes back.
//!
//! A service and not a policy, because a policy learns of an answer and cannot turn it into another one. It stands
//! inside everything that judges answers, so that a router's no is a no to the breaker and in the counts, and inside
//! the retries, so that each attempt is shaped from what the client sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use contract::{Error, Operation, Reply};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::route::{Call, Route};

/// Puts [`Envelope`] in front of a service.
#[derive(Clone, Copy, Debug)]
pub struct EnvelopeLayer;

impl<S> Layer<S> for EnvelopeLayer {
    type Service = Envelope<S>;

    fn layer(&self, inner: S) -> Envelope<S> {
        Envelope { inner }
    }
}

/// Applies the route's profile. Subscriptions and routes without a profile pass untouched.
#[derive(Clone, Debug)]
pub struct Envelope<S> {
    inner: S,
}

impl<S> Service<Call> for Envelope<S>
where
    S: Service<Call, Response = Reply, Error = Error>,
{
    type Response = Reply;
    type Error = Error;
    type Future = EnvelopeFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let profile = &call.route.settings.profile;
        if profile.is_raw() || call.request.target.operation() == Operation::Subscribe {
            return EnvelopeFuture { state: State::Sent { inner: self.inner.call(call), route: None } };
        }
        if let Err(error) = profile.encode(&mut call.request) {
            return EnvelopeFuture { state: State::Refused { error: Some(error) } };
        }
        let route = Some(Arc::clone(&call.route));
        EnvelopeFuture { state: State::Sent { inner: self.inner.call(call), route } }
    }
}

pin_project! {
    /// The future of a call behind a profile.
    pub struct EnvelopeFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        // On its way; the route if its profile reads the answer.
        Sent {
            #[pin]
            inner: F,
            route: Option<Arc<Route>>,
        },
        // Not sent; why is taken when it is told.
        Refused {
            error: Option<Error>,
        },
    }
}

impl<F> Future for EnvelopeFuture<F>
where
    F: Future<Output = Result<Reply, Error>>,
{
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Sent { inner, route } => {
                let answer = std::task::ready!(inner.poll(context));
                Poll::Ready(match route {
                    Some(route) => route.settings.profile.decode(answer),
                    None => answer,
                })
            }
            StateProjection::Refused { error } => {
                Poll::Ready(Err(error.take().expect("a refusal is told once")))
            }
        }
    }
}
