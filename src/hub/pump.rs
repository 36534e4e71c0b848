//! The task of one pattern: opens its subscription, moves messages to all who listen, and ends it when
//! nobody has listened for a while. It waits for the backend and for nobody else.

use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;

use contract::{
    DeliveryStream, Error, Event, Headers, Identity, Kind, Method, Origin, Outcome, PeerAddress, Reply,
    Request, Target, TraceContext,
};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Shared;
use super::clearance::Clearance;
use super::feed::{Feed, Rest};
use crate::backend::Backend;

/// Runs the feed from its opening to its end.
pub(super) async fn run<B: Backend>(shared: Arc<Shared<B>>, feed: Arc<Feed>) {
    let mut pump = Pump { shared, feed, wakers: Vec::new() };
    let outcome = pump.work().await;
    if let Err(error) = &outcome
        && error.kind() != Kind::Draining
    {
        let cause = error.cause().map(tracing::field::display);
        let pattern = pump.feed.pattern.as_str();
        tracing::warn!(pattern, %error, cause, "a shared subscription ended");
    }
    pump.end(&outcome);
}

/// Dropping it ends the feed in any case: no listener waits for a task that is gone.
struct Pump<B: Backend> {
    shared: Arc<Shared<B>>,
    feed: Arc<Feed>,
    /// Who is to be woken; kept for its memory.
    wakers: Vec<Waker>,
}

impl<B: Backend> Pump<B> {
    async fn work(&mut self) -> Result<(), Error> {
        let feed = Arc::clone(&self.feed);
        let mut stopped = pin!(self.shared.stop.clone().cancelled_owned());
        let mut stream = tokio::select! {
            biased;
            () = &mut stopped => return Err(stopping()),
            () = feed.over() => return Ok(()),
            opened = self.open() => opened?,
        };
        self.shared.meters.opened.increment();
        feed.open(&mut self.wakers);
        self.wake();

        let mut clearance = Clearance::default();
        // Armed at first: who asked for it may be gone already.
        let mut timer = pin!(sleep_until(Instant::now()));
        let mut armed = true;
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => return Err(stopping()),
                () = feed.left() => {}
                () = &mut timer, if armed => {}
                event = stream.next() => {
                    match event {
                        Some(Ok(event)) => self.pass_on(&event, &mut clearance),
                        Some(Err(error)) => return Err(error),
                        None => return Ok(()),
                    }
                    // A backend that always has more must not keep this worker from other tasks.
                    tokio::task::coop::consume_budget().await;
                    continue;
                }
            }
            match feed.rest(self.shared.settings.linger) {
                Rest::InUse => armed = false,
                Rest::Until(due) => {
                    timer.as_mut().reset(due);
                    armed = true;
                }
                Rest::Ended => return Ok(()),
            }
        }
    }

    /// Subscribes at the backend, in the name of the gateway: the subscription is nobody's alone.
    async fn open(&self) -> Result<DeliveryStream, Error> {
        let received = Instant::now();
        let deadline = received + self.shared.settings.open_timeout;
        let request = Request {
            target: Target::Subscribe(self.feed.pattern.clone()),
            headers: Headers::new(),
            payload: bytes::Bytes::new(),
            received,
            deadline,
            idempotent: true,
            ordered: false,
            parts: false,
            queue: None,
            trace: TraceContext::start(),
            origin: Arc::clone(&self.shared.origin),
        };
        match timeout_at(deadline, self.shared.backend.call(request)).await {
            Ok(Ok(Reply::Stream(stream))) => Ok(stream),
            Ok(Ok(other)) => {
                let error =
                    Error::new(Kind::Internal, "the backend answered a subscription without a stream");
                Err(error.with_cause(format!("{other:?}")))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let error = Error::new(Kind::TimedOut, "the backend did not open the subscription in time");
                Err(error.with_outcome(Outcome::NotSent))
            }
        }
    }

    fn pass_on(&mut self, event: &Event, clearance: &mut Clearance) {
        match event {
            Event::Delivery(delivery) => {
                let rules = self.shared.handle.load();
                if !clearance.knows(&rules) {
                    // New rules are in force: what is remembered of others is kept only as long as it counts.
                    clearance.retain(|known| self.feed.has_listeners_of(known));
                }
                delivery.charge_to(&rules.load.memory);
                self.shared.relieve(&rules.load.memory, &mut self.wakers);
                let tally = self.feed.hand_out(delivery, &rules, clearance, &mut self.wakers);
                self.shared.meters.count(&tally);
            }
            Event::Gap { lost } => self.feed.gap(*lost, &mut self.wakers),
        }
        self.wake();
    }

    fn end(&mut self, outcome: &Result<(), Error>) {
        self.feed.end(outcome, &mut self.wakers);
        self.shared.forget(&self.feed);
        self.wake();
    }

    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

impl<B: Backend> Drop for Pump<B> {
    fn drop(&mut self) {
        // After a proper end this changes nothing.
        self.end(&Err(Error::new(Kind::Internal, "the subscription's task ended early")));
    }
}

fn stopping() -> Error {
    Error::new(Kind::Draining, "the gateway is stopping")
}

/// Who subscribes for all: the gateway itself. Its connection is none of a door's, which count from 1.
pub(super) fn origin() -> Arc<Origin> {
    let identity = Identity::new("ipc-gateway", Method::Local);
    Arc::new(Origin { door: "hub", identity, address: PeerAddress::Unix, connection: 0 })
}
