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
        // Not bounded by the task's budget: a refusal to go on for that reason would lose the order.
        let mut work = Box::pin(unconstrained(carry_out(self.0.clone(), request, manner)));
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
    Running(Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>),
}

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

async fn carry_out(pool: Arc<Pool>, request: Request, manner: Manner) -> Result<Reply, Error> {
    if pool.stop.is_cancelled() {
        return Err(pool.unavailable());
    }
    match request.target.clone() {
        Target::Publish(subject) => publish(&pool, request, subject).await,
        Target::Request(subject) => ask(pool, request, subject, manner).await,
        Target::Subscribe(pattern) => subscribe::subscribe(pool, pattern).await,
        // The route table turns a message type into a subject; one that has none never gets here.
        Target::Task(kind) => {
            Err(Error::new(Kind::NotFound, format!("no subject is known for the message type {}", kind.0)))
        }
    }
}

async fn publish(pool: &Pool, request: Request, subject: Subject) -> Result<Reply, Error> {
    check_reach(pool, &subject)?;
    let due = request.deadline;
    let mut pinned = in_time(due, pool.pins.link(&request.origin, pool)).await?;
    pool.note_load(&pinned.link);
    let message = message(&pinned.link, request, &RequestId::random(), &subject, None)?;
    in_time(due, hand_over(pool, &mut pinned, message, WhenFull::Wait)).await?;
    pool.counts.published.increment();
    Ok(Reply::Accepted)
}

async fn ask(pool: Arc<Pool>, request: Request, subject: Subject, manner: Manner) -> Result<Reply, Error> {
    check_reach(&pool, &subject)?;
    let due = request.deadline;
    let mut pinned = if request.ordered {
        in_time(due, pool.pins.link(&request.origin, &pool)).await?
    } else {
        Pinned::free(pool.take_near(request.origin.connection)?)
    };
    pool.note_load(&pinned.link);
    let ticket = pinned
        .link
        .inbox
        .register(subject.to_bytes(), Purpose::Request)
        .map_err(|refusal| refused(&pool, refusal))?;
    if manner.skips_acknowledgements {
        ticket.skip_acknowledgements();
    }
    let replies = manner.replies.map(|bounds| Replies::new(bounds, manner.memory.clone()));
    if let Some(replies) = &replies {
        ticket.bring_to(replies);
    }
    let id = RequestId::random();
    let cancel = Cancel::of(&request, id, manner);
    let message = message(&pinned.link, request, &id, &subject, Some(ticket.reply_subject()))?;
    in_time(due, hand_over(&pool, &mut pinned, message, WhenFull::Refuse)).await?;
    let given_up = GivenUp { link: Arc::clone(&pinned.link), counts: Arc::clone(&pool.counts), cancel };
    pool.counts.requests.increment();
    if let Some(replies) = replies {
        replies.arm(given_up);
        let meters = Arc::clone(&pool.replies);
        return Reader::new(replies, meters, subject, Streamed { ticket, pinned, pool }).answer().await;
    }
    let answer = ticket.await;
    let reply = match answer {
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

/// What to do when too many bytes wait to be written.
#[derive(Clone, Copy)]
enum WhenFull {
    Wait,
    Refuse,
}

/// Hands a message over. What has to wait for that holds up what the same client sends after it.
async fn hand_over(
    pool: &Pool,
    pinned: &mut Pinned,
    message: OutboundMessage,
    when_full: WhenFull,
) -> Result<(), Error> {
    let link = Arc::clone(&pinned.link);
    let mut sending = pin!(send(pool, &link, message, when_full));
    let sent = if let Some(sent) = (&mut sending).now_or_never() {
        sent
    } else {
        pinned.hold().await;
        sending.await
    };
    pinned.handed_over();
    sent
}

/// Waits while the link's queue is full, for as long as the caller does.
async fn send(pool: &Pool, link: &Link, message: OutboundMessage, when_full: WhenFull) -> Result<(), Error> {
    let message = match when_full {
        WhenFull::Refuse => link.queue.admit(message).map_err(|Full| {
            pool.counts.queue_full.increment();
            Error::new(Kind::Overloaded, "too many bytes wait to be sent to NATS")
                .with_retry_after(RETRY_AFTER_FULL)
        })?,
        WhenFull::Wait => tokio::select! {
            biased;
            message = link.queue.wait(message) => message,
            () = link.ended() => return Err(pool.unavailable()),
        },
    };
    link.publish(message).await.map_err(|error: PublishError| match error.kind() {
        async_nats::PublishErrorKind::MaxPayloadExceeded => too_large(link),
        async_nats::PublishErrorKind::InvalidSubject => {
            Error::new(Kind::Invalid, "not a subject to publish to").with_cause(error)
        }
        async_nats::PublishErrorKind::Send => pool.unavailable().with_cause(error),
    })
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
