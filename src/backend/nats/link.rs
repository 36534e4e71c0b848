//! A link: one connection to one server, from its handshake to its end.
//!
//! `async_nats::Client` would reconnect by itself, but then it also flushes, after the reconnect, what was
//! queued before it, past every deadline; it says why it cannot connect only in its log; and it goes on
//! trying after everyone has dropped it. So a client lives for one connection here (`connect.rs` says how it
//! is kept from more), and the pool member makes the next link. When a link ends, what waited for a reply on
//! it is told at once: the inbox it was to come to is gone.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::client::traits::Publisher as _;
use async_nats::message::OutboundMessage;
use async_nats::{Client, Event, PublishError, ServerError, Subject, Subscriber};
use contract::{Error, Kind, Pattern};
use futures_util::StreamExt as _;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::counts::Counts;
use super::feed::Feed;
use super::inbox::{Fault, Inbox, ROUND_TRIPS_MAX, Refusal, Ticket};
use super::settings::Address;
use super::violation::Violation;

/// How long leaving waits for the server to have read everything.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
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
    in_flight: AtomicUsize,
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
    pub(super) address: String,
    pub(super) name: String,
    pub(super) version: String,
    /// The other servers of its cluster.
    pub(super) others: Vec<Address>,
}

/// What a connection says on its own account, and who is to hear it. It exists before the connection does.
pub(super) struct Signals {
    inbox: Arc<Inbox>,
    wildcard: String,
    feeds: Mutex<HashMap<u64, (Pattern, Arc<Feed>)>>,
    next_feed: AtomicU64,
    /// No new work: the server is about to leave, or the pool needs fewer.
    retiring: Turn,
    /// The connection is gone.
    ended: Turn,
    /// The link was dropped. The fetching task must know, because what it fetches from keeps the library's
    /// connection alive.
    abandoned: CancellationToken,
    /// The server does not let us publish to our own inbox: no round trips.
    mute: AtomicBool,
    /// The server does not let us subscribe to our own inbox: no requests.
    deaf: AtomicBool,
    counts: Arc<Counts>,
}

/// A turn that a link takes once. The flag is read for every request, and a token's own state is behind a
/// lock.
#[derive(Default)]
struct Turn {
    taken: AtomicBool,
    token: CancellationToken,
}

impl Turn {
    fn take(&self) {
        // Sequentially consistent, like the count in flight: either `leave` sees the last use gone, or that
        // use sees the turn taken and tells.
        self.taken.store(true, Ordering::SeqCst);
        self.token.cancel();
    }

    fn is_taken(&self) -> bool {
        self.taken.load(Ordering::SeqCst)
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

impl Signals {
    pub(super) fn new(inbox: Arc<Inbox>, counts: Arc<Counts>) -> Arc<Self> {
        Arc::new(Self {
            wildcard: inbox.wildcard(),
            inbox,
            feeds: Mutex::default(),
            next_feed: AtomicU64::new(0),
            retiring: Turn::default(),
            ended: Turn::default(),
            abandoned: CancellationToken::new(),
            mute: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            counts,
        })
    }

    /// Takes what the library reports.
    pub(super) fn hear(&self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed => self.end(),
            Event::LameDuckMode => self.retiring.take(),
            // The library dropped messages and says only that. Which feed lost some cannot be known, so each
            // is told. Replies that were lost show as timeouts.
            Event::SlowConsumer(_) => {
                self.counts.dropped_unseen.increment();
                self.feeds().values().for_each(|(_, feed)| feed.gap());
            }
            Event::ServerError(ServerError::Other(text)) => self.hear_error(text),
            _ => {}
        }
    }

    fn hear_error(&self, text: &str) {
        let Some(violation) = Violation::parse(text) else {
            tracing::warn!(error = text, "the NATS server reports an error");
            return;
        };
        self.counts.violations.increment();
        match violation {
            Violation::Publish(subject) => {
                let requests = self.inbox.deny(subject);
                tracing::debug!(subject, requests, "the NATS server does not permit publishing");
            }
            Violation::Subscribe(pattern) if pattern == self.wildcard => {
                self.deaf.store(true, Ordering::Relaxed);
                self.inbox.close(Fault::Denied);
                tracing::error!(pattern, "the NATS server does not permit subscribing to the reply inbox");
            }
            Violation::Subscribe(pattern) => {
                tracing::debug!(pattern, "the NATS server does not permit subscribing");
                for (known, feed) in self.feeds().values() {
                    if known.as_str() == pattern {
                        feed.end(Err(denied()));
                    }
                }
            }
        }
    }

    /// Moves replies from the connection to their requests, until the connection ends or the link is dropped.
    /// The library would drop what is not fetched in time, so this does nothing else.
    pub(super) async fn fetch_replies(self: Arc<Self>, mut replies: Subscriber) {
        let mut abandoned = pin!(self.abandoned.cancelled());
        loop {
            tokio::select! {
                biased;
                reply = replies.next() => match reply {
                    Some(reply) => self.inbox.deliver(reply),
                    None => break,
                },
                () = &mut abandoned => break,
            }
        }
        self.end();
    }

    fn end(&self) {
        self.ended.take();
        self.inbox.close(Fault::Lost);
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<u64, (Pattern, Arc<Feed>)>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server refused the subject.
pub(super) fn denied() -> Error {
    Error::new(Kind::Denied, "the NATS server does not permit this subject")
}

impl Link {
    pub(super) fn new(client: Client, inbox: Arc<Inbox>, signals: Arc<Signals>, server: Server) -> Self {
        Self {
            client,
            inbox,
            signals,
            server,
            in_flight: AtomicUsize::new(0),
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
        self.signals.retiring.token.cancelled().await;
    }

    /// Resolves when the connection is gone.
    pub(super) async fn ended(&self) {
        self.signals.ended.token.cancelled().await;
    }

    /// Requests and publishes in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Subscriptions in force.
    pub(super) fn subscriptions(&self) -> usize {
        self.signals.feeds().len()
    }

    /// Messages and gap markers that wait for the readers of its subscriptions.
    pub(super) fn unread(&self) -> usize {
        self.signals.feeds().values().map(|(_, feed)| feed.waiting()).sum()
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
            Ok(Err(Fault::Lost)) => Err(RoundTripError::Lost),
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
        let id = self.signals.next_feed.fetch_add(1, Ordering::Relaxed);
        self.signals.feeds().insert(id, (pattern.clone(), feed.clone()));
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
        if self.round_trip(FLUSH_LIMIT).await == Err(RoundTripError::NotPermitted) {
            let _ = timeout(FLUSH_LIMIT, self.client.flush()).await;
        }
        // A connection whose queue is full does not take the word to close; it ends by its pings.
        let _ = timeout(FLUSH_LIMIT, self.client.drain()).await;
        let _ = timeout(FLUSH_LIMIT, self.ended()).await;
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
        self.link.signals.feeds().remove(&self.id);
        self.link.tell_if_idle();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn signals() -> Arc<Signals> {
        let counts: Arc<Counts> = Arc::default();
        Signals::new(Inbox::new("_INBOX", 4, counts.clone()), counts)
    }

    fn feed(signals: &Signals, pattern: &'static str) -> Arc<Feed> {
        let feed = Feed::new(4, 100, signals.counts.clone());
        let id = signals.next_feed.fetch_add(1, Ordering::Relaxed);
        signals.feeds().insert(id, (Pattern::from_static(pattern), feed.clone()));
        feed
    }

    fn violation(text: &str) -> Event {
        Event::ServerError(ServerError::Other(text.to_owned()))
    }

    #[test]
    fn what_the_library_drops_is_told_to_every_subscription() {
        let signals = signals();
        let feeds = [feed(&signals, "a"), feed(&signals, "b.>")];
        signals.hear(&Event::SlowConsumer(7));
        for feed in feeds {
            let told = feed.poll_next(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(told, Poll::Ready(Some(Ok(contract::Event::Gap { lost: None })))), "{told:?}");
        }
        assert_eq!(signals.counts.dropped_unseen.get(), 1);
    }

    #[test]
    fn a_refused_pattern_ends_its_subscription_only() {
        let signals = signals();
        let (refused, other) = (feed(&signals, "a.>"), feed(&signals, "a.b"));
        signals.hear(&violation("Permissions Violation for Subscription to \"a.>\""));
        assert!(refused.is_ended() && !other.is_ended());
        assert_eq!(signals.counts.violations.get(), 1);
    }

    #[test]
    fn a_lost_connection_tells_each_request() {
        let signals = signals();
        let ticket = signals.inbox.register_round_trip().unwrap();
        signals.hear(&Event::Disconnected);
        assert!(signals.ended.is_taken());
        assert_eq!(futures_util::FutureExt::now_or_never(ticket).unwrap().err(), Some(Fault::Lost));
    }
}
