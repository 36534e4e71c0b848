//! The NATS backend: a pool of connections that recovers by itself.
//!
//! | file | holds |
//! |---|---|
//! | `settings.rs`, `check.rs` | [`Settings`], checked as a whole before anything is connected |
//! | `pool.rs`, `member.rs`, `backoff.rs`, `pace.rs` | which connections there are, how they come back, which one is taken |
//! | `connect.rs`, `link.rs`, `signals.rs`, `violation.rs` | one connection, from its handshake to its end |
//! | `inbox.rs`, `ticket.rs`, `reply_id.rs` | the replies of one connection |
//! | `streamed.rs` | what an answer of many messages holds |
//! | `given_up.rs` | what a responder is told when nobody waits any more |
//! | `queue.rs` | the bytes that wait to be written on one connection |
//! | `pins.rs` | what must stay in order goes by one connection |
//! | `subscribe.rs`, `feed.rs` | subscriptions, and the bounded queue before each reader |
//! | `bucket.rs` | a key-value bucket, which idempotency keys are shared by |
//! | `headers.rs`, `counts.rs`, `readings.rs` | headers both ways; what is counted and shown |
//! | `direct.rs` | a plain client without any of this, to measure it against |
//! | `witness.rs` | a responder that tells what it was asked, for the soak |
//!
//! A request never waits for a connection: none is `unavailable` at once. It waits for its answer only, and
//! is told at once when the connection that would bring it is lost.

mod backoff;
mod bucket;
mod check;
mod connect;
mod counts;
pub mod direct;
mod feed;
mod given_up;
mod headers;
mod inbox;
mod link;
mod member;
mod pace;
mod pins;
mod pool;
mod queue;
mod readings;
mod reply_id;
pub mod responder;
mod settings;
mod signals;
mod streamed;
mod subscribe;
mod ticket;
mod violation;
pub mod witness;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{PublishError, StatusCode};
use bytes::Bytes;
use contract::{ByteBudget, Error, Kind, Outcome, Reply, Request, Subject, Target};
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout};

use self::bucket::KeyValue;
pub use self::check::{OpenError, OpenErrors};
use self::given_up::GivenUp;
use self::inbox::{Purpose, Refusal};
use self::link::Link;
use self::pins::Pinned;
use self::pool::Pool;
use self::queue::Full;
pub use self::settings::{
    Address, BucketSettings, Credentials, INBOX_PREFIX_BYTES_MAX, POOL_MAX, Settings, Tls, parse_servers,
};
use self::streamed::Streamed;
use self::ticket::Ticket;
use super::cancel::{Cancel, Manner, Reason};
use super::outgoing::RequestId;
use super::replies::{Reader, Replies, Responder as _};
use super::{Backend, Health, Reading, incoming};
use crate::services::idempotency::Bucket;

/// What a plain log level says of the client library: it tells each connect and disconnect, which the pool
/// tells too, in its own words.
pub const LIBRARY_LOG: &str = ",async_nats=error";

/// How long closing may take: flushing and closing each connection is bounded, this bounds the whole.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// What a request is told to wait when too many bytes are queued: a server that is only slow has read a
/// good part of them by then.
const RETRY_AFTER_FULL: Duration = Duration::from_millis(250);

/// The backend. Cloning shares it. Its connections and tasks live until it is closed, also when every clone is
/// dropped: what is in flight holds none.
#[derive(Clone)]
pub struct Nats(Arc<Pool>);

impl Nats {
    /// Opens the backend: checks the settings, starts connecting, and returns without waiting for it. An
    /// unreachable server is no error; requests are `unavailable` until it is there. Needs a tokio runtime. Fails
    /// with everything that is wrong with the settings.
    pub fn open(settings: Settings) -> Result<Self, OpenErrors> {
        settings.check()?;
        Ok(Self(Pool::open(settings)))
    }

    /// A bucket of JetStream on the connections of this backend. It is made when it is needed first.
    pub fn bucket(&self, settings: BucketSettings) -> Arc<dyn Bucket> {
        Arc::new(KeyValue { pool: Arc::clone(&self.0), settings })
    }

    /// Resolves when a connection is there. Waits for ever if none comes.
    pub async fn reachable(&self) {
        self.0.reachable().await;
    }
}

impl Backend for Nats {
    type Answer = Answer;

    /// What can be handed over at once is handed over before this returns, so that the order of calls is the
    /// order of messages; what has to wait queues up in the order of calls, too.
    fn call_as(&self, request: Request, manner: Manner) -> Answer {
        let mut work = match carry_out(&self.0, request, manner) {
            Ok(work) => work,
            Err(error) => return Answer(State::Ready(Some(Err(error)))),
        };
        // Nobody waits yet; the first poll of the answer says who does.
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Answer(State::Ready(Some(result))),
            Poll::Pending => Answer(State::Running(work)),
        }
    }

    fn charge_to(&self, memory: &ByteBudget) {
        self.0.counts.memory.charge_to(memory);
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    fn is_reachable(&self) -> bool {
        self.0.is_reachable()
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.0.changes()
    }

    fn readings(&self) -> Vec<Reading> {
        self.0.readings()
    }

    async fn close(&self) {
        let pool = &self.0;
        pool.stop.cancel();
        pool.pins.clear();
        pool.tell();
        pool.tracker.close();
        if timeout(CLOSE_LIMIT, pool.tracker.wait()).await.is_err() {
            tracing::warn!("connections to NATS did not close in time; they end by their pings");
        }
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Nats").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

/// The answer of the backend to one request. Dropping it gives back all that the request held.
pub struct Answer(State);

enum State {
    Ready(Option<Result<Reply, Error>>),
    Running(Work),
}

type Work = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

impl Future for Answer {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(result) => {
                Poll::Ready(result.take().expect("an answer is not polled after it came"))
            }
            State::Running(work) => work.as_mut().poll(context),
        }
    }
}

/// The work of a request, or why there is none. Each kind is boxed for itself and what needs no waiting is done before:
/// a box is filled by copying it, and most requests are of the smallest kind.
fn carry_out(pool: &Arc<Pool>, request: Request, manner: Manner) -> Result<Work, Error> {
    if pool.stop.is_cancelled() {
        return Err(pool.unavailable());
    }
    match request.target.clone() {
        Target::Publish(subject) => Ok(boxed(publish(Arc::clone(pool), request, subject))),
        Target::Request(subject) => {
            check_reach(pool, &subject)?;
            if request.ordered {
                return Ok(boxed(ask_in_order(Arc::clone(pool), request, subject, manner)));
            }
            let pinned = Pinned::free(pool.take_near(request.origin.connection)?);
            if manner.replies.is_some() {
                return Ok(boxed(ask_for_many(Arc::clone(pool), pinned, request, subject, manner)));
            }
            let asking = Asking::of(pool, pinned, request, &subject, manner)?;
            Ok(boxed(ask(Arc::clone(pool), asking)))
        }
        Target::Subscribe(pattern) => Ok(boxed(subscribe::subscribe(Arc::clone(pool), pattern))),
        // The route table turns a message type into a subject; one that has none never gets here.
        Target::Task(kind) => {
            Err(Error::new(Kind::NotFound, format!("no subject is known for the message type {}", kind.0)))
        }
    }
}

/// Not bounded by the task's budget: a refusal to go on for that reason would lose the order.
fn boxed(work: impl Future<Output = Result<Reply, Error>> + Send + 'static) -> Work {
    Box::pin(unconstrained(work))
}

async fn publish(pool: Arc<Pool>, request: Request, subject: Subject) -> Result<Reply, Error> {
    check_reach(&pool, &subject)?;
    let due = request.deadline;
    let mut pinned = in_time(due, pool.pins.link(&request.origin, &pool)).await?;
    pool.note_load(&pinned.link);
    let message = message(&pinned.link, request, &RequestId::random(), &subject, None)?;
    in_time(due, hand_over(&pool, &mut pinned, message)).await?;
    pool.counts.published.increment();
    Ok(Reply::Accepted)
}

/// A request for which all is ready: its link, the place of its answer, its message.
struct Asking {
    pinned: Pinned,
    ticket: Ticket,
    message: OutboundMessage,
    due: Instant,
    cancel: Option<Cancel>,
}

impl Asking {
    fn of(
        pool: &Pool,
        pinned: Pinned,
        request: Request,
        subject: &Subject,
        manner: Manner,
    ) -> Result<Self, Error> {
        pool.note_load(&pinned.link);
        let ticket = pinned
            .link
            .inbox
            .register(subject.to_bytes(), Purpose::Request)
            .map_err(|refusal| refused(pool, refusal))?;
        if manner.skips_acknowledgements {
            ticket.skip_acknowledgements();
        }
        let (id, due) = (RequestId::random(), request.deadline);
        let cancel = Cancel::of(&request, id, manner);
        let message = message(&pinned.link, request, &id, subject, Some(ticket.reply_subject()))?;
        let message = pinned.link.queue.admit(message).map_err(|Full| {
            pool.counts.queue_full.increment();
            Error::new(Kind::Overloaded, "too many bytes wait to be sent to NATS")
                .with_retry_after(RETRY_AFTER_FULL)
        })?;
        Ok(Self { pinned, ticket, message, due, cancel })
    }

    /// Sends it: what is then waited for, and what is told to its responder if nobody does.
    async fn send(self, pool: &Pool) -> Result<(Pinned, Ticket, GivenUp), Error> {
        let Self { mut pinned, ticket, message, due, cancel } = self;
        in_time(due, deliver(pool, &mut pinned, message)).await?;
        let given_up = GivenUp { link: Arc::clone(&pinned.link), counts: Arc::clone(&pool.counts), cancel };
        pool.counts.requests.increment();
        Ok((pinned, ticket, given_up))
    }
}

async fn ask_in_order(
    pool: Arc<Pool>,
    request: Request,
    subject: Subject,
    manner: Manner,
) -> Result<Reply, Error> {
    let pinned = in_time(request.deadline, pool.pins.link(&request.origin, &pool)).await?;
    if manner.replies.is_some() {
        return ask_for_many(pool, pinned, request, subject, manner).await;
    }
    let asking = Asking::of(&pool, pinned, request, &subject, manner)?;
    ask(pool, asking).await
}

/// Has every message of the answer brought to a queue.
async fn ask_for_many(
    pool: Arc<Pool>,
    pinned: Pinned,
    request: Request,
    subject: Subject,
    manner: Manner,
) -> Result<Reply, Error> {
    let bounds = manner.replies.expect("only where many may answer");
    let replies = Replies::new(bounds, manner.memory.clone());
    let asking = Asking::of(&pool, pinned, request, &subject, manner)?;
    asking.ticket.bring_to(&replies);
    let (pinned, ticket, given_up) = asking.send(&pool).await?;
    replies.arm(given_up);
    let meters = Arc::clone(&pool.replies);
    Reader::new(replies, meters, subject, Streamed { ticket, pinned, pool }).answer().await
}

async fn ask(pool: Arc<Pool>, asking: Asking) -> Result<Reply, Error> {
    let (pinned, ticket, given_up) = asking.send(&pool).await?;
    let reply = match ticket.await {
        Ok(reply) => reply,
        Err(fault) => {
            given_up.disarm();
            return Err(streamed::fault(&pool, &pinned, fault));
        }
    };
    pinned.answered();
    if reply.status == Some(StatusCode::NO_RESPONDERS) {
        given_up.disarm();
        return Err(no_responders());
    }
    let headers = headers::incoming(reply.headers);
    if incoming::says_more(&headers) {
        given_up.give_up(Some(Reason::OverLimit));
    } else {
        given_up.disarm();
    }
    incoming::reply(headers, reply.payload).map(Reply::Message)
}

fn no_responders() -> Error {
    Error::new(Kind::NoResponders, "nobody listens on the subject")
}

fn check_reach(pool: &Pool, subject: &Subject) -> Result<(), Error> {
    if pool.is_out_of_reach(subject.as_str()) {
        return Err(Error::new(Kind::Denied, "the subject is reserved"));
    }
    Ok(())
}

/// The message for a link. The payload's size is checked before headers are made for it.
fn message(
    link: &Link,
    request: Request,
    id: &RequestId,
    subject: &Subject,
    reply: Option<Bytes>,
) -> Result<OutboundMessage, Error> {
    if request.payload.len() > link.payload_bytes_max() {
        return Err(too_large(link));
    }
    let subject = subject.to_bytes().try_into().expect("a subject is UTF-8");
    let reply = reply.map(|reply| reply.try_into().expect("an inbox subject is ASCII"));
    let headers = Some(headers::outgoing(&request, id));
    Ok(OutboundMessage { subject, reply, payload: request.payload, headers })
}

/// What comes before a message is with the connection, and says that it never was if the deadline comes first. The
/// timer is the deadline rule's, which asks once more when it rings.
async fn in_time<T>(due: Instant, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut work = pin!(work);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Pending if Instant::now() >= due => {
            let error = Error::new(Kind::TimedOut, "the deadline came before the connection to NATS took it");
            Poll::Ready(Err(error.with_outcome(Outcome::NotSent)))
        }
        polled => polled,
    })
    .await
}

/// Hands a message over once there is room in the link's queue. What has to wait for that holds up what the same client
/// sends after it.
async fn hand_over(pool: &Pool, pinned: &mut Pinned, message: OutboundMessage) -> Result<(), Error> {
    let link = Arc::clone(&pinned.link);
    let room = async {
        tokio::select! {
            biased;
            message = link.queue.wait(message) => Ok(message),
            () = link.ended() => Err(pool.unavailable()),
        }
    };
    let message = at_once_or_in_turn(pinned, room).await?;
    deliver(pool, pinned, message).await
}

/// Hands over a message that has its room.
async fn deliver(pool: &Pool, pinned: &mut Pinned, message: OutboundMessage) -> Result<(), Error> {
    let link = Arc::clone(&pinned.link);
    let sent = at_once_or_in_turn(pinned, link.publish(message)).await;
    pinned.handed_over();
    sent.map_err(|error: PublishError| match error.kind() {
        async_nats::PublishErrorKind::MaxPayloadExceeded => too_large(&link),
        async_nats::PublishErrorKind::InvalidSubject => {
            Error::new(Kind::Invalid, "not a subject to publish to").with_cause(error)
        }
        async_nats::PublishErrorKind::Send => pool.unavailable().with_cause(error),
    })
}

/// Does what most often needs no waiting; if it does, nobody of the same client passes.
async fn at_once_or_in_turn<T>(pinned: &mut Pinned, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    if let Some(done) = (&mut work).now_or_never() {
        return done;
    }
    pinned.hold().await;
    work.await
}

fn too_large(link: &Link) -> Error {
    let bytes_max = link.payload_bytes_max();
    Error::new(Kind::TooLarge, format!("headers and payload are over the {bytes_max} bytes that NATS takes"))
}

fn refused(pool: &Pool, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Full => {
            pool.counts.inbox_full.increment();
            Error::new(Kind::Overloaded, "too many requests wait for NATS")
        }
        // The link went, or went deaf, in this moment.
        Refusal::Closed(_) => pool.unavailable(),
    }
}
