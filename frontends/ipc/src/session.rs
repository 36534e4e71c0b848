//! One connection: reads what the peer says, asks the pipeline, writes the answers in the order of the
//! questions, and pushes deliveries between them.
//!
//! Everything happens in one task and one poll: no task and no wait a request. The session stops *reading*
//! when too much is in flight or unwritten, and that is its only brake; it never drops or cuts an answer.
//! What ends it: the peer's end of input once all is answered, a broken message, a missed read deadline, a
//! peer that vanished or takes nothing of what is written (then everything in flight is dropped at once), or a
//! drain.

mod reading;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use contract::{Frontend, Gate, Origin, Pipeline};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::{Sleep, timeout};

use wire::conversation::Conversation;
use wire::message::Limits;
use wire::unwritten::Unwritten;

use crate::UnixSocket;
use crate::buffers::BufferPool;
use crate::exchange::Dialect;
use crate::frame::Partial;
use crate::framed::Framed;
use crate::ordered::Ordered;
use crate::outbox::Outbox;
use crate::raw::RawJson;

/// Deliveries are taken from streams while less than this is unwritten; the rest waits in the streams' own
/// bounded queues, which tell what they lose. Twice a default socket buffer would only add latency.
const PUSH_BYTES_MAX: usize = 64 * 1024;
/// Answers of this many bytes do not wait for others to be written with: a write of its own is then worth it.
const GATHER_BYTES_MAX: usize = 16 * 1024;
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
    pub(crate) write_timeout: Duration,
    pub(crate) failed_as_error: bool,
    /// What a client is told of these, and how long its questions may take.
    pub(crate) limits: Arc<Limits>,
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
    Framed(Framed),
    RawJson(RawJson),
}

impl Speech {
    fn dialect(&mut self) -> Option<&mut dyn Dialect> {
        match self {
            Self::Unknown => None,
            Self::Framed(dialect) => Some(dialect),
            Self::RawJson(dialect) => Some(dialect),
        }
    }
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each says one thing that happened, and they happen in any order"
)]
struct Session<P: Pipeline> {
    stream: UnixStream,
    gate: Gate<P>,
    pool: BufferPool,
    bounds: Arc<Bounds>,
    speech: Speech,
    /// Questions that are answered in their order.
    ordered: Ordered<P>,
    /// Questions with ids; made with the first one.
    conversation: Option<Box<Conversation<P>>>,
    origin: Arc<Origin>,
    outbox: Outbox,
    /// What was read and not heard yet, because too much was in flight.
    rest: Vec<u8>,
    ended: bool,
    ending: bool,
    draining: bool,
    leave: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whether the answers in the outbox have waited for others already.
    gathered: bool,
    partial: Partial,
    read_deadline: Option<Pin<Box<Sleep>>>,
    unwritten: Unwritten,
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
            ordered: Ordered::new(
                gate.clone(),
                Arc::clone(&origin),
                bounds.in_flight_max,
                bounds.streams_max,
            ),
            outbox: Outbox::new(pool.clone(), &gate.budget),
            leave: Box::pin(gate.drain.leave()),
            speech: Speech::Unknown,
            rest: Vec::new(),
            ended: false,
            ending: false,
            draining: false,
            gathered: false,
            partial: Partial::Nothing,
            read_deadline: None,
            unwritten: Unwritten::new(bounds.write_timeout, &gate.budget),
            watch: None,
            conversation: None,
            origin,
            stream,
            gate,
            pool,
            bounds,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        for _ in 0..ROUNDS_MAX {
            let mut moved = self.poll_answers(context);
            if moved && self.gathers() {
                // More answers are on their way and mostly arrive together: one turn of the others later they
                // leave in one write.
                self.gathered = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.gathered = false;
            moved |= self.poll_pushes(context);
            match self.poll_write(context) {
                Ok(wrote) => moved |= wrote,
                Err(error) => {
                    tracing::debug!(door = UnixSocket::NAME, %error, "a peer vanished");
                    return Poll::Ready(End::Vanished);
                }
            }
            if !self.draining && self.leave.as_mut().poll(context).is_ready() {
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

    /// Whether answers wait for those behind them, once, before they are written.
    fn gathers(&self) -> bool {
        let asked = self.ordered.asked() + self.conversation.as_ref().map_or(0, |talk| talk.in_flight());
        !self.gathered && asked > 0 && self.outbox.bytes() < GATHER_BYTES_MAX
    }

    /// Whether there is room for what the peer may say.
    fn has_room(&self) -> bool {
        let in_flight = self.ordered.len() + self.conversation.as_ref().map_or(0, |talk| talk.in_flight());
        in_flight < self.bounds.in_flight_max
            && self.outbox.bytes() + self.ordered.waiting_bytes() < self.bounds.write_queue_bytes_max
            // Not of what waits for an earlier answer: a cancel of that is still to be heard.
            && self.outbox.bytes() < self.gate.budget.room(self.bounds.write_queue_bytes_max)
    }

    fn may_read(&self) -> bool {
        !self.ended && !self.ending && !self.draining && self.has_room()
            // What was read before the end is still to be heard.
            || !self.rest.is_empty() && !self.ending && !self.draining && self.has_room()
    }

    fn is_over(&self) -> bool {
        let deaf = self.ending || self.draining || self.ended && self.rest.is_empty();
        // A peer that has ended its input may still listen to its streams.
        let streams = self.conversation.as_ref().map_or(0, |talk| talk.streams());
        let streaming = (self.ordered.is_streaming() || streams > 0) && !self.ending && !self.draining;
        let asked = self.conversation.as_ref().map_or(0, |talk| talk.in_flight() + talk.answering());
        deaf && !streaming && self.ordered.len() + asked == 0 && self.outbox.is_empty()
    }

    fn poll_answers(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = self.ordered.poll_answers(context);
        let Some(dialect) = self.speech.dialect() else { return moved };
        moved |= self.ordered.release(dialect, &mut self.outbox);
        if let Some(conversation) = &mut self.conversation {
            moved |= conversation.poll_answers(context, &mut |told| {
                dialect.tell(&told, &mut self.outbox);
            });
        }
        moved
    }

    /// Takes what streams yield, one of each kind in turn, while there is room.
    fn poll_pushes(&mut self, context: &mut Context<'_>) -> bool {
        let Some(dialect) = self.speech.dialect() else { return false };
        let mut moved = false;
        while self.outbox.bytes() < self.gate.budget.room(PUSH_BYTES_MAX) {
            let mut pushed = self.ordered.poll_push(context, dialect, &mut self.outbox);
            if let Some(conversation) = &mut self.conversation {
                pushed |=
                    conversation.poll_pushes(context, &mut |told| dialect.tell(&told, &mut self.outbox));
            }
            if !pushed {
                break;
            }
            moved = true;
        }
        moved
    }

    fn begin_drain(&mut self) {
        self.draining = true;
        // What is said and not heard is told, because its sender must know that it was not done.
        let unheard = !self.rest.is_empty() || self.partial != Partial::Nothing || self.has_input();
        self.ending |= unheard;
        self.rest = Vec::new();
        let Some(dialect) = self.speech.dialect() else { return };
        let retry_after = self.gate.drain.retry_after();
        self.ordered.begin_drain(unheard, retry_after, dialect, &mut self.outbox);
        if let Some(conversation) = &mut self.conversation {
            conversation.begin_drain(retry_after, &mut |told| {
                dialect.tell(&told, &mut self.outbox);
            });
        }
    }

    /// Writes what can be written; says whether anything was. A peer that takes nothing for too long is an error:
    /// what waits for it is memory that others need.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        while !self.outbox.is_empty() {
            match self.outbox.write(&self.stream) {
                Ok(written) => {
                    self.gate.meters.sent_bytes_total.add(written as u64);
                    self.unwritten.settle();
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.stream.poll_write_ready(context) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending => {
                            self.check_write(context)?;
                            break;
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    /// Begins or checks the time within which something must be written.
    fn check_write(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.unwritten.poll(context).is_ready() {
            self.gate.meters.stalled_total.increment();
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing"));
        }
        Ok(())
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
