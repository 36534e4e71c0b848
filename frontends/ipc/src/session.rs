//! One connection: reads what the peer says, asks the pipeline, writes the answers in the order of the
//! questions, and pushes deliveries between them.
//!
//! Everything happens in one task and one poll: no task and no wait a request. The session stops *reading*
//! when too much is in flight or unwritten, and that is its only brake; it never drops or cuts an answer.
//! What ends it: the peer's end of input once all is answered, a broken message, a missed read deadline, a
//! peer that vanished (then everything in flight is dropped at once), or a drain.

mod reading;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use contract::{Charge, Error, Gate, Kind, Message, Origin, Outcome, Pipeline, Reply};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::{Sleep, timeout};

use wire::inflight::{InFlight, Panicked};
use wire::streams::{Streams, Yielded};

use crate::buffers::BufferPool;
use crate::exchange::{Answer, Dialect, Push, StreamName};
use crate::frame::Partial;
use crate::outbox::Outbox;
use crate::raw::RawJson;
use crate::v1::Version1;

/// Deliveries are taken from streams while less than this is unwritten; the rest waits in the streams' own
/// bounded queues, which tell what they lose. Twice a default socket buffer would only add latency.
const PUSH_BYTES_MAX: usize = 64 * 1024;
/// How often a peer that is not being read from is looked at: nothing else would tell that it vanished.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// How long a peer that was told an error gets to read it before the connection is closed under it.
const LINGER: Duration = Duration::from_millis(500);
/// Rounds of one poll before other tasks get their turn.
const ROUNDS_MAX: usize = 16;

/// Bounds of one session.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) in_flight_max: usize,
    pub(crate) streams_max: usize,
    pub(crate) write_queue_bytes_max: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) failed_as_error: bool,
}

/// Serves one connection to its end.
pub(crate) async fn serve<P: Pipeline>(
    stream: UnixStream,
    origin: Arc<Origin>,
    gate: Gate<P>,
    pool: BufferPool,
    bounds: Arc<Bounds>,
) {
    let mut session = Session::new(stream, origin, gate, pool, bounds);
    let end = std::future::poll_fn(|context| session.poll(context)).await;
    if matches!(end, End::Finished) && session.ending {
        session.linger().await;
    }
}

/// How a session ended.
#[derive(Debug)]
enum End {
    /// Everything was answered and written.
    Finished,
    /// The peer is gone; what was in flight is cancelled.
    Vanished,
}

/// What is spoken, told by the first byte.
#[derive(Debug)]
enum Speech {
    Unknown,
    Version1(Version1),
    RawJson(RawJson),
}

impl Speech {
    fn dialect(&mut self) -> Option<&mut dyn Dialect> {
        match self {
            Self::Unknown => None,
            Self::Version1(dialect) => Some(dialect),
            Self::RawJson(dialect) => Some(dialect),
        }
    }
}

/// The place of an answer among the others.
#[derive(Debug)]
enum Place {
    /// The pipeline is working on it. The payload's charge ends with the answer. A subscription has the name
    /// of its stream here, an empty one if it is to be given one.
    Running { _charge: Option<Charge>, subscribes: Option<StreamName> },
    /// It waits for those before it.
    Ready { answer: Answer, bytes: usize },
}

struct Session<P: Pipeline> {
    stream: UnixStream,
    origin: Arc<Origin>,
    gate: Gate<P>,
    pool: BufferPool,
    bounds: Arc<Bounds>,
    speech: Speech,
    in_flight: InFlight<P::Future>,
    /// Answers in the order of the questions; the first has the number `first`.
    places: VecDeque<Place>,
    first: u64,
    /// The number of the place that each slot of `in_flight` answers.
    numbers: Vec<u64>,
    /// Bytes of answers that wait for those before them.
    waiting: Charge,
    outbox: Outbox,
    streams: Streams<StreamName>,
    /// Subscriptions that are being worked on.
    subscribing: usize,
    names_given: u64,
    /// What was read and not heard yet, because too much was in flight.
    rest: Vec<u8>,
    ended: bool,
    ending: bool,
    draining: bool,
    drain: Pin<Box<dyn Future<Output = ()> + Send>>,
    partial: Partial,
    read_deadline: Option<Pin<Box<Sleep>>>,
    watch: Option<Pin<Box<Sleep>>>,
}

impl<P: Pipeline> Session<P> {
    fn new(
        stream: UnixStream,
        origin: Arc<Origin>,
        gate: Gate<P>,
        pool: BufferPool,
        bounds: Arc<Bounds>,
    ) -> Self {
        Self {
            in_flight: InFlight::new(bounds.in_flight_max),
            waiting: gate.budget.charge_always(0),
            outbox: Outbox::new(pool.clone(), &gate.budget),
            streams: Streams::new(Arc::clone(&gate.meters)),
            drain: Box::pin(gate.drain.draining()),
            speech: Speech::Unknown,
            places: VecDeque::new(),
            first: 0,
            numbers: Vec::new(),
            subscribing: 0,
            names_given: 0,
            rest: Vec::new(),
            ended: false,
            ending: false,
            draining: false,
            partial: Partial::Nothing,
            read_deadline: None,
            watch: None,
            stream,
            origin,
            gate,
            pool,
            bounds,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        for _ in 0..ROUNDS_MAX {
            let mut moved = self.poll_answers(context);
            moved |= self.poll_pushes(context);
            match self.poll_write(context) {
                Ok(wrote) => moved |= wrote,
                Err(_) => return Poll::Ready(End::Vanished),
            }
            if !self.draining && self.drain.as_mut().poll(context).is_ready() {
                self.begin_drain();
                moved = true;
            }
            if self.may_read() {
                match self.poll_read(context) {
                    Poll::Ready(Ok(())) => moved = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Vanished),
                    Poll::Pending => {}
                }
            }
            if self.is_over() {
                return Poll::Ready(End::Finished);
            }
            if !moved {
                moved = self.poll_read_deadline(context);
                if self.poll_watch(context) {
                    return Poll::Ready(End::Vanished);
                }
                if !moved {
                    return Poll::Pending;
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether there is room for what the peer may say.
    fn has_room(&self) -> bool {
        self.places.len() < self.bounds.in_flight_max
            && self.outbox.bytes() + self.waiting.bytes() < self.bounds.write_queue_bytes_max
    }

    fn may_read(&self) -> bool {
        !self.ended && !self.ending && !self.draining && self.has_room()
            // What was read before the end is still to be heard.
            || !self.rest.is_empty() && !self.ending && !self.draining && self.has_room()
    }

    fn is_over(&self) -> bool {
        let deaf = self.ending || self.draining || self.ended && self.rest.is_empty();
        // A peer that has ended its input may still listen to its streams.
        let streaming = !self.streams.is_empty() && !self.ending && !self.draining;
        deaf && !streaming && self.places.is_empty() && self.outbox.is_empty()
    }

    fn poll_answers(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Poll::Ready((slot, outcome)) = self.in_flight.poll_next(context) {
            self.gate.meters.in_flight.add(-1);
            self.settle(slot, outcome);
            moved = true;
        }
        moved | self.release()
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
            (Err(error), _) => {
                if error.kind() == Kind::Internal {
                    let cause = error.cause().map(ToString::to_string);
                    tracing::error!(door = "unix", cause, "{}", error.text());
                }
                Answer::Error(error)
            }
        };
        if for_stream && !matches!(answer, Answer::Opened { .. }) {
            self.subscribing -= 1;
        }
        answer
    }

    /// Encodes the answers whose turn it is.
    fn release(&mut self) -> bool {
        let mut moved = false;
        while let Some(Place::Ready { .. }) = self.places.front() {
            let Some(Place::Ready { answer, bytes }) = self.places.pop_front() else { break };
            self.first += 1;
            self.waiting.shrink(bytes);
            self.say(answer);
            moved = true;
        }
        moved
    }

    fn say(&mut self, answer: Answer) {
        let Some(dialect) = self.speech.dialect() else { return };
        match answer {
            Answer::Opened { mut stream, deliveries } => {
                self.subscribing -= 1;
                if stream.is_empty() {
                    stream = self.name();
                } else if self.streams.has(|name| *name == stream) {
                    let error = Error::new(Kind::Conflict, "a stream of this name is open");
                    return dialect.answer(Answer::Error(error), &mut self.outbox);
                }
                if let Some(dialect) = self.speech.dialect() {
                    dialect.acknowledge(&stream, &mut self.outbox);
                }
                self.streams.open(stream, deliveries);
            }
            Answer::End { stream } => {
                if self.streams.end(|name| *name == stream) {
                    dialect.push(&stream, Push::Complete, &mut self.outbox);
                    dialect.acknowledge(&stream, &mut self.outbox);
                } else {
                    let error = Error::new(Kind::NotFound, "no stream of this name is open");
                    dialect.answer(Answer::Error(error), &mut self.outbox);
                }
            }
            answer => dialect.answer(answer, &mut self.outbox),
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

    fn poll_pushes(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.streams.is_empty() && self.outbox.bytes() < PUSH_BYTES_MAX {
            let Poll::Ready((name, yielded)) = self.streams.poll_next(context) else { break };
            let Some(dialect) = self.speech.dialect() else { break };
            let push = match &yielded {
                Yielded::Event(event) => Push::Event(event),
                Yielded::Complete => Push::Complete,
                Yielded::Failed(error) => Push::Failed(error),
            };
            dialect.push(&name, push, &mut self.outbox);
            moved = true;
        }
        moved
    }

    fn begin_drain(&mut self) {
        self.draining = true;
        self.rest = Vec::new();
        let error = Error::new(Kind::Draining, "the gateway is stopping; connect again");
        let open: Vec<StreamName> = self.streams.keys().cloned().collect();
        for name in open {
            self.streams.end(|known| *known == name);
            if let Some(dialect) = self.speech.dialect() {
                dialect.push(&name, Push::Failed(&error), &mut self.outbox);
            }
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        while !self.outbox.is_empty() {
            match self.outbox.write(&self.stream) {
                Ok(written) => {
                    self.gate.meters.sent_bytes_total.add(written as u64);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.stream.poll_write_ready(context) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending => break,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    /// Lets the peer read the last answer: closing over unread input would reset the connection under it.
    async fn linger(&mut self) {
        let discard = async {
            self.stream.shutdown().await?;
            loop {
                self.stream.readable().await?;
                let mut buffer = self.pool.take();
                match self.stream.try_read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
        };
        let _: Result<io::Result<()>, _> = timeout(LINGER, discard).await;
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

impl<P: Pipeline> Drop for Session<P> {
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
