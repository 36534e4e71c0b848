//! The deadline: silence becomes `timed_out`, inside everything that counts faults.
//!
//! One timer a call, made only when the call did not answer at once: an answer that is ready costs no timer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use contract::{Error, Kind, Outcome, Reply};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

use crate::route::Call;

/// Puts [`Deadline`] in front of a service.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner }
    }
}

/// Ends a call at its deadline by dropping it. For a stream, the deadline is that of its beginning.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
}

impl<S> Service<Call> for Deadline<S>
where
    S: Service<Call, Response = Reply, Error = Error>,
{
    type Response = Reply;
    type Error = Error;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let deadline = call.request.deadline;
        // Already past: it is not sent at all.
        let inner = (call.request.received < deadline).then(|| self.inner.call(call));
        DeadlineFuture { inner, deadline, timer: None }
    }
}

pin_project! {
    /// The future of a call with a deadline.
    pub struct DeadlineFuture<F> {
        #[pin]
        inner: Option<F>,
        deadline: Instant,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl<F> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Reply, Error>>,
{
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            let error = Error::new(Kind::TimedOut, "the deadline had passed before the request was sent");
            return Poll::Ready(Err(error.with_outcome(Outcome::NotSent)));
        };
        if let Poll::Ready(outcome) = inner.as_mut().poll(context) {
            return Poll::Ready(outcome);
        }
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(*this.deadline)));
        }
        let timer = this.timer.as_pin_mut().expect("the timer was set above");
        std::task::ready!(timer.poll(context));
        // Once more: the time may have come between the two looks, and what the backend knows of its end, as that
        // nothing was sent, says more than silence.
        if let Poll::Ready(outcome) = inner.poll(context) {
            return Poll::Ready(outcome);
        }
        // Dropped here, not with this future: its slot is free before the peer hears of it.
        this.inner.set(None);
        Poll::Ready(Err(Error::new(Kind::TimedOut, "no answer within the deadline")))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contract::{Subject, Target};
    use tower::ServiceExt;

    use super::*;
    use crate::testing;

    fn call(timeout: Duration) -> Call {
        let mut call = testing::call(Target::Request(Subject::from_static("a")));
        call.request.deadline = call.request.received + timeout;
        call
    }

    fn answers_after(wait: Duration) -> Deadline<impl Service<Call, Response = Reply, Error = Error>> {
        DeadlineLayer.layer(tower::service_fn(move |_| async move {
            tokio::time::sleep(wait).await;
            Ok(Reply::Accepted)
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_passes() {
        let service = answers_after(Duration::from_millis(99));
        assert!(service.oneshot(call(Duration::from_millis(100))).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_timed_out_and_its_fate_unknown() {
        let service = answers_after(Duration::from_secs(9));
        let error = service.oneshot(call(Duration::from_millis(100))).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::TimedOut, Outcome::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_past_its_deadline_is_not_sent() {
        let service = answers_after(Duration::ZERO);
        let error = service.oneshot(call(Duration::ZERO)).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::TimedOut, Outcome::NotSent));
    }
}
