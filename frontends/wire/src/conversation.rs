//! What a connection of messages with ids does, whatever form they have and whatever carries them: asks the
//! pipeline, answers in any order, keeps subscriptions, cancels.
//!
//! The door decodes bytes into [`Inbound`] and hands them to [`Conversation::hear`]; it gets [`Outbound`]s to
//! encode from there and from the two polls. Everything happens inside the door's own task: no task a
//! question, and dropping the conversation drops everything it holds. Answers come before deliveries, because
//! the door takes the former first and the latter only while it has room.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use contract::{
    Charge, Delivery, Error, Event, Gate, Kind, Message, Origin, Outcome, Pipeline, Reply, Request, Target,
    TraceContext,
};
use tokio::time::Instant;

use crate::inflight::{InFlight, Panicked, Started};
use crate::message::{Id, Inbound, Limits, Outbound, Question};
use crate::streams::{Streams, Yielded};

/// Why a request is refused that could become one stream too many.
const TOO_MANY_ANSWERS: &str = "this connection is at its limit of answers that are streams";

/// The questions in flight and the subscriptions of one connection.
#[derive(Debug)]
pub struct Conversation<P: Pipeline> {
    gate: Gate<P>,
    origin: Arc<Origin>,
    limits: Arc<Limits>,
    in_flight: InFlight<P::Future>,
    /// What is in each slot of `in_flight`.
    asked: Vec<Option<Asked>>,
    ids: HashMap<Id, Place>,
    streams: Streams<Answering>,
    /// Subscriptions in flight: they will be streams.
    subscribing: usize,
    /// Streams that are the answers to requests.
    answering: usize,
    /// Once it drains, what a stream that comes to be is answered with instead.
    draining: Option<Duration>,
}

/// Where a question with an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Slot(usize),
    Stream,
    /// A stream that is the answer to a request.
    Answer,
}

/// What a stream answers.
#[derive(Clone, Debug)]
struct Answering {
    id: Id,
    /// Whether its deliveries are the parts of one answer.
    parts: bool,
}

/// A question in flight.
#[derive(Debug)]
struct Asked {
    id: Option<Id>,
    what: What,
    /// The payload's share of the byte budget, until the answer.
    _charge: Option<Charge>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Publish,
    Request,
    Subscribe,
}

impl<P: Pipeline> Conversation<P> {
    /// An empty conversation of a peer.
    pub fn new(gate: Gate<P>, origin: Arc<Origin>, limits: Arc<Limits>) -> Self {
        Self {
            in_flight: InFlight::new(limits.in_flight_max),
            asked: Vec::new(),
            ids: HashMap::new(),
            streams: Streams::new(Arc::clone(&gate.meters)),
            subscribing: 0,
            answering: 0,
            draining: None,
            gate,
            origin,
            limits,
        }
    }

    /// Questions in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether another question may be heard; if not, the door stops reading until there is room.
    pub fn has_room(&self) -> bool {
        !self.in_flight.is_full()
    }

    /// Subscriptions open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Questions that are answered by streams, which have not ended yet.
    pub fn answering(&self) -> usize {
        self.answering
    }

    /// Whether nothing is in flight and no subscription is open.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.streams.is_empty()
    }

    /// Takes what the peer said, `received` at that time, its bytes charged to `charge`. What can be answered
    /// at once is told at once. The caller has looked that there [is room](Self::has_room).
    pub fn hear(
        &mut self,
        inbound: Inbound,
        received: Instant,
        charge: Option<Charge>,
        tell: &mut impl FnMut(Outbound<'_>),
    ) {
        match inbound {
            Inbound::Hello { id } => {
                tell(Outbound::Welcome { id: id.as_ref(), limits: &Arc::clone(&self.limits) });
            }
            Inbound::Ping { id, payload } => tell(Outbound::Pong { id: id.as_ref(), payload: &payload }),
            Inbound::Publish { id, subject, question } => {
                let target = Target::Publish(subject);
                self.ask(id, What::Publish, target, question, received, charge, tell);
            }
            Inbound::Request { id, subject, question } => {
                // Any of them may become a stream: better told before it is sent than afterwards.
                if self.answering >= self.limits.streams_max {
                    let error = Error::new(Kind::Overloaded, TOO_MANY_ANSWERS);
                    return tell(Outbound::Error { id: Some(&id), error: &error });
                }
                let target = Target::Request(subject);
                self.ask(Some(id), What::Request, target, question, received, charge, tell);
            }
            Inbound::Subscribe { id, pattern, question } => {
                if self.streams.len() + self.subscribing >= self.limits.streams_max {
                    let error =
                        Error::new(Kind::Overloaded, "this connection is at its limit of subscriptions");
                    return tell(Outbound::Error { id: Some(&id), error: &error });
                }
                let target = Target::Subscribe(pattern);
                self.ask(Some(id), What::Subscribe, target, question, received, charge, tell);
            }
            Inbound::Unsubscribe { id } => self.unsubscribe(&id, tell),
            Inbound::Cancel { id } => self.cancel(&id, tell),
        }
    }

    /// Tells the answers that are ready; says whether there were any. `tell` must take them all.
    pub fn poll_answers(&mut self, context: &mut Context<'_>, tell: &mut impl FnMut(Outbound<'_>)) -> bool {
        let mut moved = false;
        while let Poll::Ready((slot, outcome)) = self.in_flight.poll_next(context) {
            self.gate.meters.in_flight.add(-1);
            let asked = self.asked[slot].take().expect("a slot answers once");
            self.settle(asked, outcome, tell);
            moved = true;
        }
        moved
    }

    /// Tells one thing that a subscription yielded; says whether there was one. The door asks again while it
    /// has room for more; what it does not take waits in the subscription's own bounded queue. `tell` says whether it
    /// told a part of an answer as it is: if not, it told an error in its place, and the answer is over.
    pub fn poll_pushes(
        &mut self,
        context: &mut Context<'_>,
        tell: &mut impl FnMut(Outbound<'_>) -> bool,
    ) -> bool {
        let Poll::Ready((Answering { id, parts }, yielded)) = self.streams.poll_next(context) else {
            return false;
        };
        match yielded {
            Yielded::Event(Event::Gap { lost }) => {
                tell(Outbound::Gap { id: &id, lost });
            }
            Yielded::Event(Event::Delivery(delivery)) if parts => {
                if !tell(Outbound::Reply { id: &id, message: &part(&delivery), more: true }) {
                    self.end(&id);
                }
            }
            Yielded::Event(Event::Delivery(delivery)) => {
                tell(Outbound::Delivery { id: &id, delivery: &delivery });
            }
            Yielded::Complete => {
                self.forget(&id);
                tell(Outbound::End { id: &id });
            }
            Yielded::Failed(error) => {
                self.forget(&id);
                tell(Outbound::Error { id: Some(&id), error: &error });
            }
        }
        true
    }

    /// Says goodbye: subscriptions end as `draining`, also those in flight, and other questions go on, with answers
    /// that are streams. The door reads nothing more.
    pub fn begin_drain(&mut self, retry_after: Duration, tell: &mut impl FnMut(Outbound<'_>)) {
        self.draining = Some(retry_after);
        tell(Outbound::GoAway { retry_after });
        let error = draining(retry_after);
        let subscriptions = self.streams.keys().filter(|answering| !answering.parts);
        let open: Vec<Id> = subscriptions.map(|answering| answering.id.clone()).collect();
        for id in open {
            self.end(&id);
            tell(Outbound::Error { id: Some(&id), error: &error });
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one question, taken apart once")]
    fn ask(
        &mut self,
        id: Option<Id>,
        what: What,
        target: Target,
        question: Question,
        received: Instant,
        charge: Option<Charge>,
        tell: &mut impl FnMut(Outbound<'_>),
    ) {
        if let Some(id) = &id
            && self.ids.contains_key(id)
        {
            let error = Error::new(Kind::Conflict, "this id is in use on this connection");
            return tell(Outbound::Error { id: Some(id), error: &error });
        }
        let request = Request {
            target,
            headers: question.headers,
            payload: question.payload,
            received,
            deadline: self.gate.deadline(received, question.timeout),
            idempotent: question.idempotent,
            ordered: false,
            parts: true,
            queue: question.queue,
            trace: question.trace.unwrap_or_else(TraceContext::start),
            origin: Arc::clone(&self.origin),
        };
        let asked = Asked { id, what, _charge: charge };
        let pipeline = &mut self.gate.pipeline;
        let started = match catch_unwind(AssertUnwindSafe(|| pipeline.call(request))) {
            Ok(future) => self.in_flight.start(future).ok().expect("the door looked that there is room"),
            Err(panic) => Started::Over(Err(Panicked::of(&*panic))),
        };
        self.subscribing += usize::from(what == What::Subscribe);
        match started {
            Started::Over(outcome) => self.settle(asked, outcome, tell),
            Started::Running(slot) => {
                self.gate.meters.in_flight.add(1);
                if let Some(id) = &asked.id {
                    self.ids.insert(id.clone(), Place::Slot(slot));
                }
                if self.asked.len() <= slot {
                    self.asked.resize_with(slot + 1, || None);
                }
                self.asked[slot] = Some(asked);
            }
        }
    }

    /// Answers a question that is over.
    fn settle(
        &mut self,
        asked: Asked,
        outcome: Result<Result<Reply, Error>, Panicked>,
        tell: &mut impl FnMut(Outbound<'_>),
    ) {
        let outcome = outcome.unwrap_or_else(|panic| {
            self.gate.meters.panics_total.increment();
            tracing::error!(door = self.origin.door, "a request panicked: {panic}");
            Err(Error::new(Kind::Internal, "a fault of the gateway").with_cause(panic))
        });
        let Asked { id, what, .. } = asked;
        self.subscribing -= usize::from(what == What::Subscribe);
        let Some(id) = id else {
            // A publish that nobody waits for: only its failure is told.
            if let Err(error) = outcome {
                tell(Outbound::Error { id: None, error: &error });
            }
            return;
        };
        match outcome {
            Ok(Reply::Stream(_)) if self.draining.is_some() && what == What::Subscribe => {
                let error = draining(self.draining.unwrap_or_default());
                tell(Outbound::Error { id: Some(&id), error: &error });
            }
            // Looked at again: several that were in flight together may all have become streams.
            Ok(Reply::Stream(_)) if what == What::Request && self.answering >= self.limits.streams_max => {
                let error = Error::new(Kind::Overloaded, TOO_MANY_ANSWERS).with_outcome(Outcome::Unknown);
                tell(Outbound::Error { id: Some(&id), error: &error });
            }
            Ok(Reply::Stream(deliveries)) => {
                let parts = what != What::Subscribe;
                if !parts {
                    tell(Outbound::Accepted { id: &id });
                }
                self.answering += usize::from(parts);
                self.ids.insert(id.clone(), if parts { Place::Answer } else { Place::Stream });
                return self.streams.open(Answering { id, parts }, deliveries);
            }
            Ok(Reply::Accepted) => tell(Outbound::Accepted { id: &id }),
            Ok(Reply::Message(message)) => tell(Outbound::Reply { id: &id, message: &message, more: false }),
            Err(error) => tell(Outbound::Error { id: Some(&id), error: &error }),
        }
        self.ids.remove(&id);
    }

    fn unsubscribe(&mut self, id: &Id, tell: &mut impl FnMut(Outbound<'_>)) {
        match self.ids.get(id) {
            Some(Place::Stream) => {
                self.end(id);
                tell(Outbound::End { id });
            }
            Some(Place::Slot(slot)) if self.is_subscription(*slot) => {
                let slot = *slot;
                self.take_back(slot);
                tell(Outbound::End { id });
            }
            _ => {
                let error = Error::new(Kind::NotFound, "no subscription with this id is open");
                tell(Outbound::Error { id: Some(id), error: &error });
            }
        }
    }

    fn cancel(&mut self, id: &Id, tell: &mut impl FnMut(Outbound<'_>)) {
        match self.ids.get(id) {
            Some(Place::Slot(slot)) => {
                let slot = *slot;
                self.take_back(slot);
            }
            Some(Place::Stream | Place::Answer) => self.end(id),
            // Its answer is on the way already, and is the one answer it gets.
            None => return,
        }
        let error = Error::new(Kind::Cancelled, "cancelled").with_outcome(Outcome::Unknown);
        tell(Outbound::Error { id: Some(id), error: &error });
    }

    fn is_subscription(&self, slot: usize) -> bool {
        self.asked[slot].as_ref().is_some_and(|asked| asked.what == What::Subscribe)
    }

    /// Drops a question in flight.
    fn take_back(&mut self, slot: usize) {
        self.in_flight.cancel(slot);
        self.gate.meters.in_flight.add(-1);
        if let Some(Asked { id, what, .. }) = self.asked[slot].take() {
            self.subscribing -= usize::from(what == What::Subscribe);
            if let Some(id) = id {
                self.ids.remove(&id);
            }
        }
    }

    /// Drops a stream at once, with all it holds.
    fn end(&mut self, id: &Id) {
        self.streams.end(|answering| answering.id == *id);
        self.forget(id);
    }

    fn forget(&mut self, id: &Id) {
        if self.ids.remove(id) == Some(Place::Answer) {
            self.answering -= 1;
        }
    }
}

impl<P: Pipeline> Drop for Conversation<P> {
    fn drop(&mut self) {
        let cancelled = self.in_flight.len();
        if cancelled > 0 {
            self.gate.meters.vanished_total.increment();
            // Before anything else goes: permits and slots are free from here on.
            self.in_flight.clear();
        }
        self.gate.meters.in_flight.add(-i64::try_from(cancelled).expect("a connection has few questions"));
    }
}

fn draining(retry_after: Duration) -> Error {
    Error::new(Kind::Draining, "the gateway is stopping; connect again").with_retry_after(retry_after)
}

/// A part of an answer in many parts.
fn part(delivery: &Delivery) -> Message {
    Message { headers: delivery.headers.clone(), payload: delivery.payload.clone() }
}
