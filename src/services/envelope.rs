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

use crate::profiles::{Profile, beamline_results};
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

/// Applies the route's profile. Routes without one pass untouched, and so do subscriptions unless it is for them.
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
        if profile.is_raw() {
            return EnvelopeFuture { state: State::Sent { inner: self.inner.call(call), reader: None } };
        }
        if call.request.target.operation() == Operation::Subscribe {
            let reader = Reader::of_stream(profile, &call);
            return EnvelopeFuture { state: State::Sent { inner: self.inner.call(call), reader } };
        }
        if let Err(error) = profile.encode(&mut call.request) {
            return EnvelopeFuture { state: State::Refused { error: Some(error) } };
        }
        let reader = Some(Reader::Answer(Arc::clone(&call.route)));
        EnvelopeFuture { state: State::Sent { inner: self.inner.call(call), reader } }
    }
}

/// Who reads what comes back.
enum Reader {
    /// The route's profile.
    Answer(Arc<Route>),
    /// Its profile for streams, with what this one wants to hear.
    Results(Arc<Route>, Box<beamline_results::Interest>),
}

impl Reader {
    fn of_stream(profile: &Profile, call: &Call) -> Option<Self> {
        let Profile::BeamlineResultsV1(settings) = profile else { return None };
        let interest = Box::new(settings.interest(&call.request));
        Some(Self::Results(Arc::clone(&call.route), interest))
    }

    fn read(self, answer: Result<Reply, Error>) -> Result<Reply, Error> {
        match self {
            Self::Answer(route) => route.settings.profile.decode(answer),
            Self::Results(route, interest) => {
                beamline_results::decode(answer, *interest, Arc::clone(&route.results))
            }
        }
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
        // On its way; who reads the answer if anybody does, taken when it is there.
        Sent {
            #[pin]
            inner: F,
            reader: Option<Reader>,
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
            StateProjection::Sent { inner, reader } => {
                let answer = std::task::ready!(inner.poll(context));
                Poll::Ready(match reader.take() {
                    Some(reader) => reader.read(answer),
                    None => answer,
                })
            }
            StateProjection::Refused { error } => {
                Poll::Ready(Err(error.take().expect("a refusal is told once")))
            }
        }
    }
}
