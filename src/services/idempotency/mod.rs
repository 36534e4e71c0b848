//! Idempotency: what a peer sends under one key is executed once, and whoever sends it again gets that answer.
//!
//! A service and not a policy, because a twin of what is being executed waits for its end. The execution is a task
//! of its own with all the time of its route, and whoever asked, first or not, waits for it until its own deadline:
//! so a client that lost its connection or was in a hurry finds the answer under its key when it comes back. That is
//! what keys are sent for.
//!
//! Kept is how it ended: an answer, a no of the responder, and also an end of which nobody knows what it did, because
//! to do it again might do it twice. What was not sent is not kept. Answers that are streams, or too large, are not
//! kept either; that they were given is.
//!
//! | file | holds |
//! |---|---|
//! | `key` | the key and the fingerprint of a request |
//! | `entries` | what is being executed and what has ended, bounded in number, bytes and time |
//! | `running` | what an execution holds once whoever asked has left |
//! | `end` | an end, as it is kept and told again |
//! | `shared`, `record`, `bucket` | keys that several gateways share: claims, their form, and what a store has to be |

mod bucket;
mod end;
mod entries;
mod flight;
mod key;
mod record;
mod running;
mod shared;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use contract::{Error, Kind, Operation, Reply};
use futures_util::FutureExt as _;
use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tower_layer::Layer;
use tower_service::Service;
use tracing::Instrument as _;

pub use self::bucket::{Bucket, Put, Stored, Trouble, Work};
pub use self::end::{End, Failure};
use self::entries::{Begin, Ending};
pub use self::entries::{Bounds, Entries, Meters};
use self::flight::Flight;
pub use self::key::{Digest, HEADER, KEY_BYTES_MAX};
use self::running::{Asker, Running};
use self::shared::{Claim, Found};
pub use self::shared::{Shared, SharedSettings, WhenUnavailable};
use crate::route::Call;

/// When to try again what found no room, or no bucket: executions take no longer than a request.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How a route deals with keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencySettings {
    /// How long an end is kept.
    pub window: Duration,
    /// The tenant of peers that have none.
    pub default_tenant: Arc<str>,
}

/// Puts [`Idempotency`] in front of a service.
#[derive(Clone, Copy, Debug)]
pub struct IdempotencyLayer;

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency { inner }
    }
}

/// Executes what has a key once. Everything else passes as it is.
#[derive(Clone, Debug)]
pub struct Idempotency<S> {
    inner: S,
}

impl<S> Service<Call> for Idempotency<S>
where
    S: Service<Call, Response = Reply, Error = Error, Future: Send + 'static> + Clone + Send + 'static,
{
    type Response = Reply;
    type Error = Error;
    type Future = IdempotencyFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let state = match name(&mut call) {
            Ok(None) => State::Passed { inner: self.inner.call(call) },
            Ok(Some(Name { key, window })) => self.keyed(call, key, window),
            Err(error) => told(Err(error)),
        };
        IdempotencyFuture { state }
    }
}

impl<S> Idempotency<S>
where
    S: Service<Call, Response = Reply, Error = Error, Future: Send + 'static> + Clone + Send + 'static,
{
    fn keyed(&mut self, call: Call, key: Digest, window: Duration) -> State<S::Future> {
        let deadline = call.request.deadline;
        if deadline <= call.request.received {
            // Not even begun; the deadline rule says so.
            return State::Passed { inner: self.inner.call(call) };
        }
        let entries = Arc::clone(&call.rules.idempotency);
        let fingerprint = key::fingerprint(&call.request);
        match entries.begin(key, fingerprint, window) {
            Begin::First(flight) => {
                let (asker, running) = running::sides(&call);
                let answer = self.execute(call, flight, fingerprint, running);
                State::Waiting { answer: Box::pin(until(outcome_of(answer, asker), deadline)) }
            }
            Begin::Twin(ending) => {
                let waiting = Waiting::of(entries);
                State::Waiting { answer: Box::pin(until(end_of(ending, waiting), deadline)) }
            }
            Begin::Over(end) => told(end.tell()),
            Begin::Conflict => told(Err(conflict())),
            Begin::Full => {
                let text = "as many requests with idempotency keys are being executed as may be at once";
                told(Err(Error::new(Kind::Overloaded, text).with_retry_after(RETRY_AFTER)))
            }
        }
    }

    /// Executes it in a task of its own, which ends with the execution and with nothing else.
    fn execute(
        &mut self,
        mut call: Call,
        flight: Flight,
        fingerprint: Digest,
        running: Running,
    ) -> oneshot::Receiver<Result<Reply, Error>> {
        call.sent_once = true;
        call.request.deadline = call.request.received + call.route.settings.timeout;
        let (sender, receiver) = oneshot::channel();
        if let Some(shared) = call.rules.idempotency.shared().cloned() {
            let execution =
                execute_shared(self.inner.clone(), call, flight, fingerprint, shared, (running, sender));
            tokio::spawn(execution.in_current_span());
            return receiver;
        }
        flight.executes();
        // Called here and not in the task, so that requests keep their order.
        let answer = self.inner.call(call);
        let execution = async move {
            let outcome = answer.await;
            flight.end(End::of(&outcome));
            drop(running);
            // Whoever asked may have gone.
            drop(sender.send(outcome));
        };
        tokio::spawn(execution.in_current_span());
        receiver
    }
}

/// Executes it if no other gateway does or did, and answers to whoever was first here.
async fn execute_shared<S>(
    service: S,
    call: Call,
    mut flight: Flight,
    fingerprint: Digest,
    shared: Shared,
    (running, sender): (Running, oneshot::Sender<Result<Reply, Error>>),
) where
    S: Service<Call, Response = Reply, Error = Error>,
{
    let entries = flight.entries();
    let meters = &entries.meters;
    let key = flight.key();
    let found = shared.claim(key, fingerprint, || sender.is_closed() && flight.is_abandoned()).await;
    let outcome = match found {
        Ok(Found::Claim(claim)) => execute_under(service, call, flight, &shared, Some(claim)).await,
        Ok(Found::End(end, left)) => {
            meters.shared.increment();
            let outcome = end.tell();
            flight.end_for(end, left);
            outcome
        }
        Ok(Found::Conflict) => {
            meters.conflicts.increment();
            flight.refuse(conflict())
        }
        Ok(Found::Unwanted) => return,
        Err(trouble) => {
            meters.store_failures.increment();
            shared.tell(&trouble);
            match shared.when_unavailable() {
                WhenUnavailable::Execute => execute_under(service, call, flight, &shared, None).await,
                WhenUnavailable::Refuse => {
                    let text = "the store of idempotency keys cannot be reached";
                    let error = Error::new(Kind::Unavailable, text).with_retry_after(RETRY_AFTER);
                    flight.refuse(error.with_cause(trouble))
                }
            }
        }
    };
    drop(running);
    // Whoever asked may have gone.
    drop(sender.send(outcome));
}

/// Executes it, and leaves its end where the claim was.
async fn execute_under<S>(
    mut service: S,
    mut call: Call,
    flight: Flight,
    shared: &Shared,
    mut claim: Option<Claim>,
) -> Result<Reply, Error>
where
    S: Service<Call, Response = Reply, Error = Error>,
{
    let entries = flight.entries();
    let failures = &entries.meters.store_failures;
    // The time until here was the bucket's, or another's.
    call.request.received = Instant::now();
    call.request.deadline = call.request.received + call.route.settings.timeout;
    flight.executes();
    // A panic ends the execution for every gateway.
    let answer = AssertUnwindSafe(service.call(call)).catch_unwind();
    let answered = match &mut claim {
        Some(claim) => shared.hold(claim, failures, answer).await,
        None => answer.await,
    };
    let outcome = answered.unwrap_or_else(|_| Err(broken_off()));
    let end = End::of(&outcome);
    if let Some(claim) = claim
        && let Err(unrecorded) = shared.record(claim, &end, flight.window()).await
    {
        failures.increment();
        shared.tell(&unrecorded.trouble);
        if let Some(word) = unrecorded.again {
            let (shared, entries) = (shared.clone(), Arc::clone(&entries));
            let later = async move { shared.record_later(word, &entries.meters.store_failures).await };
            tokio::spawn(later.in_current_span());
        }
    }
    flight.end(end);
    outcome
}

/// A request that is to be executed once.
struct Name {
    key: Digest,
    window: Duration,
}

/// Finds the key, and takes its header away unless the route passes it on.
fn name(call: &mut Call) -> Result<Option<Name>, Error> {
    let Some(settings) = &call.route.settings.idempotency else { return Ok(None) };
    if call.request.target.operation() == Operation::Subscribe {
        return Ok(None);
    }
    let key = key::of(call, &settings.default_tenant)?;
    let window = settings.window;
    if call.request.headers.get(HEADER).is_some() && !call.route.passes(HEADER) {
        call.request.headers.retain(|name, _| !name.eq_ignore_ascii_case(HEADER));
    }
    Ok(key.map(|key| Name { key, window }))
}

/// Waits for an answer until `deadline`, without which it goes on.
async fn until(
    answer: impl Future<Output = Result<Reply, Error>>,
    deadline: Instant,
) -> Result<Reply, Error> {
    timeout_at(deadline, answer).await.unwrap_or_else(|_| Err(no_answer()))
}

async fn outcome_of(answer: oneshot::Receiver<Result<Reply, Error>>, _asker: Asker) -> Result<Reply, Error> {
    answer.await.unwrap_or_else(|_| Err(broken_off()))
}

async fn end_of(mut ending: Ending, _waiting: Waiting) -> Result<Reply, Error> {
    let end = ending.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
    end.map_or_else(|| Err(broken_off()), |end| end.tell())
}

fn no_answer() -> Error {
    let text = "no answer within the deadline; when it comes, it is kept under the idempotency key";
    Error::new(Kind::TimedOut, text)
}

fn conflict() -> Error {
    Error::new(Kind::Conflict, "the idempotency key was used with another request")
}

fn broken_off() -> Error {
    Error::new(Kind::Internal, "the request with this idempotency key was broken off")
}

/// A request that waits for its twin, for as long as it does.
struct Waiting(Arc<Entries>);

impl Waiting {
    fn of(entries: Arc<Entries>) -> Self {
        entries.meters.waiting.add(1);
        Self(entries)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.meters.waiting.add(-1);
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

pin_project! {
    /// The future of a call that may have a key.
    pub struct IdempotencyFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        // It has none.
        Passed {
            #[pin]
            inner: F,
        },
        // It waits for an execution, its own or another's.
        Waiting {
            answer: Answer,
        },
        // It was executed before, or will not be; taken when it is told.
        Told {
            outcome: Option<Result<Reply, Error>>,
        },
    }
}

fn told<F>(outcome: Result<Reply, Error>) -> State<F> {
    State::Told { outcome: Some(outcome) }
}

impl<F> Future for IdempotencyFuture<F>
where
    F: Future<Output = Result<Reply, Error>>,
{
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Passed { inner } => inner.poll(context),
            StateProjection::Waiting { answer } => answer.as_mut().poll(context),
            StateProjection::Told { outcome } => Poll::Ready(outcome.take().expect("an answer is told once")),
        }
    }
}
