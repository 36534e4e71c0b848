//! What a connection says on its own account (lost, about to leave, not permitted, dropped something), and
//! who is to hear it.
//!
//! It exists before the connection does, because the library's callback needs it to make one.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Event, ServerError, Subscriber};
use contract::{Error, Kind, Pattern};
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::counts::Counts;
use super::feed::Feed;
use super::inbox::{Fault, Inbox};
use super::violation::Violation;

/// The least time between two looks for the requests that the server did not permit: each look goes over the
/// whole inbox.
const DENY_PAUSE: Duration = Duration::from_millis(10);
/// Subjects not permitted that are remembered between two looks; requests on further ones time out.
const DENIED_MAX: usize = 4_096;

/// The signals of one connection.
pub(super) struct Signals {
    inbox: Arc<Inbox>,
    wildcard: String,
    feeds: Mutex<HashMap<u64, (Pattern, Arc<Feed>)>>,
    next_feed: AtomicU64,
    /// Subjects that the server did not permit publishing to, until their requests are told.
    denied: Mutex<HashSet<Vec<u8>>>,
    denying: Notify,
    /// No new work: the server is about to leave, or the pool needs fewer.
    pub(super) retiring: Turn,
    /// The connection is gone.
    pub(super) ended: Turn,
    /// The link was dropped. The fetching task must know, because what it fetches from keeps the library's
    /// connection alive.
    pub(super) abandoned: CancellationToken,
    /// The server does not let us publish to our own inbox: no round trips.
    pub(super) mute: AtomicBool,
    /// The server does not let us subscribe to our own inbox: no requests. Always retiring, too.
    pub(super) deaf: AtomicBool,
    counts: Arc<Counts>,
}

/// A turn that a link takes once. The flag is read for every request, and a token's own state is behind a
/// lock.
#[derive(Default)]
pub(super) struct Turn {
    taken: AtomicBool,
    token: CancellationToken,
}

impl Turn {
    /// Takes it; again is nothing.
    pub(super) fn take(&self) {
        // Sequentially consistent, like the count in flight: either `leave` sees the last use gone, or that
        // use sees the turn taken and tells.
        self.taken.store(true, Ordering::SeqCst);
        self.token.cancel();
    }

    /// Whether it was taken.
    pub(super) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::SeqCst)
    }

    /// Resolves when it is taken.
    pub(super) async fn taken(&self) {
        self.token.cancelled().await;
    }
}

impl Signals {
    /// The signals of a connection whose replies go to `inbox`.
    pub(super) fn new(inbox: Arc<Inbox>, counts: Arc<Counts>) -> Arc<Self> {
        Arc::new(Self {
            wildcard: inbox.wildcard(),
            inbox,
            feeds: Mutex::default(),
            next_feed: AtomicU64::new(0),
            denied: Mutex::default(),
            denying: Notify::new(),
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
                tracing::debug!(subject, "the NATS server does not permit publishing");
                let mut denied = self.denied();
                if denied.len() < DENIED_MAX {
                    denied.insert(subject.as_bytes().to_vec());
                }
                drop(denied);
                self.denying.notify_one();
            }
            Violation::Subscribe(pattern) if pattern == self.wildcard => {
                self.deaf.store(true, Ordering::Relaxed);
                self.inbox.close(Fault::Denied);
                // The member finds another link, and tells.
                self.retiring.take();
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

    /// Tells the requests whose subjects the server does not permit: the first at once, and as many as come
    /// together at a time. Ends with the connection, or when the link is dropped.
    pub(super) async fn deny_requests(self: Arc<Self>) {
        let deny = async {
            loop {
                self.denying.notified().await;
                let subjects = std::mem::take(&mut *self.denied());
                self.inbox.deny(&subjects);
                sleep(DENY_PAUSE).await;
            }
        };
        tokio::select! {
            () = deny => {}
            () = self.abandoned.cancelled() => {}
            () = self.ended.taken() => {}
        }
    }

    /// Adds a subscription's feed; the number is for [`Self::forget`].
    pub(super) fn know(&self, pattern: Pattern, feed: Arc<Feed>) -> u64 {
        let id = self.next_feed.fetch_add(1, Ordering::Relaxed);
        self.feeds().insert(id, (pattern, feed));
        id
    }

    /// Removes a feed.
    pub(super) fn forget(&self, id: u64) {
        self.feeds().remove(&id);
    }

    /// Subscriptions known.
    pub(super) fn subscriptions(&self) -> usize {
        self.feeds().len()
    }

    /// Messages and gap markers that wait for readers.
    pub(super) fn unread(&self) -> usize {
        self.feeds().values().map(|(_, feed)| feed.waiting()).sum()
    }

    fn end(&self) {
        self.ended.take();
        self.inbox.close(Fault::Lost);
    }

    fn denied(&self) -> MutexGuard<'_, HashSet<Vec<u8>>> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<u64, (Pattern, Arc<Feed>)>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server refused the subject.
pub(super) fn denied() -> Error {
    Error::new(Kind::Denied, "the NATS server does not permit this subject")
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;

    use super::super::inbox::{Purpose, Refusal};
    use super::*;

    fn signals() -> Arc<Signals> {
        let counts: Arc<Counts> = Arc::default();
        Signals::new(Inbox::new("_INBOX", 4, counts.clone()), counts)
    }

    fn feed(signals: &Signals, pattern: &'static str) -> Arc<Feed> {
        let feed = Feed::new(4, 100, signals.counts.clone());
        signals.know(Pattern::from_static(pattern), feed.clone());
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
    fn without_its_inbox_a_connection_takes_no_new_work() {
        let signals = signals();
        let text = format!("Permissions Violation for Subscription to \"{}\"", signals.wildcard);
        signals.hear(&violation(&text));
        assert!(signals.retiring.is_taken() && signals.deaf.load(Ordering::Relaxed));
        assert!(!signals.ended.is_taken());
        let refusal = signals.inbox.register(Bytes::new(), Purpose::Request).err();
        assert_eq!(refusal, Some(Refusal::Closed(Fault::Denied)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_violations_looks_over_the_inbox_now_and_then() {
        let signals = signals();
        let denying = tokio::spawn(signals.clone().deny_requests());
        let register = || signals.inbox.register(Bytes::from_static(b"work"), Purpose::Request).unwrap();
        let refused = violation("Permissions Violation for Publish to \"work\"");
        let (one, started) = (register(), tokio::time::Instant::now());
        signals.hear(&refused);
        assert_eq!(one.await.err(), Some(Fault::Denied));
        assert_eq!(started.elapsed(), Duration::ZERO, "the first is told at once");
        // What comes right behind is told together, one pause later.
        let two = [register(), register()];
        (0..1000).for_each(|_| signals.hear(&refused));
        for ticket in two {
            assert_eq!(ticket.await.err(), Some(Fault::Denied));
            assert_eq!(started.elapsed().as_millis() / DENY_PAUSE.as_millis(), 1);
        }
        signals.hear(&Event::Disconnected);
        denying.await.unwrap();
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
