//! One connection: the conversation of a peer over its socket, in one task and one poll.
//!
//! Answers go before deliveries, deliveries are taken only while there is room for them, and everything that is
//! ready is written at once. The only brake is to stop *reading*: when too much is in flight or unwritten. A peer
//! that does not read at all costs its own bounded queues, and is dropped after a while.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use contract::{Error, Kind, Origin, Pipeline, Scope};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};
use wire::departure::Departure;
use wire::{Conversation, Id, Inbound, Outbound, Refusal};

use crate::Door;
use crate::close::Ending;
use crate::form::Form;
use crate::outbox::Outbox;
use crate::reader::Message;
use crate::socket::{Listener, Socket};

/// Deliveries are taken from streams while less than this is unwritten; the rest waits in the streams' own bounded
/// queues, which tell what they lose. A default socket buffer's worth: more would only be older when it arrives.
const PUSH_BYTES_MAX: usize = 64 * 1024;
/// How long the answer to the handshake may take to be written.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// Rounds of one poll before other tasks get their turn.
const ROUNDS_MAX: usize = 16;

/// Serves one connection, from its upgrade to its end.
pub(crate) async fn serve<P: Pipeline>(
    upgrade: OnUpgrade,
    departure: Departure,
    door: Arc<Door<P>>,
    origin: Arc<Origin>,
    form: Form,
) {
    let upgraded = match timeout(UPGRADE_TIMEOUT, upgrade).await {
        Ok(Ok(upgraded)) => TokioIo::new(upgraded),
        Ok(Err(error)) => return tracing::debug!(door = crate::NAME, %error, "a handshake was not finished"),
        Err(_) => return tracing::debug!(door = crate::NAME, "a handshake was not finished in time"),
    };
    let (bounds, meters) = (Arc::clone(&door.settings.bounds), Arc::clone(&door.gate.meters));
    let socket = Socket::new(upgraded, departure, bounds, meters, &door.gate.budget);
    let leave = Box::pin(door.gate.drain.leave());
    let talk = Talk { door, origin, form, conversation: None, draining: false };
    let mut session = Session { socket, talk, leave };
    if let Err(error) = std::future::poll_fn(|context| session.poll(context)).await {
        tracing::debug!(door = crate::NAME, %error, "a peer vanished");
    }
}

struct Session<P: Pipeline, D> {
    socket: Socket<TokioIo<Upgraded>>,
    talk: Talk<P>,
    leave: D,
}

impl<P: Pipeline, D: Future<Output = ()> + Unpin> Session<P, D> {
    /// Ready when the connection has ended; an error is a peer that is gone. What is in flight then is dropped.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            if self.socket.is_open() {
                moved |= self.poll_talk(context);
            }
            moved |= self.socket.poll_write(context)?;
            moved |= self.socket.poll_read(context, &mut self.talk)?;
            if self.socket.is_over() {
                return Poll::Ready(Ok(()));
            }
            if !moved && !self.socket.poll_clocks(context, &self.talk)? {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// What the gateway has to say.
    fn poll_talk(&mut self, context: &mut Context<'_>) -> bool {
        let (ending, mut moved) = self.talk.poll(context, &mut self.socket.outbox);
        if let Some(ending) = ending {
            self.socket.close(&ending);
            return true;
        }
        if !self.talk.draining && std::pin::Pin::new(&mut self.leave).poll(context).is_ready() {
            self.talk.begin_drain(&mut self.socket.outbox);
            moved = true;
        }
        if self.talk.draining && self.talk.is_idle() {
            self.socket.close(&Ending::of(Kind::Draining, "the gateway is stopping; connect again"));
            moved = true;
        }
        moved
    }
}

/// The conversation, in the form that was agreed on.
struct Talk<P: Pipeline> {
    door: Arc<Door<P>>,
    origin: Arc<Origin>,
    form: Form,
    /// Made with the first message: an idle connection has none.
    conversation: Option<Box<Conversation<P>>>,
    draining: bool,
}

impl<P: Pipeline> Talk<P> {
    /// Tells answers, then deliveries while there is room; what it returns ends the connection.
    fn poll(&mut self, context: &mut Context<'_>, outbox: &mut Outbox) -> (Option<Ending>, bool) {
        let Some(conversation) = &mut self.conversation else { return (None, false) };
        let mut teller = Teller::new(self.form, &self.door, outbox, self.draining);
        let mut moved = conversation.poll_answers(context, &mut |told| {
            teller.tell(&told);
        });
        while teller.outbox.bytes() < self.door.gate.budget.room(PUSH_BYTES_MAX)
            && teller.ending.is_none()
            && conversation.poll_pushes(context, &mut |told| teller.tell(&told))
        {
            moved = true;
        }
        (teller.ending, moved)
    }

    fn is_idle(&self) -> bool {
        self.conversation.as_ref().is_none_or(|conversation| conversation.is_idle())
    }

    /// Says goodbye. Each client is given another time to come back.
    fn begin_drain(&mut self, outbox: &mut Outbox) {
        self.draining = true;
        let retry_after = self.door.gate.drain.retry_after();
        let mut teller = Teller::new(self.form, &self.door, outbox, true);
        match &mut self.conversation {
            Some(conversation) => conversation.begin_drain(retry_after, &mut |told| {
                teller.tell(&told);
            }),
            None => {
                teller.tell(&Outbound::GoAway { retry_after });
            }
        }
    }

    fn refuse(&mut self, refusal: &Refusal, outbox: &mut Outbox) -> Option<Ending> {
        self.door.gate.meters.protocol_errors_total.increment();
        let mut teller = Teller::new(self.form, &self.door, outbox, self.draining);
        teller.tell(&Outbound::Error { id: refusal.id.as_ref(), error: &refusal.error });
        teller.ending
    }
}

impl<P: Pipeline> Listener for Talk<P> {
    fn has_room(&self, unwritten: usize) -> bool {
        unwritten < self.door.gate.budget.room(self.door.settings.write_queue_bytes_max)
            && self.conversation.as_ref().is_none_or(|conversation| conversation.has_room())
    }

    fn hear(&mut self, message: Message, outbox: &mut Outbox) -> Option<Ending> {
        let received = Instant::now();
        let Message { text, payload, charge } = message;
        if text != self.form.is_text() {
            let reason = format!("the messages of {} are not of this type", self.form.name());
            self.door.gate.meters.protocol_errors_total.increment();
            return Some(Ending::of(Kind::Unsupported, reason));
        }
        if charge.is_none() {
            let text = "the gateway has no memory left for this message; try again later";
            let refusal =
                Refusal { id: self.form.id_of(&payload), error: Error::new(Kind::Overloaded, text) };
            return self.refuse(&refusal, outbox);
        }
        let inbound = match self.form.decode(payload) {
            Ok(inbound) => inbound,
            Err(refusal) => return self.refuse(&refusal, outbox),
        };
        let mut teller = Teller::new(self.form, &self.door, outbox, self.draining);
        if self.draining
            && let Some(id) = question(&inbound)
        {
            let error = Error::new(Kind::Draining, "the gateway is stopping; connect again");
            teller.tell(&Outbound::Error { id, error: &error });
            return None;
        }
        let conversation = self.conversation.get_or_insert_with(|| {
            let (gate, limits) = (self.door.gate.clone(), Arc::clone(&self.door.limits));
            Box::new(Conversation::new(gate, Arc::clone(&self.origin), limits))
        });
        conversation.hear(inbound, received, charge, &mut |told| {
            teller.tell(&told);
        });
        teller.ending
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

/// Encodes what is told, and notices what ends the connection.
struct Teller<'a> {
    form: Form,
    bytes_max: usize,
    outbox: &'a mut Outbox,
    draining: bool,
    ending: Option<Ending>,
}

impl<'a> Teller<'a> {
    fn new<P>(form: Form, door: &Door<P>, outbox: &'a mut Outbox, draining: bool) -> Self {
        let bytes_max = door.settings.bounds.message_bytes_max;
        Self { form, bytes_max, outbox, draining, ending: None }
    }

    /// Says whether a reply or a delivery could be told as it is.
    fn tell(&mut self, told: &Outbound<'_>) -> bool {
        let as_it_is = self.form.encode(told, self.bytes_max, self.outbox);
        if let Outbound::Error { error, .. } = told
            && error.kind().row().scope == Scope::Connection
            // A drain ends it anyway, once the rest is answered.
            && !self.draining
        {
            self.ending.get_or_insert_with(|| Ending::from(*error));
        }
        as_it_is
    }
}
