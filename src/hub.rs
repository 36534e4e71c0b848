//! The fan-out hub: one subscription of the backend a pattern, however many listen on it.
//!
//! It stands between the end of the pipeline and the backend, and is a backend itself. Publishes and requests
//! pass through untouched. A subscription joins the feed of its pattern, which one task pumps from the
//! backend into a bounded queue a listener; the task never waits for a listener, and a listener that is slow
//! is told what it missed.
//!
//! | file | holds |
//! |---|---|
//! | `feed` | one pattern: who listens, and its life |
//! | `pump` | the task of a feed: opens, moves messages, lingers, ends |
//! | `listener` | one who listens, and the stream that reads its queue |
//! | `ring` | that queue: bounded, by one of three policies, losing nothing uncounted |
//! | `relief` | cuts the queues of all when memory is short |
//! | `clearance` | which concrete subjects may be read, and by whose route |
//! | `meters` | what it counts |

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use contract::{ByteBudget, DeliveryStream, Error, Kind, Origin, Pattern, Reply, Request, Target};
use pin_project_lite::pin_project;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::feed::{Feed, Rest};
use self::listener::{Listener, Listening};
use self::meters::Meters;
use self::relief::Relief;
use crate::backend::cancel::Manner;
use crate::backend::{Backend, Health, Reading};
use crate::rules::Handle;

mod clearance;
mod feed;
mod listener;
mod meters;
mod pump;
mod relief;
mod ring;
#[cfg(test)]
mod tests;

/// The limits of the hub. What a listener's queue may hold is its route's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long the subscription of a pattern is kept after its last listener left.
    pub linger: Duration,
    /// How long the backend may take to open a subscription.
    pub open_timeout: Duration,
    /// Patterns subscribed at one time; those that nobody listens on give way first.
    pub patterns_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs(5);
        Self { linger: seconds, open_timeout: seconds, patterns_max: 4096 }
    }
}

/// How long the streams of a closed backend may take to end by themselves before they are cut.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The hub in front of a backend. Cloning shares it.
pub struct Hub<B>(Arc<Shared<B>>);

struct Shared<B> {
    backend: B,
    settings: Settings,
    handle: Handle,
    /// Who subscribes at the backend.
    origin: Arc<Origin>,
    feeds: Mutex<Feeds>,
    meters: Arc<Meters>,
    relief: Relief,
    pumps: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Feeds {
    by_pattern: HashMap<Pattern, Arc<Feed>>,
    closed: bool,
}

impl<B: Backend> Hub<B> {
    /// A hub in front of `backend`; what may be read is by the rules that `handle` has. Subscriptions need a
    /// Tokio runtime: each distinct pattern is a task.
    pub fn new(backend: B, settings: Settings, handle: Handle) -> Self {
        Self(Arc::new(Shared {
            backend,
            settings,
            handle,
            origin: pump::origin(),
            feeds: Mutex::default(),
            meters: Arc::default(),
            relief: Relief::default(),
            pumps: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
    }

    fn subscribe(&self, pattern: Pattern, request: Request) -> Result<Listening, Error> {
        let shared = &self.0;
        let rules = shared.handle.load();
        let Some(route) = rules.routes.of_pattern(&pattern) else {
            // Only when other rules came into force since it was authorized.
            return Err(Error::new(Kind::NotFound, "no route for this subject"));
        };
        let bounds = route.settings.queue.narrowed(&request.queue.unwrap_or_default());
        let listener = Arc::new(Listener::new(request.origin, rules, bounds));
        let feed = self.join(pattern, &listener)?;
        Ok(Listening::new(feed, listener, Arc::clone(&shared.meters)))
    }

    fn join(&self, pattern: Pattern, listener: &Arc<Listener>) -> Result<Arc<Feed>, Error> {
        let shared = &self.0;
        loop {
            let mut feeds = shared.feeds();
            if feeds.closed {
                return Err(Error::new(Kind::Unavailable, "the gateway is stopping"));
            }
            let known = feeds.by_pattern.get(&pattern).cloned();
            let Some(known) = known else {
                feeds.make_room(shared.settings.patterns_max)?;
                let feed = Arc::new(Feed::new(pattern.clone()));
                assert!(feed.join(listener), "a new feed is not over");
                feeds.by_pattern.insert(pattern, Arc::clone(&feed));
                // Under the lock, so that close() misses no task.
                shared.pumps.spawn(pump::run(Arc::clone(shared), Arc::clone(&feed)));
                return Ok(feed);
            };
            // Given back first: a feed may be handing out a message just now, and that is no other's business.
            drop(feeds);
            if known.join(listener) {
                return Ok(known);
            }
            shared.forget(&known);
        }
    }
}

impl Feeds {
    /// Makes room for one more, if need be by ending one that nobody listens on.
    fn make_room(&mut self, patterns_max: usize) -> Result<(), Error> {
        if self.by_pattern.len() < patterns_max {
            return Ok(());
        }
        let idle = |feed: &Arc<Feed>| matches!(feed.rest(Duration::ZERO), Rest::Ended);
        let Some(idle) = self.by_pattern.values().find(|feed| idle(feed)).map(|feed| feed.pattern.clone())
        else {
            return Err(Error::new(Kind::Overloaded, "too many different patterns are subscribed"));
        };
        self.by_pattern.remove(&idle);
        Ok(())
    }
}

impl<B> Shared<B> {
    fn feeds(&self) -> MutexGuard<'_, Feeds> {
        // Every write is one call of the map, so a panic elsewhere spoils nothing.
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a feed that is over out of the map, unless another has its place already.
    fn forget(&self, feed: &Arc<Feed>) {
        if let Entry::Occupied(entry) = self.feeds().by_pattern.entry(feed.pattern.clone())
            && Arc::ptr_eq(entry.get(), feed)
        {
            entry.remove();
        }
    }
}

impl<B: Backend> Backend for Hub<B> {
    type Answer = Answer<B::Answer>;

    fn call_as(&self, request: Request, manner: Manner) -> Self::Answer {
        let Target::Subscribe(pattern) = &request.target else {
            return Answer { state: State::Passed { answer: self.0.backend.call_as(request, manner) } };
        };
        let pattern = pattern.clone();
        let state = match self.subscribe(pattern, request) {
            Ok(listening) => State::Joining { listening: Some(listening) },
            Err(error) => State::Refused { error: Some(error) },
        };
        Answer { state }
    }

    fn health(&self) -> Health {
        self.0.backend.health()
    }

    fn charge_to(&self, memory: &ByteBudget) {
        self.0.backend.charge_to(memory);
    }

    fn is_reachable(&self) -> bool {
        self.0.backend.is_reachable()
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.0.backend.changes()
    }

    fn readings(&self) -> Vec<Reading> {
        let shared = &self.0;
        let feeds: Vec<_> = shared.feeds().by_pattern.values().cloned().collect();
        let unread_most = feeds.iter().map(|feed| feed.unread_most()).max().unwrap_or(0);
        let mut readings = shared.backend.readings();
        readings.extend(shared.meters.readings(feeds.len(), shared.settings.patterns_max, unread_most));
        readings
    }

    /// Closes the backend, and ends every stream after what it has unread.
    async fn close(&self) {
        let shared = &self.0;
        shared.feeds().closed = true;
        shared.pumps.close();
        shared.backend.close().await;
        // The backend's streams end now, after what they had unread; one that does not is cut.
        let _ = tokio::time::timeout(CLOSE_LIMIT, shared.pumps.wait()).await;
        shared.stop.cancel();
        shared.pumps.wait().await;
    }
}

impl<B> Clone for Hub<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> fmt::Debug for Hub<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hub").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of an answer: the backend's own, or that of a subscription that is being opened. Dropping
    /// it takes the listener away.
    pub struct Answer<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        // A publish or a request: the backend's alone.
        Passed {
            #[pin]
            answer: F,
        },
        // A subscription, taken when it is in force.
        Joining {
            listening: Option<Listening>,
        },
        // A subscription that cannot be; why is taken when it is told.
        Refused {
            error: Option<Error>,
        },
    }
}

impl<F> Future for Answer<F>
where
    F: Future<Output = Result<Reply, Error>>,
{
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Passed { answer } => answer.poll(context),
            StateProjection::Joining { listening } => {
                let joined = listening.as_ref().expect("a subscription is answered once");
                let opened = ready!(joined.poll_opened(context));
                let listening = listening.take().expect("it was there a line ago");
                Poll::Ready(opened.map(|()| Reply::Stream(DeliveryStream::new(listening))))
            }
            StateProjection::Refused { error } => {
                Poll::Ready(Err(error.take().expect("a refusal is told once")))
            }
        }
    }
}
