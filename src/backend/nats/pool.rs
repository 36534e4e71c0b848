//! The pool: its members, the choice among them, and how it grows and shrinks.
//!
//! Choosing takes, of two members picked at random, the one with less in flight: nearly as even as asking all
//! of them, at the cost of two. For a request, one of the two is always the same for the same client connection,
//! and is taken unless the other has fewer by more than a write takes along. Growth is asked for by a request that
//! found its link busy, and granted when the links have more in flight than they should, taken together; shrinking
//! is decided once fewer links have been enough for a while, and never takes a link with subscriptions, because
//! moving one loses messages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use contract::{Error, Kind};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counts::Counts;
use super::link::{Link, Use};
use super::member::{Member, State};
use super::pace::Pace;
use super::pins::Pins;
use super::settings::{Address, Settings};
use crate::backend::replies::ReplyMeters;

/// What a refused request is told to wait: about the time of a reconnect to a server that is back.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How many more than another a link may have in flight before a client's requests leave it: about what one write takes
/// along.
const TOGETHER: usize = 16;
/// How often clients that are gone are forgotten and the size is looked at.
const UPKEEP: Duration = Duration::from_secs(1);
/// The most addresses that are remembered; clusters are smaller.
const ADDRESSES_MAX: usize = 256;

/// Shared by everything of one backend.
pub(super) struct Pool {
    pub(super) settings: Settings,
    pub(super) counts: Arc<Counts>,
    /// Answers of many messages.
    pub(super) replies: Arc<ReplyMeters>,
    pub(super) servers: Servers,
    pub(super) pins: Pins,
    /// Of the log lines about connections that come and go.
    pub(super) pace: Pace,
    /// The backend closes.
    pub(super) stop: CancellationToken,
    /// Every task of the backend.
    pub(super) tracker: TaskTracker,
    members: ArcSwap<Vec<Arc<Member>>>,
    next_member: AtomicU64,
    /// Links that finish their work and go.
    parting: Mutex<Vec<Weak<Link>>>,
    grow: Notify,
    changed: watch::Sender<()>,
}

impl Pool {
    pub(super) fn open(settings: Settings) -> Arc<Self> {
        let pool = Arc::new(Self {
            servers: Servers(Mutex::new(settings.servers.clone())),
            settings,
            counts: Arc::default(),
            replies: Arc::default(),
            pins: Pins::default(),
            pace: Pace::default(),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
            members: ArcSwap::default(),
            next_member: AtomicU64::new(0),
            parting: Mutex::default(),
            grow: Notify::new(),
            changed: watch::Sender::new(()),
        });
        (0..pool.settings.pool_min).for_each(|_| pool.add_member());
        pool.tracker.spawn(pool.clone().keep_up());
        pool
    }

    /// A link for work that is bound to no other: fresh ones first, then one that retires.
    pub(super) fn choose(&self) -> Result<Arc<Link>, Error> {
        let members = self.members.load();
        let mut fresh = Fewer::default();
        if members.len() > 2 {
            let one = fastrand::usize(..members.len());
            let other = (one + fastrand::usize(1..members.len())) % members.len();
            for index in [one, other] {
                fresh.offer(members[index].link(), Link::is_fresh);
            }
        }
        if fresh.0.is_none() && !members.is_empty() {
            // From anywhere: of those with equally little to do, the first is taken.
            let start = fastrand::usize(..members.len());
            let around = members[start..].iter().chain(&members[..start]);
            around.for_each(|member| fresh.offer(member.link(), Link::is_fresh));
        }
        if let Some((link, _)) = fresh.0 {
            return Ok(link);
        }
        let mut open = Fewer::default();
        members.iter().for_each(|member| open.offer(member.link(), Link::is_usable));
        open.0.map(|(link, _)| link).ok_or_else(|| self.unavailable())
    }

    /// A link for one request of the client connection with this number: its own of the pool, unless another has
    /// fewer in flight by what one write takes along. Requests that a client sends together then leave in one write, where spreading each of
    /// them would wake every link for a part of them; and clients are spread all the same.
    pub(super) fn choose_near(&self, connection: u64) -> Result<Arc<Link>, Error> {
        let members = self.members.load();
        let fresh = |index: usize| members[index].link().filter(|link| link.is_fresh());
        if members.is_empty() {
            return self.choose();
        }
        let own = usize::try_from(connection % members.len() as u64).expect("less than a length");
        let Some(link) = fresh(own) else { return self.choose() };
        if members.len() > 1 {
            let other = (own + fastrand::usize(1..members.len())) % members.len();
            let lighter = fresh(other).filter(|other| other.in_flight() + TOGETHER < link.in_flight());
            return Ok(lighter.unwrap_or(link));
        }
        Ok(link)
    }

    /// A link for a client whose work stays on it: the fresh one with the least in flight, and of these the
    /// one with the fewest clients, because clients that are idle now will not always be.
    pub(super) fn choose_for_pin(&self) -> Result<Arc<Link>, Error> {
        let members = self.members.load();
        let links = members.iter().filter_map(|member| member.link()).filter(|link| link.is_fresh());
        links.min_by_key(|link| (link.in_flight(), link.pins())).map_or_else(|| self.choose(), Ok)
    }

    /// A link with at most half as much in flight as this one, which is busy.
    pub(super) fn lighter_than(&self, link: &Link) -> Option<Arc<Link>> {
        if !self.is_busy(link) {
            return None;
        }
        self.choose_for_pin()
            .ok()
            .filter(|other| other.is_fresh() && other.in_flight() * 2 <= link.in_flight())
    }

    /// Asks for another link when the one in use is busy. Whether it is worth it is looked at elsewhere.
    pub(super) fn note_load(&self, link: &Link) {
        if self.is_busy(link) {
            self.grow.notify_one();
        }
    }

    fn is_busy(&self, link: &Link) -> bool {
        link.in_flight() > self.settings.in_flight_per_connection
    }

    /// As [`Self::choose_near`], counted as in flight.
    pub(super) fn take_near(&self, connection: u64) -> Result<Use, Error> {
        self.choose_near(connection).map(Use::of)
    }

    /// The link for a new subscription: the fresh one with the fewest, and the one to avoid only if it is the
    /// only one.
    pub(super) fn choose_for_subscription(&self, avoid: Option<&Arc<Link>>) -> Option<Arc<Link>> {
        let links = self.members().into_iter().filter_map(|member| member.link());
        let is_avoided = |link: &Arc<Link>| avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, link));
        links.filter(|link| link.is_fresh()).min_by_key(|link| (is_avoided(link), link.subscriptions()))
    }

    /// Waits until there is a link for a subscription.
    pub(super) async fn wait_for_subscription(&self, avoid: Option<&Arc<Link>>) -> Arc<Link> {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(link) = self.choose_for_subscription(avoid) {
                return link;
            }
            // The sender lives as long as this pool.
            let _ = changed.changed().await;
        }
    }

    /// Whether no peer may name the subject or pattern, and no message on it is ever delivered: what is
    /// reserved, and what lies below the inbox prefix.
    pub(super) fn is_out_of_reach(&self, subject: &str) -> bool {
        let below_inbox = || subject.strip_prefix(self.settings.inbox_prefix.as_str());
        subject.starts_with(['$', '_'])
            || below_inbox().is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// There is no connection. Says when it is worth trying again, unless no member looks for one any more.
    pub(super) fn unavailable(&self) -> Error {
        if self.stop.is_cancelled() {
            return Error::new(Kind::Unavailable, "the gateway is closing its connections to NATS");
        }
        if self.members.load().iter().all(|member| member.state() == State::GivenUp) {
            return Error::new(Kind::Unavailable, "the gateway has given up connecting to NATS");
        }
        Error::new(Kind::Unavailable, "no connection to NATS").with_retry_after(RETRY_AFTER)
    }

    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.members.load().to_vec()
    }

    /// Links that finish their work and go.
    pub(super) fn parting(&self) -> Vec<Arc<Link>> {
        let mut parting = self.lock_parting();
        parting.retain(|link| link.upgrade().is_some_and(|link| link.is_open()));
        parting.iter().filter_map(Weak::upgrade).collect()
    }

    /// A link that its member has replaced, or that has no member any more.
    pub(super) fn part_with(self: &Arc<Self>, link: Arc<Link>) {
        self.parting();
        self.lock_parting().push(Arc::downgrade(&link));
        let pool = self.clone();
        self.tracker.spawn(async move { link.leave(pool.stop.cancelled()).await });
    }

    /// Something changed that others may wait for.
    pub(super) fn tell(&self) {
        self.changed.send_replace(());
    }

    /// Told at each [`Self::tell`].
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn add_member(self: &Arc<Self>) {
        let member = Member::new(self.next_member.fetch_add(1, Ordering::Relaxed));
        self.members.rcu(|members| {
            let mut members = Vec::clone(members);
            members.push(member.clone());
            members
        });
        self.tracker.spawn(member.live(self.clone()));
    }

    async fn keep_up(self: Arc<Self>) {
        let idle_shrink = self.settings.idle_shrink;
        let mut upkeep = interval(UPKEEP.min(idle_shrink));
        let mut probe = interval(self.settings.probe_interval);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut enough_since: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.grow.notified() => self.grow(),
                _ = upkeep.tick() => {
                    self.pins.purge();
                    for link in self.members().iter().filter_map(|member| member.link()) {
                        link.look_for_lame_duck();
                    }
                    if !self.fewer_are_enough() {
                        enough_since = None;
                    } else if enough_since.get_or_insert_with(Instant::now).elapsed() >= idle_shrink {
                        enough_since = None;
                        self.shrink();
                    }
                }
                _ = probe.tick() => self.probe(),
            }
        }
    }

    /// Opens another link if those there are have, on the average, more in flight than they should. One that is
    /// on its way is waited for, but not for ever; one that was given up makes room for another.
    fn grow(self: &Arc<Self>) {
        let members = self.members();
        let links: Vec<_> =
            members.iter().filter_map(|member| member.link()).filter(|link| link.is_fresh()).collect();
        let in_flight: usize = links.iter().map(|link| link.in_flight()).sum();
        if in_flight <= links.len() * self.settings.in_flight_per_connection
            || members.iter().any(|member| member.is_coming(self.settings.connect_timeout))
        {
            return;
        }
        if members.len() >= self.settings.pool_max {
            let given_up = members.iter().find(|member| member.state() == State::GivenUp);
            let Some(given_up) = given_up else { return };
            self.remove(given_up);
        }
        self.add_member();
        tracing::info!(size = self.members.load().len(), "the NATS pool grows");
    }

    /// Whether one link fewer would be at most half as busy as makes the pool grow: the half keeps it from
    /// growing and shrinking by turns.
    fn fewer_are_enough(&self) -> bool {
        let members = self.members();
        let in_flight: usize =
            members.iter().filter_map(|member| member.link()).map(|link| link.in_flight()).sum();
        members.len() > self.settings.pool_min
            && in_flight <= (members.len() - 1) * self.settings.in_flight_per_connection / 2
    }

    fn shrink(&self) {
        let members = self.members();
        let Some(leaving) = leaving(&members) else { return };
        self.remove(leaving);
        tracing::info!(size = self.members.load().len(), "the NATS pool shrinks");
    }

    fn remove(&self, leaving: &Member) {
        self.members.rcu(|members| {
            members.iter().filter(|member| member.id != leaving.id).cloned().collect::<Vec<_>>()
        });
        leaving.stop();
    }

    fn probe(&self) {
        for link in self.members().iter().filter_map(|member| member.link()) {
            let limit = self.settings.probe_interval;
            self.tracker.spawn(async move { link.probe(limit).await });
        }
    }

    fn lock_parting(&self) -> MutexGuard<'_, Vec<Weak<Link>>> {
        self.parting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a member is connected and can carry requests.
    pub(super) fn is_reachable(&self) -> bool {
        !self.stop.is_cancelled()
            && self.members.load().iter().any(|member| {
                matches!(member.state(), State::Connected | State::Retiring)
                    && member.link().is_some_and(|link| !link.is_deaf())
            })
    }

    /// Resolves when [`Self::is_reachable`].
    pub(super) async fn reachable(&self) {
        let mut changed = self.changed.subscribe();
        while !self.is_reachable() {
            // The sender lives as long as this pool.
            let _ = changed.changed().await;
        }
    }
}

/// The member that the pool needs least: one that is not connected, else one that has to change its server; one
/// that is well connected only when all are. None while the one to take has subscriptions.
fn leaving(members: &[Arc<Member>]) -> Option<&Arc<Member>> {
    let unused = |member: &&Arc<Member>| member.link().is_none_or(|link| link.subscriptions() == 0);
    for state in [State::GivenUp, State::Connecting, State::Retiring] {
        if members.iter().any(|member| member.state() == state) {
            return members.iter().filter(|member| member.state() == state).rfind(unused);
        }
    }
    members.iter().rfind(unused)
}

/// The one with less in flight of those offered.
#[derive(Default)]
struct Fewer(Option<(Arc<Link>, usize)>);

impl Fewer {
    fn offer(&mut self, link: Option<Arc<Link>>, is_good: impl Fn(&Link) -> bool) {
        let Some(link) = link.filter(|link| is_good(link)) else { return };
        let in_flight = link.in_flight();
        if self.0.as_ref().is_none_or(|(_, fewest)| in_flight < *fewest) {
            self.0 = Some((link, in_flight));
        }
    }
}

/// The addresses known: those of the settings, and those that servers told of.
pub(super) struct Servers(Mutex<Vec<Address>>);

impl Servers {
    /// The address for an attempt: members begin at different ones, and each goes on to the next.
    pub(super) fn address(&self, turn: usize) -> Address {
        let known = self.lock();
        known[turn % known.len()].clone()
    }

    /// Takes over addresses a server told of.
    pub(super) fn learn(&self, others: &[Address], discover: bool) {
        let mut known = self.lock();
        for other in others.iter().filter(|_| discover) {
            let is_known = known.iter().any(|address| address.redacted() == other.redacted());
            if !is_known && known.len() < ADDRESSES_MAX {
                known.push(other.clone());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Address>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
