//! A member of the pool: makes a link, waits until it ends or retires, and makes the next, for ever or as
//! often as the settings say.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::connect::connect;
use super::link::Link;
use super::pool::Pool;

/// One place in the pool.
pub(super) struct Member {
    /// Its number, unique in the pool.
    pub(super) id: u64,
    link: ArcSwapOption<Link>,
    search: Mutex<Search>,
    reconnects: AtomicU64,
    /// The pool needs it no more.
    stop: CancellationToken,
}

/// How the search for the next link goes.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// When it began.
    pub(super) since: Instant,
    /// Attempts that failed since the last link.
    pub(super) attempts: usize,
    /// The address tried last, without secrets.
    pub(super) address: Option<String>,
    /// Why the last attempt failed.
    pub(super) failure: Option<String>,
    /// When the next attempt is due.
    pub(super) next_attempt: Option<Instant>,
    /// No further attempt is made.
    pub(super) given_up: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            attempts: 0,
            address: None,
            failure: None,
            next_attempt: None,
            given_up: false,
        }
    }
}

impl Search {
    /// A search that begins because of the end of a link.
    fn after(server: &str, why: &str) -> Self {
        Self { address: Some(server.to_owned()), failure: Some(why.to_owned()), ..Self::default() }
    }
}

/// What a member is doing, in the words of metrics and `/ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Connected and taking work.
    Connected,
    /// Connected to a server that is about to leave; looking for another.
    Retiring,
    /// Not connected; trying.
    Connecting,
    /// Not connected; the settings allow no more attempts.
    GivenUp,
}

impl State {
    pub(super) const ALL: [Self; 4] = [Self::Connected, Self::Retiring, Self::Connecting, Self::GivenUp];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Retiring => "retiring",
            Self::Connecting => "connecting",
            Self::GivenUp => "given_up",
        }
    }
}

impl Member {
    pub(super) fn new(id: u64) -> Arc<Self> {
        Arc::new(Self {
            id,
            link: ArcSwapOption::empty(),
            search: Mutex::default(),
            reconnects: AtomicU64::new(0),
            stop: CancellationToken::new(),
        })
    }

    /// The link, while it is open.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.load_full().filter(|link| link.is_open())
    }

    pub(super) fn state(&self) -> State {
        match self.link() {
            Some(link) if link.is_retiring() => State::Retiring,
            Some(_) => State::Connected,
            None if self.search().given_up => State::GivenUp,
            None => State::Connecting,
        }
    }

    pub(super) fn search(&self) -> Search {
        self.lock().clone()
    }

    /// Whether it may have a link before long: it tries, and not for longer than one attempt may take.
    pub(super) fn is_coming(&self, limit: Duration) -> bool {
        let search = self.search();
        self.link().is_none() && !search.given_up && search.since.elapsed() <= limit
    }

    /// Links after the first.
    pub(super) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// Makes no further link and lets the last one finish its work.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Lives until it is stopped, or the pool closes.
    pub(super) async fn live(self: Arc<Self>, pool: Arc<Pool>) {
        tokio::select! {
            () = self.keep_connected(&pool) => {}
            () = self.stop.cancelled() => {}
            () = pool.stop.cancelled() => {}
        }
        if let Some(link) = self.link.swap(None) {
            pool.part_with(link);
        }
    }

    async fn keep_connected(&self, pool: &Arc<Pool>) {
        // Kept over the links, so that a server that takes connections only to drop them is not stormed.
        let mut backoff = Backoff::new(pool.settings.reconnect_delay_max);
        let mut first = true;
        loop {
            let link = self.find(pool, first, &mut backoff).await;
            if !std::mem::take(&mut first) {
                self.reconnects.fetch_add(1, Ordering::Relaxed);
                pool.counts.reconnects.increment();
            }
            let (member, server, version) = (self.id, &link.server.address, &link.server.version);
            let since = Instant::now();
            if let Some(left_out) = pool.pace.take(since) {
                tracing::info!(member, server, version, left_out, "connected to NATS");
            }
            if let Some(old) = self.link.swap(Some(link.clone())) {
                pool.part_with(old);
            }
            pool.tell();
            tokio::select! {
                () = link.ended() => {}
                () = link.retiring() => {}
            }
            let why = if !link.is_open() {
                self.link.store(None);
                "the connection to NATS was lost"
            } else if link.is_deaf() {
                self.link.store(None);
                pool.part_with(link.clone());
                "the NATS server no longer permits the gateway to receive replies"
            } else {
                // The old link stays until there is a new one: it still works.
                "the NATS server is about to leave, or does not answer"
            };
            *self.lock() = Search::after(server, why);
            if let Some(left_out) = pool.pace.take(Instant::now()) {
                tracing::warn!(member, server, left_out, "{why}");
            }
            backoff.settle(since.elapsed());
            pool.tell();
        }
    }

    /// Tries until it has a link. The first attempt of all is made at once; any other waits a random time,
    /// because every client of a lost server tries at this moment.
    async fn find(&self, pool: &Arc<Pool>, first: bool, backoff: &mut Backoff) -> Arc<Link> {
        for attempt in 0_usize.. {
            if attempt > 0 || !first {
                let wait = backoff.next();
                self.lock().next_attempt = Some(Instant::now() + wait);
                sleep(wait).await;
            }
            let address = pool.servers.address(usize::try_from(self.id).unwrap_or(0).wrapping_add(attempt));
            let failure = match connect(&pool.settings, &address, &pool.counts, &pool.tracker).await {
                Ok(link) if link.is_fresh() => {
                    pool.servers.learn(&link.server.others, pool.settings.discover);
                    *self.lock() = Search::default();
                    return link;
                }
                // A server that is about to leave still greets some.
                Ok(_) => "the server is about to leave".to_owned(),
                Err(failure) => {
                    pool.counts.connect_failures.increment();
                    failure.to_string()
                }
            };
            let address = address.redacted();
            tracing::debug!(member = self.id, address, failure, "no connection to NATS");
            // Said once a search, and not at every attempt.
            if attempt == 0
                && let Some(left_out) = pool.pace.take(Instant::now())
            {
                tracing::warn!(address, failure, left_out, "cannot reach NATS; trying on");
            }
            let attempts_max = pool.settings.reconnect_attempts_max;
            let mut search = self.lock();
            search.address = Some(address);
            search.failure = Some(failure);
            search.attempts = attempt + 1;
            if attempts_max > 0 && search.attempts >= attempts_max {
                search.given_up = true;
                drop(search);
                tracing::error!(member = self.id, attempts_max, "gave up connecting to NATS");
                break;
            }
        }
        // What was given up stays so until the pool closes.
        std::future::pending().await
    }

    fn lock(&self) -> MutexGuard<'_, Search> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
