//! A session: the conversation of a client over one stream, in a task of its own.
//!
//! hyper asks a stream for more only while its client has room, so what is asked for there could not go on while
//! the client does not read: answers would not be taken, and would hold their permits. The task takes them into
//! the session's outbox, which the stream empties. Answers go before deliveries, and the only brake is to stop
//! *reading*: when too much is in flight or untaken.

mod messages;
mod outbox;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use contract::{Charge, Kind, Pipeline, TraceContext};
use futures_util::Stream;
use prost::Message as _;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, Streaming};
use wire::{Conversation, Id, Inbound, Outbound};

use crate::Door;
use crate::arrived::Arrived;
use crate::calls::Head;
use crate::events::{draining, over};
use crate::proto::SessionRequest;
use crate::session::outbox::Outbox;
pub(crate) use crate::session::outbox::Told;
use crate::shared;

/// Deliveries are taken from subscriptions while less than this is untaken; the rest waits in their own bounded
/// queues, which tell what they lose.
const PUSH_BYTES_MAX: usize = 64 * 1024;
/// Rounds of one poll before other tasks get their turn.
const ROUNDS_MAX: usize = 16;
/// Messages read in one round, so that answers are not kept waiting by questions.
const READ_MAX: usize = 64;

/// Opens a session. It is over when the client is gone, has said all and was answered, or its deadline has passed.
pub(crate) fn open<P: Pipeline>(door: Arc<Door<P>>, head: Head, said: Streaming<SessionRequest>) -> Told {
    let (outbox, told) = outbox::pair(&door.gate.budget);
    let drain = door.gate.drain.clone();
    let conversation =
        Conversation::new(door.gate.clone(), Arc::clone(&head.origin), Arc::clone(&door.limits));
    let mut session = Session {
        leave: Box::pin(drain.leave()),
        until: head.until().map(|until| Box::pin(sleep_until(until))),
        is_draining: false,
        trace: head.trace,
        arrived: head.arrived,
        said: Some(said),
        untaken: None,
        conversation,
        outbox,
        door,
    };
    drain.track(async move {
        let ended = std::future::poll_fn(|context| session.poll(context)).await;
        // All it holds is given back before the client reads the end.
        let Session { outbox, conversation, .. } = session;
        drop(conversation);
        outbox.end(ended);
    });
    told
}

struct Session<P: Pipeline> {
    door: Arc<Door<P>>,
    conversation: Conversation<P>,
    /// `None` once the client has said all.
    said: Option<Streaming<SessionRequest>>,
    /// While it is not read from: what its client may have sent in the meantime waits below, where nobody counts it.
    untaken: Option<Charge>,
    arrived: Arrived,
    outbox: Outbox,
    leave: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_draining: bool,
    until: Option<Pin<Box<Sleep>>>,
    trace: TraceContext,
}

impl<P: Pipeline> Session<P> {
    /// Ready when the session is over, with the status that ends it if it is not `OK`.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Status>> {
        // Whoever takes something or goes away wakes this task.
        self.outbox.register(context.waker());
        for _ in 0..ROUNDS_MAX {
            if self.outbox.is_abandoned() {
                return Poll::Ready(None);
            }
            let mut moved = self.poll_talk(context);
            match self.poll_said(context) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(status)) => return Poll::Ready(Some(status)),
                Poll::Pending => {}
            }
            self.outbox.flush();
            let said_all = self.said.is_none() || self.is_draining;
            if said_all && self.conversation.is_idle() {
                return Poll::Ready(None);
            }
            if !moved {
                ready!(self.poll_until(context));
                return Poll::Ready(Some(self.door.telling.status(&over(), &self.trace)));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_until(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.until.as_mut().map_or(Poll::Pending, |until| until.as_mut().poll(context))
    }

    /// Tells answers, then deliveries while there is room.
    fn poll_talk(&mut self, context: &mut Context<'_>) -> bool {
        let (outbox, bytes_max) = (&mut self.outbox, self.door.message_bytes_max);
        let mut moved = self
            .conversation
            .poll_answers(context, &mut |told| outbox.push(messages::told(&told, bytes_max)));
        while outbox.bytes() < self.door.gate.budget.room(PUSH_BYTES_MAX) {
            let pushed = self.conversation.poll_pushes(context, &mut |told| {
                let response = messages::told(&told, bytes_max);
                let is_cut = matches!(told, Outbound::Reply { .. })
                    && matches!(response.what, Some(shared::Told::Error(_)));
                outbox.push(response);
                !is_cut
            });
            if !pushed {
                break;
            }
            moved = true;
        }
        if !self.is_draining && self.leave.as_mut().poll(context).is_ready() {
            self.is_draining = true;
            let tell = &mut |told: Outbound<'_>| outbox.push(messages::told(&told, bytes_max));
            self.conversation.begin_drain(self.door.gate.drain.retry_after(), tell);
            moved = true;
        }
        moved
    }

    /// Hears what the client says while there is room. Ready when something was heard; an error ends the session.
    fn poll_said(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let mut heard = Poll::Pending;
        for _ in 0..READ_MAX {
            let room = self.door.gate.budget.room(self.door.write_queue_bytes_max);
            let has_room = self.conversation.has_room() && self.outbox.bytes() < room;
            let Some(said) = &mut self.said else { return heard };
            if !has_room {
                let (budget, bytes) = (&self.door.gate.budget, self.door.window_bytes);
                self.untaken.get_or_insert_with(|| budget.charge_always(bytes));
                return heard;
            }
            self.untaken = None;
            match Pin::new(said).poll_next(context) {
                Poll::Pending => return heard,
                Poll::Ready(Some(Ok(message))) => self.hear(message),
                Poll::Ready(Some(Err(status))) => {
                    return Poll::Ready(Err(self.door.decoded(status, &self.trace)));
                }
                Poll::Ready(None) => self.said = None,
            }
            heard = Poll::Ready(Ok(()));
        }
        heard
    }

    fn hear(&mut self, message: SessionRequest) {
        let received = Instant::now();
        let charge = self.arrived.take(message.encoded_len());
        let (outbox, bytes_max) = (&mut self.outbox, self.door.message_bytes_max);
        let mut tell = |told: Outbound<'_>| outbox.push(messages::told(&told, bytes_max));
        let inbound = match messages::inbound(message) {
            Ok(inbound) => inbound,
            Err((id, error)) => {
                if error.kind() == Kind::Malformed {
                    self.door.gate.meters.protocol_errors_total.increment();
                }
                return tell(Outbound::Error { id: id.as_ref(), error: &error });
            }
        };
        if self.is_draining
            && let Some(id) = question(&inbound)
        {
            return tell(Outbound::Error { id, error: &draining(&self.door.gate.drain) });
        }
        self.conversation.hear(inbound, received, Some(charge), &mut tell);
    }
}

/// The id of something that asks the pipeline; `None` if it does not ask.
#[expect(clippy::option_option, reason = "a publish may have no id, and other messages are no questions")]
fn question(inbound: &Inbound) -> Option<Option<&Id>> {
    match inbound {
        Inbound::Publish { id, .. } => Some(id.as_ref()),
        Inbound::Request { id, .. } | Inbound::Subscribe { id, .. } => Some(Some(id)),
        Inbound::Hello { .. }
        | Inbound::Unsubscribe { .. }
        | Inbound::Cancel { .. }
        | Inbound::Ping { .. } => None,
    }
}
