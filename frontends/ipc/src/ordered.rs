//! Answers in the order of the questions: what version 1 and bare tasks of raw JSON need, which have no ids.
//!
//! Questions are worked on at the same time; an answer that is ready before those in front of it waits, its
//! bytes counted. Streams of version 1 belong here too, because their acceptance and their end have a place
//! in the order.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use contract::{
    Charge, Error, Gate, Headers, Kind, Message, Origin, Outcome, Pipeline, Reply, Request, Target,
    TraceContext,
};
use tokio::time::Instant;
use wire::inflight::{InFlight, Panicked, Started};
use wire::streams::{Streams, Yielded};

use crate::exchange::{Answer, Dialect, Push, StreamName};
use crate::outbox::Outbox;

/// The place of an answer among the others.
#[derive(Debug)]
enum Place {
    /// The pipeline is working on it. The payload's charge ends with the answer. A subscription has the name
    /// of its stream here, an empty one if it is to be given one.
    Running { _charge: Option<Charge>, subscribes: Option<StreamName> },
    /// It waits for those before it.
    Ready { answer: Answer, bytes: usize },
}

/// The questions and streams of one connection.
#[derive(Debug)]
pub(crate) struct Ordered<P: Pipeline> {
    gate: Gate<P>,
    origin: Arc<Origin>,
    streams_max: usize,
    in_flight: InFlight<P::Future>,
    /// Answers in the order of the questions; the first has the number `first`.
    places: VecDeque<Place>,
    first: u64,
    /// The number of the place that each slot of `in_flight` answers.
    numbers: Vec<u64>,
    /// Bytes of answers that wait for those before them.
    waiting: Charge,
    streams: Streams<StreamName>,
    /// Subscriptions that are being worked on.
    subscribing: usize,
    names_given: u64,
    /// Once it drains, when its client should come back.
    draining: Option<Duration>,
}

impl<P: Pipeline> Ordered<P> {
    pub(crate) fn new(gate: Gate<P>, origin: Arc<Origin>, in_flight_max: usize, streams_max: usize) -> Self {
        Self {
            in_flight: InFlight::new(in_flight_max),
            waiting: gate.budget.charge_always(0),
            streams: Streams::new(Arc::clone(&gate.meters)),
            places: VecDeque::new(),
            first: 0,
            numbers: Vec::new(),
            subscribing: 0,
            names_given: 0,
            draining: None,
            streams_max,
            gate,
            origin,
        }
    }

    /// Answers that are worked on or wait for others; the caller asks nothing more when there are as many as
    /// may be in flight.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Questions that the pipeline is working on.
    pub(crate) fn asked(&self) -> usize {
        self.in_flight.len()
    }

    /// Bytes of answers that wait for those before them.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting.bytes()
    }

    /// Whether a stream is open.
    pub(crate) fn is_streaming(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Opens a stream, if the connection may have another.
    pub(crate) fn subscribe(
        &mut self,
        pattern: contract::Pattern,
        stream: Option<StreamName>,
        received: Instant,
    ) {
        if self.streams.len() + self.subscribing >= self.streams_max {
            let error = Error::new(Kind::Overloaded, "this connection is at its limit of streams");
            return self.ready(Answer::Error(error));
        }
        self.subscribing += 1;
        self.ask(Target::Subscribe(pattern), Bytes::new(), received, None, Some(stream.unwrap_or_default()));
    }

    /// Asks the pipeline; the answer has its place from now on.
    pub(crate) fn ask(
        &mut self,
        target: Target,
        payload: Bytes,
        received: Instant,
        charge: Option<Charge>,
        subscribes: Option<StreamName>,
    ) {
        let request = Request {
            target,
            headers: Headers::new(),
            payload,
            received,
            deadline: self.gate.deadline(received, None),
            idempotent: false,
            ordered: true,
            parts: false,
            queue: None,
            trace: TraceContext::start(),
            origin: Arc::clone(&self.origin),
        };
        let pipeline = &mut self.gate.pipeline;
        let started = match catch_unwind(AssertUnwindSafe(|| pipeline.call(request))) {
            Ok(future) => self.in_flight.start(future).ok().expect("no more is heard than there are slots"),
            Err(panic) => Started::Over(Err(Panicked::of(&*panic))),
        };
        match started {
            Started::Running(slot) => {
                self.gate.meters.in_flight.add(1);
                if self.numbers.len() <= slot {
                    self.numbers.resize(slot + 1, 0);
                }
                self.numbers[slot] = self.first + self.places.len() as u64;
                self.places.push_back(Place::Running { _charge: charge, subscribes });
            }
            Started::Over(outcome) => {
                let answer = self.answer(outcome, subscribes);
                self.wait(answer);
            }
        }
    }

    /// Gives an answer its place that is known at once.
    pub(crate) fn ready(&mut self, answer: Answer) {
        if matches!(&answer, Answer::Error(_) | Answer::Version) {
            self.gate.meters.protocol_errors_total.increment();
        }
        self.wait(answer);
    }

    /// Gives an answer its place behind those before it.
    fn wait(&mut self, answer: Answer) {
        let bytes = cost(&answer);
        self.waiting.grow_always(bytes);
        self.places.push_back(Place::Ready { answer, bytes });
    }

    /// Takes the answers that are ready to their places; says whether there were any.
    pub(crate) fn poll_answers(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Poll::Ready((slot, outcome)) = self.in_flight.poll_next(context) {
            self.gate.meters.in_flight.add(-1);
            self.settle(slot, outcome);
            moved = true;
        }
        moved
    }

    /// Puts the answer of a slot into its place.
    fn settle(&mut self, slot: usize, outcome: Result<Result<Reply, Error>, Panicked>) {
        let index = usize::try_from(self.numbers[slot] - self.first).expect("a place is among those kept");
        let Place::Running { subscribes, .. } = &mut self.places[index] else {
            unreachable!("a slot answers once");
        };
        let subscribes = subscribes.take();
        let answer = self.answer(outcome, subscribes);
        let bytes = cost(&answer);
        self.waiting.grow_always(bytes);
        self.places[index] = Place::Ready { answer, bytes };
    }

    /// What an outcome is answered with; of a subscription, with the name of its stream.
    fn answer(
        &mut self,
        outcome: Result<Result<Reply, Error>, Panicked>,
        subscribes: Option<StreamName>,
    ) -> Answer {
        let outcome = outcome.unwrap_or_else(|panic| {
            self.gate.meters.panics_total.increment();
            tracing::error!(door = self.origin.door, "a request panicked: {panic}");
            Err(Error::new(Kind::Internal, "a fault of the gateway").with_cause(panic))
        });
        let for_stream = subscribes.is_some();
        let answer = match (outcome, subscribes) {
            (Ok(Reply::Message(message)), _) => Answer::Message(message),
            (Ok(Reply::Accepted), _) => Answer::Message(Message {
                payload: Bytes::from_static(b"{\"ok\":true}"),
                ..Message::default()
            }),
            (Ok(Reply::Stream(deliveries)), Some(stream)) => Answer::Opened { stream, deliveries },
            (Ok(Reply::Stream(_)), None) => Answer::Error(
                Error::new(Kind::Unsupported, "a task of version 1 has one answer, and this one has many")
                    .with_outcome(Outcome::Done),
            ),
            (Err(error), _) => Answer::Error(error),
        };
        if for_stream && !matches!(answer, Answer::Opened { .. }) {
            self.subscribing -= 1;
        }
        answer
    }

    /// Encodes the answers whose turn it is; says whether there were any.
    pub(crate) fn release(&mut self, dialect: &mut dyn Dialect, outbox: &mut Outbox) -> bool {
        let mut moved = false;
        while let Some(Place::Ready { .. }) = self.places.front() {
            let Some(Place::Ready { answer, bytes }) = self.places.pop_front() else { break };
            self.first += 1;
            self.waiting.shrink(bytes);
            self.say(answer, dialect, outbox);
            moved = true;
        }
        moved
    }

    fn say(&mut self, answer: Answer, dialect: &mut dyn Dialect, outbox: &mut Outbox) {
        match answer {
            Answer::Opened { mut stream, deliveries } => {
                self.subscribing -= 1;
                if let Some(retry_after) = self.draining {
                    return dialect.answer(Answer::Error(draining(retry_after)), outbox);
                }
                if stream.is_empty() {
                    stream = self.name();
                } else if self.streams.has(|name| *name == stream) {
                    let error = Error::new(Kind::Conflict, "a stream of this name is open");
                    return dialect.answer(Answer::Error(error), outbox);
                }
                dialect.acknowledge(&stream, outbox);
                self.streams.open(stream, deliveries);
            }
            Answer::End { stream } => {
                if self.streams.end(|name| *name == stream) {
                    dialect.push(&stream, Push::Complete, outbox);
                    dialect.acknowledge(&stream, outbox);
                } else {
                    let error = Error::new(Kind::NotFound, "no stream of this name is open");
                    dialect.answer(Answer::Error(error), outbox);
                }
            }
            answer => dialect.answer(answer, outbox),
        }
    }

    /// A name for a stream that was given none.
    fn name(&mut self) -> StreamName {
        loop {
            self.names_given += 1;
            let name = format!("s{}", self.names_given);
            if !self.streams.has(|known| **known == *name) {
                return name.into();
            }
        }
    }

    /// Encodes one thing that a stream yielded; says whether there was one.
    pub(crate) fn poll_push(
        &mut self,
        context: &mut Context<'_>,
        dialect: &mut dyn Dialect,
        outbox: &mut Outbox,
    ) -> bool {
        let Poll::Ready((name, yielded)) = self.streams.poll_next(context) else { return false };
        let push = match &yielded {
            Yielded::Event(event) => Push::Event(event),
            Yielded::Complete => Push::Complete,
            Yielded::Failed(error) => Push::Failed(error),
        };
        dialect.push(&name, push, outbox);
        true
    }

    /// Ends the streams as `draining`; what is in flight goes on, and is answered before the last answer, which
    /// tells a peer that what it said after it was not heard.
    pub(crate) fn begin_drain(
        &mut self,
        unheard: bool,
        retry_after: Duration,
        dialect: &mut dyn Dialect,
        outbox: &mut Outbox,
    ) {
        self.draining = Some(retry_after);
        let error = draining(retry_after);
        let open: Vec<StreamName> = self.streams.keys().cloned().collect();
        for name in open {
            self.streams.end(|known| *known == name);
            dialect.push(&name, Push::Failed(&error), outbox);
        }
        if unheard {
            self.wait(Answer::Error(error));
        }
    }
}

fn draining(retry_after: Duration) -> Error {
    Error::new(Kind::Draining, "the gateway is stopping; what follows was not heard; connect again")
        .with_retry_after(retry_after)
}

impl<P: Pipeline> Drop for Ordered<P> {
    fn drop(&mut self) {
        let cancelled = self.in_flight.len();
        if cancelled > 0 {
            self.gate.meters.vanished_total.increment();
            self.gate.meters.in_flight.add(-i64::try_from(cancelled).expect("a connection has few requests"));
            // Before anything else goes: permits and slots are free from here on.
            self.in_flight.clear();
        }
    }
}

/// What an answer that waits costs the byte budget.
fn cost(answer: &Answer) -> usize {
    match answer {
        Answer::Message(message) => message.payload.len(),
        Answer::Error(error) => error.as_failed().map_or(0, |failed| failed.body.len()) + error.text().len(),
        _ => 0,
    }
}
