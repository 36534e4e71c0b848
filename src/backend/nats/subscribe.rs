//! Subscriptions: a task per subscription moves messages from a link into a bounded feed, and finds another
//! link when that one ends.
//!
//! Core NATS keeps nothing for a subscriber that is away, so every change of link is told as a gap of unknown
//! size. The task does nothing but fetch, because the library drops what is not fetched in time.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use contract::{Delivery, DeliveryStream, Error, Event, Kind, Pattern, Reply, Subject};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::backoff::Backoff;
use super::feed::Feed;
use super::headers;
use super::link::{Link, RoundTripError, Subscription};
use super::pool::Pool;
use super::signals::denied;

/// Subscribes; answers when it is in force.
pub(super) async fn subscribe(pool: Arc<Pool>, pattern: Pattern) -> Result<Reply, Error> {
    if pool.is_out_of_reach(pattern.as_str()) {
        return Err(Error::new(Kind::Denied, "the pattern is reserved"));
    }
    let feed = Feed::new(
        pool.settings.subscription_capacity,
        pool.settings.subscription_bytes_max,
        pool.counts.clone(),
    );
    let stop = pool.stop.child_token();
    let (tell, told) = oneshot::channel();
    let task = Task { pool: pool.clone(), pattern, feed: feed.clone() };
    pool.tracker.spawn(task.live(stop.clone(), tell));
    let events = Events { feed, _stop: stop.drop_guard() };
    match told.await {
        Ok(Ok(())) => Ok(Reply::Stream(DeliveryStream::new(events))),
        Ok(Err(error)) => Err(error),
        // The task was stopped, which only closing does while this waits.
        Err(_) => Err(pool.unavailable()),
    }
}

/// The reader's end. Dropping it ends the task, and with it the subscription.
struct Events {
    feed: Arc<Feed>,
    _stop: DropGuard,
}

impl Stream for Events {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.feed.poll_next(context)
    }
}

/// Why fetching ended.
enum Next {
    /// The link retires; this is another.
    Link(Arc<Link>),
    /// The link is gone.
    Lost,
    /// The server ended the subscription.
    Ended,
}

struct Task {
    pool: Arc<Pool>,
    pattern: Pattern,
    feed: Arc<Feed>,
}

impl Task {
    async fn live(self, stop: CancellationToken, tell: oneshot::Sender<Result<(), Error>>) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep_subscribed(tell) => {}
        }
        self.feed.end(Ok(()));
    }

    async fn keep_subscribed(&self, tell: oneshot::Sender<Result<(), Error>>) {
        let Some(mut link) = self.pool.choose_for_subscription(None) else {
            let _ = tell.send(Err(self.pool.unavailable()));
            return;
        };
        let mut subscription = match self.enter(&link).await {
            Ok(subscription) if self.feed.is_ended() => {
                drop(subscription);
                let _ = tell.send(Err(denied()));
                return;
            }
            Ok(subscription) => subscription,
            Err(_) => {
                let _ = tell.send(Err(self.pool.unavailable()));
                return;
            }
        };
        if tell.send(Ok(())).is_err() {
            return;
        }
        let mut backoff = Backoff::new(self.pool.settings.reconnect_delay_max);
        loop {
            let since = Instant::now();
            let next = match self.fetch(&link, &mut subscription).await {
                Next::Link(next) => Some(next),
                Next::Lost => {
                    backoff.settle(since.elapsed());
                    None
                }
                Next::Ended => return,
            };
            // The old subscription ends before the new one begins: a message may be lost between them, and
            // the gap says so; that one comes twice is what nobody could tell.
            drop(subscription);
            self.feed.gap();
            (link, subscription) = self.enter_again(next, link, &mut backoff).await;
        }
    }

    /// Fetches until there is another link to go to, or the subscription is over.
    async fn fetch(&self, link: &Arc<Link>, subscription: &mut Subscription) -> Next {
        let mut next_link = pin!(self.next_link(link));
        loop {
            tokio::select! {
                biased;
                message = subscription.subscriber.next() => match message {
                    Some(message) => self.take(message),
                    None => return Next::Lost,
                },
                next = &mut next_link => return Next::Link(next),
            }
            if self.feed.is_ended() {
                return Next::Ended;
            }
        }
    }

    /// Subscribes on the next link, or on any that comes, until it succeeds. Every try but one on a link that was
    /// waiting comes after a pause, and the link that failed last is taken only if there is no other.
    async fn enter_again(
        &self,
        mut next: Option<Arc<Link>>,
        mut failed: Arc<Link>,
        backoff: &mut Backoff,
    ) -> (Arc<Link>, Subscription) {
        loop {
            let link = if let Some(link) = next.take() {
                link
            } else {
                sleep(backoff.next()).await;
                // Held only if it is good still: a link lives as long as someone holds it.
                let avoid = failed.is_fresh().then_some(failed);
                self.pool.wait_for_subscription(avoid.as_ref()).await
            };
            match self.enter(&link).await {
                Ok(subscription) => return (link, subscription),
                Err(_) => failed = link,
            }
        }
    }

    /// Resolves when the link retires and there is another one.
    async fn next_link(&self, link: &Link) -> Arc<Link> {
        link.retiring().await;
        self.pool.wait_for_subscription(None).await
    }

    async fn enter(&self, link: &Arc<Link>) -> Result<Subscription, RoundTripError> {
        link.subscribe(&self.pattern, &self.feed, self.pool.settings.connect_timeout).await
    }

    fn take(&self, message: async_nats::Message) {
        if self.pool.is_out_of_reach(&message.subject) {
            return self.pool.counts.kept_back.increment();
        }
        // The server is laxer than we are, about `a*b` for one; nobody here could name such a subject.
        let Ok(subject) = Subject::parse(message.subject.as_str()) else {
            self.pool.counts.kept_back.increment();
            return self.feed.gap();
        };
        self.pool.counts.delivered.increment();
        let headers = headers::incoming(message.headers);
        self.feed.push(Delivery::new(subject, headers, message.payload));
    }
}
