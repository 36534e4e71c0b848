//! The shape of a rule, and the one layer and one future that all rules share.
//!
//! Most rules do the same thing: admit or refuse *without waiting*, then learn how it ended. So a rule is a
//! [`Policy`] (a function that admits) and a [`Held`] (what it holds until the end), and nothing else; what
//! waits (a deadline, a retry) is a service of its own under `services`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use contract::{Error, Reply};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::route::Call;

/// A rule: admits a call or refuses it, at once.
pub trait Policy: Clone + Send + Sync + 'static {
    /// What the rule holds while the call runs: a permit, a start time, or `()`.
    type Held: Held;

    /// Admits the call, perhaps changing it, or refuses it. Never waits, never allocates.
    fn admit(&self, call: &mut Call) -> Result<Self::Held, Error>;
}

/// What a rule holds from its admission until the answer. Dropping gives everything back; the methods are
/// for rules that want to know how it ended.
pub trait Held: Send + 'static {
    /// The call was answered. For a stream, what must live as long as it does moves into it.
    fn settle(self, outcome: Result<&mut Reply, &Error>);

    /// The call was dropped unanswered: its peer took it back or went away.
    /// It is given back after this, and after everything inside was dropped, which so may go on under a hold of its own
    /// without a moment in which there is none.
    fn abandon(&mut self) {}

    /// The span that everything below runs in, if the rule opens one.
    fn span(&self) -> Option<&tracing::Span> {
        None
    }
}

impl Held for () {
    fn settle(self, _: Result<&mut Reply, &Error>) {}
}

/// The layer that puts a [`Policy`] in front of a service.
#[derive(Clone, Debug)]
pub struct Enforce<P>(pub P);

impl<S, P: Clone> Layer<S> for Enforce<P> {
    type Service = Enforced<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Enforced { inner, policy: self.0.clone() }
    }
}

/// A service behind a [`Policy`].
#[derive(Clone, Debug)]
pub struct Enforced<S, P> {
    inner: S,
    policy: P,
}

impl<S, P> Service<Call> for Enforced<S, P>
where
    S: Service<Call, Response = Reply, Error = Error>,
    P: Policy,
{
    type Response = Reply;
    type Error = Error;
    type Future = Enforcing<S::Future, P::Held>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Always ready, down to the backend: a refusal is an answer, not a wait.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let state = match self.policy.admit(&mut call) {
            Ok(held) => {
                let inner = {
                    // A backend may begin its work within the call.
                    let _entered = held.span().map(tracing::Span::enter);
                    self.inner.call(call)
                };
                State::Admitted { inner, held: Some(held) }
            }
            Err(error) => State::Refused { error: Some(error) },
        };
        Enforcing { state }
    }
}

pin_project! {
    /// The future of a call behind a [`Policy`].
    pub struct Enforcing<F, H: Held> {
        #[pin]
        state: State<F, H>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, H: Held> {
        // The rule let it through; what it holds is taken when the call is answered.
        Admitted {
            #[pin]
            inner: F,
            held: Option<H>,
        },
        // The rule refused it; why is taken when it is told.
        Refused {
            error: Option<Error>,
        },
    }

    impl<F, H: Held> PinnedDrop for State<F, H> {
        fn drop(this: Pin<&mut Self>) {
            if let StateProjection::Admitted { held, .. } = this.project()
                && let Some(held) = held
            {
                held.abandon();
            }
        }
    }
}

impl<F, H> Future for Enforcing<F, H>
where
    F: Future<Output = Result<Reply, Error>>,
    H: Held,
{
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Admitted { inner, held } => {
                let mut outcome = {
                    let _entered = held.as_ref().and_then(H::span).map(tracing::Span::enter);
                    std::task::ready!(inner.poll(context))
                };
                let held = held.take().expect("a call is answered once");
                held.settle(outcome.as_mut().map_err(|error| &*error));
                Poll::Ready(outcome)
            }
            StateProjection::Refused { error } => {
                Poll::Ready(Err(error.take().expect("a refusal is told once")))
            }
        }
    }
}
