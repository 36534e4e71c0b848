//! A link: one connection to one server, from its handshake to its end.
//!
//! `async_nats::Client` would reconnect by itself, but then it also flushes, after the reconnect, what was
//! queued before it, past every deadline; it says why it cannot connect only in its log; and it goes on
//! trying after everyone has dropped it. So a client lives for one connection here (`connect.rs` says how it
//! is kept from more), and the pool member makes the next link. When a link ends, what waited for a reply on
//! it is told at once: the inbox it was to come to is gone.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::client::traits::Publisher as _;
use async_nats::message::OutboundMessage;
use async_nats::{Client, PublishError, Subject, Subscriber};
use contract::Pattern;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::feed::Feed;
use super::inbox::{Fault, Inbox, ROUND_TRIPS_MAX, Refusal};
use super::queue::Queue;
use super::settings::Address;
use super::signals::Signals;
use super::ticket::Ticket;

/// How long leaving waits while nothing gets on: for the server to have read everything, to take the word to
/// close, and to have closed. As long as queued bytes become fewer, it goes on.
const STALL_LIMIT: Duration = Duration::from_millis(500);
/// Round trips in a row without an answer after which a link takes no new work.
const SILENCES_MAX: usize = 2;
/// How long one message on its way to another link is waited for.
const REPEAT: Duration = Duration::from_millis(50);

/// One connection.
pub(super) struct Link {
    client: Client,
    /// Where replies come in.
    pub(super) inbox: Arc<Inbox>,
    /// What the connection says on its own account.
    pub(super) signals: Arc<Signals>,
    /// Which server, without secrets.
    pub(super) server: Server,
    /// What waits to be written.
    pub(super) queue: Queue,
    in_flight: AtomicUsize,
    /// Clients whose ordered work goes by this link.
    pins: AtomicUsize,
    /// Round trips in a row that were not answered.
    silences: AtomicUsize,
    /// Told when nothing is in flight any more.
    idle: Notify,
    /// Round trips that may be on their way to this inbox.
    round_trips: Semaphore,
    /// Microseconds; 0 when not measured.
    round_trip_us: AtomicU64,
}

/// The server of a link, as it introduced itself.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// What it calls itself, unique to each of its lives.
    pub(super) id: String,
    pub(super) address: String,
    pub(super) name: String,
    pub(super) version: String,
    /// The other servers of its cluster.
    pub(super) others: Vec<Address>,
}

impl Server {
    /// Whether both are one server, with one order of what it reads.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Why a round trip was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoundTripError {
    /// The server does not permit it (which is an answer, too).
    NotPermitted,
    /// No answer within the limit.
    TimedOut,
    /// The connection ended.
    Lost,
}

impl Link {
    /// A link with this queue of what waits to be written.
    pub(super) fn new(
        client: Client,
        inbox: Arc<Inbox>,
        signals: Arc<Signals>,
        server: Server,
        queue: Queue,
    ) -> Self {
        Self {
            client,
            inbox,
            signals,
            server,
            queue,
            in_flight: AtomicUsize::new(0),
            pins: AtomicUsize::new(0),
            silences: AtomicUsize::new(0),
            idle: Notify::new(),
            round_trips: Semaphore::new(ROUND_TRIPS_MAX),
            round_trip_us: AtomicU64::new(0),
        }
    }

    /// Whether it is connected.
    pub(super) fn is_open(&self) -> bool {
        !self.signals.ended.is_taken()
    }

    /// Whether it takes new work.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_open() && !self.is_retiring()
    }

    /// Whether work can go by it, if there is nothing better.
    pub(super) fn is_usable(&self) -> bool {
        self.is_open() && !self.is_deaf()
    }

    /// Whether it takes no new work.
    pub(super) fn is_retiring(&self) -> bool {
        self.signals.retiring.is_taken()
    }

    /// Whether requests are impossible here, because the server does not let us hear replies.
    pub(super) fn is_deaf(&self) -> bool {
        self.signals.deaf.load(Ordering::Relaxed)
    }

    /// Takes no new work from now on.
    pub(super) fn retire(&self) {
        self.signals.retiring.take();
    }

    /// Resolves when it takes no new work.
    pub(super) async fn retiring(&self) {
        self.signals.retiring.taken().await;
    }

    /// Resolves when the connection is gone.
    pub(super) async fn ended(&self) {
        self.signals.ended.taken().await;
    }

    /// Looks at what the server said last: word that it is about to leave can be lost among the library's events.
    pub(super) fn look_for_lame_duck(&self) {
        if self.client.server_info().lame_duck_mode {
            self.retire();
        }
    }

    /// Measures the round trip. A link that does not answer for long takes no new work, also when what is wrong
    /// with it was told by an event that got lost; one that is quite dead ends by its pings.
    pub(super) async fn probe(&self, limit: Duration) {
        if self.round_trip(limit).await != Err(RoundTripError::TimedOut) {
            return self.silences.store(0, Ordering::Relaxed);
        }
        let silences = self.silences.fetch_add(1, Ordering::Relaxed) + 1;
        if silences == SILENCES_MAX && self.is_fresh() {
            tracing::warn!(server = self.server.address, "a connection to NATS does not answer");
            self.retire();
        }
    }

    /// Clients whose ordered work goes by this link.
    pub(super) fn pins(&self) -> usize {
        self.pins.load(Ordering::Relaxed)
    }

    /// Requests and publishes in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Subscriptions in force.
    pub(super) fn subscriptions(&self) -> usize {
        self.signals.subscriptions()
    }

    /// Messages and gap markers that wait for the readers of its subscriptions.
    pub(super) fn unread(&self) -> usize {
        self.signals.unread()
    }

    /// The most bytes of headers and payload together, as the server of this connection said.
    pub(super) fn payload_bytes_max(&self) -> usize {
        self.client.max_payload()
    }

    /// The last round trip measured.
    pub(super) fn round_trip_time(&self) -> Option<Duration> {
        let microseconds = self.round_trip_us.load(Ordering::Relaxed);
        (microseconds > 0).then(|| Duration::from_micros(microseconds))
    }

    /// Hands a message to the connection; waits while its queue is full.
    pub(super) async fn publish(&self, message: OutboundMessage) -> Result<(), PublishError> {
        self.client.publish_message(message).await
    }

    /// Sends a message to the own inbox and waits until it is back: then the server has read everything that
    /// was published and subscribed before.
    pub(super) async fn round_trip(&self, limit: Duration) -> Result<Duration, RoundTripError> {
        if self.signals.mute.load(Ordering::Relaxed) {
            return Err(RoundTripError::NotPermitted);
        }
        let trip = async {
            let (_permit, mut ticket) = self.round_trip_ticket().await?;
            let subject = ticket.reply_subject().try_into().expect("an inbox subject is ASCII");
            let started = Instant::now();
            let message = OutboundMessage { subject, reply: None, payload: "".into(), headers: None };
            self.publish(message).await.map_err(|_| Fault::Lost)?;
            (&mut ticket).await.map(|_| started.elapsed())
        };
        match timeout(limit, trip).await {
            Ok(Ok(taken)) => {
                let microseconds = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX).max(1);
                self.round_trip_us.store(microseconds, Ordering::Relaxed);
                Ok(taken)
            }
            // Without an inbox there are no round trips either; that was told already.
            Ok(Err(Fault::Denied)) if self.is_deaf() => Err(RoundTripError::NotPermitted),
            Ok(Err(Fault::Denied)) => {
                self.signals.mute.store(true, Ordering::Relaxed);
                tracing::warn!(
                    server = self.server.address,
                    "the NATS server does not permit publishing to the reply inbox: round trips are not measured"
                );
                Err(RoundTripError::NotPermitted)
            }
            Ok(Err(Fault::Lost | Fault::NoRoom)) => Err(RoundTripError::Lost),
            Err(_) => Err(RoundTripError::TimedOut),
        }
    }

    /// A slot for a round trip, when it is this one's turn. Bound in this order, the slot is given back before
    /// the permit.
    async fn round_trip_ticket(&self) -> Result<(SemaphorePermit<'_>, Ticket), Fault> {
        let permit = self.round_trips.acquire().await.expect("the semaphore is never closed");
        let ticket = self.inbox.register_round_trip().map_err(|refusal| match refusal {
            Refusal::Closed(fault) => fault,
            Refusal::Full => unreachable!("there is a slot for every permit"),
        })?;
        Ok((permit, ticket))
    }

    /// Waits until the server of `other` has what was published by this link: a message goes from here to the
    /// other's inbox, behind all that went before. It is repeated because the way between two servers of a
    /// cluster may open a moment after the connection; a repeated one that comes late is counted as such.
    pub(super) async fn reach(&self, other: &Self, limit: Duration) -> Result<(), RoundTripError> {
        if self.signals.mute.load(Ordering::Relaxed) {
            return Err(RoundTripError::NotPermitted);
        }
        let trip = async {
            let (_permit, mut ticket) = other.round_trip_ticket().await.map_err(|_| RoundTripError::Lost)?;
            let subject: Subject = ticket.reply_subject().try_into().expect("an inbox subject is ASCII");
            loop {
                let message = OutboundMessage {
                    subject: subject.clone(),
                    reply: None,
                    payload: "".into(),
                    headers: None,
                };
                self.publish(message).await.map_err(|_| RoundTripError::Lost)?;
                if let Ok(came) = timeout(REPEAT, &mut ticket).await {
                    return came.map(drop).map_err(|_| RoundTripError::Lost);
                }
            }
        };
        timeout(limit, trip).await.unwrap_or(Err(RoundTripError::TimedOut))
    }

    /// Subscribes, and waits until it is in force, as far as the server lets us know.
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        pattern: &Pattern,
        feed: &Arc<Feed>,
        limit: Duration,
    ) -> Result<Subscription, RoundTripError> {
        // Known before the server hears of it, so that a refusal finds it.
        let id = self.signals.know(pattern.clone(), feed.clone());
        let known = Known { link: self.clone(), id };
        let subscriber =
            self.client.subscribe(pattern.as_str().to_owned()).await.map_err(|_| RoundTripError::Lost)?;
        // The second trip gives a refusal, which comes by another way within the library, time to arrive; one
        // that is later still ends the stream.
        for _ in 0..2 {
            match self.round_trip(limit).await {
                Ok(_) | Err(RoundTripError::NotPermitted) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Subscription { subscriber, _known: known })
    }

    /// Leaves: takes no new work, waits until what is in flight is done (unless `now`), has the server read
    /// what was published, and closes.
    pub(super) async fn leave(&self, now: impl Future<Output = ()>) {
        self.retire();
        let idle = async {
            loop {
                let told = self.idle.notified();
                if self.in_flight() == 0 && self.subscriptions() == 0 {
                    return;
                }
                told.await;
            }
        };
        tokio::select! {
            () = idle => {}
            () = now => {}
            () = self.ended() => return,
        }
        let mut close = pin!(async {
            if self.round_trip(Duration::MAX).await == Err(RoundTripError::NotPermitted) {
                let _ = self.client.flush().await;
            }
            let _ = self.client.drain().await;
            self.ended().await;
        });
        loop {
            let queued = self.queue.bytes();
            if timeout(STALL_LIMIT, &mut close).await.is_ok() || self.queue.bytes() >= queued {
                break;
            }
        }
        // A server that stands still does not take the word to close: its connection ends by its pings, but
        // nobody waits for what it brings.
        self.signals.abandoned.cancel();
    }

    fn tell_if_idle(&self) {
        if self.is_retiring() && self.in_flight() == 0 && self.subscriptions() == 0 {
            self.idle.notify_waiters();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.signals.abandoned.cancel();
    }
}

/// A link in use: counted as in flight until dropped.
pub(super) struct Use(Arc<Link>);

impl Use {
    pub(super) fn of(link: Arc<Link>) -> Self {
        link.in_flight.fetch_add(1, Ordering::SeqCst);
        Self(link)
    }
}

impl std::ops::Deref for Use {
    type Target = Arc<Link>;

    fn deref(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.tell_if_idle();
    }
}

/// A link to which a client is pinned: counted as such until dropped.
pub(super) struct Pinning(Arc<Link>);

impl Pinning {
    pub(super) fn to(link: Arc<Link>) -> Self {
        link.pins.fetch_add(1, Ordering::Relaxed);
        Self(link)
    }
}

impl std::ops::Deref for Pinning {
    type Target = Arc<Link>;

    fn deref(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Drop for Pinning {
    fn drop(&mut self) {
        self.0.pins.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A subscription on a link; it ends when dropped.
pub(super) struct Subscription {
    pub(super) subscriber: Subscriber,
    _known: Known,
}

/// An entry among the feeds of a link.
struct Known {
    link: Arc<Link>,
    id: u64,
}

impl Drop for Known {
    fn drop(&mut self) {
        self.link.signals.forget(self.id);
        self.link.tell_if_idle();
    }
}
