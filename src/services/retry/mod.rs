//! Retry: sends an idempotent request again when the backend could not be reached or an attempt got no answer.
//!
//! A service and not a policy, because it waits between attempts. Each attempt passes the breaker and has a timer of
//! its own. Only what the peer calls idempotent is ever sent twice; never a subscription, whose peer subscribes again
//! by itself, and never what must keep its order; and what has an idempotency key only as long as it has not
//! left the gateway. `no_responders` is not tried again: NATS itself told within a round
//! trip that nobody is there, and a circuit that is open is not asked twice.
//!
//! Pauses are random between nothing and a bound that doubles ("full jitter", Brooker, "Exponential Backoff And
//! Jitter", AWS Architecture Blog, 2015), so that those who failed together do not come back together.

mod budget;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use contract::{Error, Kind, Outcome, Reply, Target};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_layer::Layer;
use tower_service::Service;

pub use self::budget::Budget;
use crate::route::{Call, Route};

/// By how much a pause may take longer than asked: tokio's timers round up to the next millisecond.
const TIMER_GRAIN: Duration = Duration::from_millis(1);

/// How a route's requests are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Attempts after the first, at least 1.
    pub attempts_max: u32,
    /// What an attempt that another can follow may take; `None` is all the time that is left, so that only an
    /// unreachable backend is tried again.
    pub attempt_timeout: Option<Duration>,
    /// Longest pause before the second attempt; it doubles with each.
    pub backoff: Duration,
    /// Longest pause at all.
    pub backoff_max: Duration,
    /// Further attempts that a hundred requests earn, 1 to 100.
    pub budget_percent: u32,
    /// Further attempts that can be saved up.
    pub budget_max: u32,
}

impl RetrySettings {
    /// The longest pause after so many attempts.
    fn pause_max(&self, attempts: u32) -> Duration {
        let doubled = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.backoff.saturating_mul(doubled).min(self.backoff_max)
    }
}

/// Puts [`Retry`] in front of a service.
#[derive(Clone, Copy, Debug)]
pub struct RetryLayer;

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry { inner }
    }
}

/// Tries again what may be tried again. Everything else passes as it is.
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
}

impl<S> Service<Call> for Retry<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone,
{
    type Response = Reply;
    type Error = Error;
    type Future = RetryFuture<S>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> RetryFuture<S> {
        let settings = call.route.settings.retry.filter(|_| may_be_sent_twice(&call));
        let spare = settings.map(|settings| {
            call.route.retries.earn(&settings);
            // Nothing here is copied but the headers: subject and payload are shared.
            let spare =
                Spare { service: self.inner.clone(), call: call.clone(), settings, attempts: 1, sent: false };
            if let Some(timeout) = settings.attempt_timeout {
                call.limit_attempt(Instant::now() + timeout);
            }
            spare
        });
        RetryFuture { attempt: Some(self.inner.call(call)), pause: None, spare }
    }
}

fn may_be_sent_twice(call: &Call) -> bool {
    let request = &call.request;
    request.idempotent && !request.ordered && !matches!(request.target, Target::Subscribe(_))
}

/// What another attempt needs.
#[derive(Debug)]
struct Spare<S> {
    service: S,
    call: Call,
    settings: RetrySettings,
    /// Attempts begun.
    attempts: u32,
    /// Whether one of them may have reached a responder.
    sent: bool,
}

impl<S> Spare<S> {
    fn route(&self) -> &Arc<Route> {
        &self.call.route
    }

    /// How long to wait before another attempt; `None` is that there is none.
    fn pause(&self, error: &Error, now: Instant) -> Option<Duration> {
        let worth_it = matches!(error.kind(), Kind::Unavailable | Kind::TimedOut);
        if self.call.sent_once && error.outcome() != Outcome::NotSent {
            return None;
        }
        if !worth_it || self.attempts > self.settings.attempts_max {
            return None;
        }
        let pause = self.settings.pause_max(self.attempts).mul_f64(fastrand::f64());
        if now + pause + TIMER_GRAIN >= self.call.request.deadline {
            return None;
        }
        self.route().retries.spend().then_some(pause)
    }
}

impl<S> Spare<S>
where
    S: Service<Call, Response = Reply, Error = Error>,
{
    fn again(&mut self, now: Instant) -> S::Future {
        self.attempts += 1;
        let mut call = self.call.clone();
        if let Some(timeout) = self.settings.attempt_timeout {
            if self.attempts > self.settings.attempts_max {
                // None can follow, so it has what is left; whether that was enough, the breaker must know.
                call.attempt_due = Some(now + timeout);
            } else {
                call.limit_attempt(now + timeout);
            }
        }
        self.service.call(call)
    }
}

pin_project! {
    /// The future of a call that may be tried again.
    pub struct RetryFuture<S: Service<Call>> {
        // `None` between two attempts.
        #[pin]
        attempt: Option<S::Future>,
        #[pin]
        pause: Option<Sleep>,
        // `None` for what is never sent twice.
        spare: Option<Spare<S>>,
    }
}

impl<S> Future for RetryFuture<S>
where
    S: Service<Call, Response = Reply, Error = Error>,
{
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let Some(attempt) = this.attempt.as_mut().as_pin_mut() {
                let outcome = ready!(attempt.poll(context));
                let Some(spare) = this.spare else { return Poll::Ready(outcome) };
                if spare.attempts > 1 {
                    spare.route().retries.ended(outcome.is_ok());
                }
                let Err(error) = outcome else { return Poll::Ready(outcome) };
                spare.sent |= error.outcome() != Outcome::NotSent;
                let Some(pause) = spare.pause(&error, Instant::now()) else {
                    // The last attempt may not have left the gateway, and an earlier one have happened.
                    let hides_one = spare.sent && error.outcome() == Outcome::NotSent;
                    return Poll::Ready(Err(if hides_one {
                        error.with_outcome(Outcome::Unknown)
                    } else {
                        error
                    }));
                };
                tracing::debug!(
                    kind = error.kind().code(),
                    attempts = spare.attempts,
                    ?pause,
                    "trying again"
                );
                this.attempt.set(None);
                this.pause.set(Some(sleep(pause)));
            }
            let pause = this.pause.as_mut().as_pin_mut().expect("between two attempts there is a pause");
            ready!(pause.poll(context));
            this.pause.set(None);
            let spare = this.spare.as_mut().expect("what pauses can be tried again");
            this.attempt.set(Some(spare.again(Instant::now())));
        }
    }
}

#[cfg(test)]
mod tests;
