//! Routes: what a subject or a message type means here, who may use it, and within which bounds.
//!
//! The table is built whole from the configuration and never changed; a reload builds another. What must
//! outlive a reload (permits in use, spent rate) is shared by name with the table before it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use contract::{
    MessageType, Method, Operation, Origin, Pattern, PeerAddress, QueueBounds, QueuePolicy, Request, Subject,
    Target,
};
use tokio::time::Instant;

use crate::adaptive::{AdaptiveLimit, AdaptiveSettings};
use crate::backend::replies::ReplyBounds;
use crate::circuit::{Circuit, CircuitSettings};
use crate::metrics::RouteMeters;
use crate::permits::Permits;
use crate::policies::rate_limit::Bucket;
use crate::pressure::{Pressure, PressureSettings};
use crate::profiles::{Profile, beamline_results};
use crate::rules::Rules;
use crate::services::idempotency::{self, IdempotencySettings};
use crate::services::retry::{Budget, RetrySettings};

/// A request on its way, with the route it takes and the rules in force when it arrived.
#[derive(Clone, Debug)]
pub struct Call {
    /// The request. Its target is never a [`Target::Task`] here, unless there is no route for it.
    pub request: Request,
    /// The route; the one named `unknown` when none fits.
    pub route: Arc<Route>,
    /// Every other rule's settings and state, as one consistent whole.
    pub rules: Arc<Rules>,
    /// Of an attempt with a time of its own: when it has had all of it. The request's deadline may come before.
    pub attempt_due: Option<Instant>,
    /// Whether it is not sent again once it may have happened, whatever its peer says: it has an idempotency key.
    pub sent_once: bool,
}

impl Call {
    /// Ends this attempt at `due` at the latest.
    pub fn limit_attempt(&mut self, due: Instant) {
        self.attempt_due = Some(due);
        self.request.deadline = self.request.deadline.min(due);
    }

    /// Whether it has all the time that the settings give it: not if its peer wanted the answer earlier. Only then
    /// does silence say something about the backend.
    pub fn has_full_time(&self) -> bool {
        let due = self.attempt_due.unwrap_or(self.request.received + self.route.settings.timeout);
        self.request.deadline >= due
    }
}

/// What a route is configured to be.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSettings {
    /// Its name in configuration, logs and metrics.
    pub name: String,
    /// Which subjects (or, for a subscription, patterns) it stands for.
    pub patterns: Vec<Pattern>,
    /// Which message types of protocols without subjects it stands for.
    pub message_types: Vec<MessageType>,
    /// Where its requests go instead of the subject they named.
    pub subject: Option<Subject>,
    /// Where a responder is told that its request was given up; `None` is nowhere.
    pub cancel_subject: Option<Subject>,
    /// Why its requests are not served: they are answered `unsupported` with this text.
    pub refuse: Option<Arc<str>>,
    /// What may be done with it.
    pub operations: Vec<Operation>,
    /// Who may use it.
    pub allow: Vec<Principal>,
    /// Default and latest deadline of its requests.
    pub timeout: Duration,
    /// Fewest bytes of a payload.
    pub payload_bytes_min: usize,
    /// Most bytes of a payload.
    pub payload_bytes_max: usize,
    /// Its own rate limit.
    pub rate: Option<Rate>,
    /// Requests and publishes in flight at once; `None` is bounded by the total alone.
    pub calls_max: Option<usize>,
    /// Streams open at once; `None` is bounded by the total alone.
    pub streams_max: Option<usize>,
    /// What bounds the queue of each of its streams, and what happens when it is full.
    pub queue: QueueBounds,
    /// How many messages may answer a request of it, and how; `None` is one.
    pub replies: Option<ReplyBounds>,
    /// Header names a peer may pass on; `*` stands for any that is not reserved.
    pub headers: Vec<String>,
    /// When its circuit opens; `None` is never.
    pub breaker: Option<CircuitSettings>,
    /// How idempotent requests are tried again; `None` is not at all.
    pub retry: Option<RetrySettings>,
    /// How long requests with a key are executed once only; `None` is that keys mean nothing.
    pub idempotency: Option<IdempotencySettings>,
    /// How `calls_max` follows the latency; `None` is that it is fixed.
    pub adaptive: Option<AdaptiveSettings>,
    /// Where its responder is asked for its pressure, and what is made of it; `None` is not at all.
    pub pressure: Option<PressureSettings>,
    /// What stands between its clients and its responder.
    pub profile: Profile,
}

/// A rate: so many a second, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Requests a second, above 0.
    pub per_second: f64,
    /// Requests at once after a pause, at least 1.
    pub burst: u32,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Anybody.
    Any,
    /// Whoever is not known.
    Anonymous,
    /// Processes of this machine, as the Unix-socket door admits them.
    Local,
    /// Whoever is not known and comes over TCP from this machine: any user of it, a browser's pages as far as
    /// the door lets them in, and whatever a proxy on this machine passes on.
    Loopback,
    /// A local process of this user.
    Uid(u32),
    /// A local process of this group.
    Gid(u32),
}

impl Principal {
    fn includes(self, origin: &Origin) -> bool {
        let identity = &origin.identity;
        match self {
            Self::Any => true,
            Self::Anonymous => identity.method == Method::Anonymous,
            Self::Local => identity.method == Method::Local,
            Self::Loopback => {
                let PeerAddress::Tcp(address) = &origin.address else { return false };
                identity.method == Method::Anonymous && address.ip().to_canonical().is_loopback()
            }
            Self::Uid(uid) => identity.unix.is_some_and(|peer| peer.uid == uid),
            Self::Gid(gid) => identity.unix.is_some_and(|peer| peer.gid == gid),
        }
    }
}

/// A route in force: its settings with the state and the meters that belong to it.
#[derive(Debug)]
pub struct Route {
    /// What is configured.
    pub settings: RouteSettings,
    /// Whether it stands for everything that has no route.
    pub unknown: bool,
    /// Spent rate, kept across reloads.
    pub bucket: Arc<Bucket>,
    /// Calls in flight, kept across reloads.
    pub calls: Arc<Permits>,
    /// Streams open, kept across reloads.
    pub streams: Arc<Permits>,
    /// Its circuit, kept across reloads.
    pub circuit: Arc<Circuit>,
    /// What is left for further attempts, kept across reloads.
    pub retries: Arc<Budget>,
    /// The limit that follows the latency, kept across reloads.
    pub adaptive: Arc<AdaptiveLimit>,
    /// What is known of its responder's pressure, kept across reloads.
    pub pressure: Arc<Pressure>,
    /// What became of workers' results on its streams, kept across reloads.
    pub results: Arc<beamline_results::Tally>,
    /// Whether all its requests go to one subject, whatever a peer names.
    pub has_one_subject: bool,
    /// Counters and histograms, looked up once.
    pub meters: RouteMeters,
    any_header: bool,
}

impl Route {
    fn new(settings: RouteSettings, unknown: bool, before: Option<&Self>, meters: RouteMeters) -> Self {
        let any_header = settings.headers.iter().any(|name| name == "*");
        let permits = |kept: Option<&Arc<Permits>>, limit: Option<usize>| {
            let permits = kept.map_or_else(Arc::default, Arc::clone);
            permits.set_limit(limit.unwrap_or(usize::MAX));
            permits
        };
        let adaptive = before.map_or_else(Arc::<AdaptiveLimit>::default, |route| Arc::clone(&route.adaptive));
        let calls_max = settings.adaptive.map(|bounds| adaptive.current(&bounds)).or(settings.calls_max);
        let retries = before.map_or_else(Arc::<Budget>::default, |route| Arc::clone(&route.retries));
        retries.set_max(settings.retry.map_or(0, |retry| retry.budget_max));
        let one_pattern = matches!(&settings.patterns[..], [only] if only.is_literal());
        Self {
            unknown,
            circuit: before.map_or_else(Arc::default, |route| Arc::clone(&route.circuit)),
            retries,
            adaptive,
            results: before.map_or_else(Arc::default, |route| Arc::clone(&route.results)),
            pressure: before.map_or_else(Arc::default, |route| Arc::clone(&route.pressure)),
            has_one_subject: settings.subject.is_some() || one_pattern,
            bucket: before.map_or_else(Arc::default, |route| Arc::clone(&route.bucket)),
            calls: permits(before.map(|route| &route.calls), calls_max),
            streams: permits(before.map(|route| &route.streams), settings.streams_max),
            meters,
            any_header,
            settings,
        }
    }

    /// Whether who stands behind `origin` may use it.
    pub fn allows(&self, origin: &Origin) -> bool {
        self.settings.allow.iter().any(|principal| principal.includes(origin))
    }

    /// Whether the operation may be done with it.
    pub fn offers(&self, operation: Operation) -> bool {
        self.settings.operations.contains(&operation)
    }

    /// Whether this header of a peer gets past the validation: what it may pass on, and what a rule reads.
    pub fn takes(&self, header: &str) -> bool {
        self.passes(header)
            || self.settings.idempotency.is_some() && header.eq_ignore_ascii_case(idempotency::HEADER)
    }

    /// Whether a peer may pass this header on. Reserved names never pass, whatever the route says.
    pub fn passes(&self, header: &str) -> bool {
        !contract::Headers::is_reserved(header)
            && (self.any_header || self.settings.headers.iter().any(|name| name.eq_ignore_ascii_case(header)))
    }
}

/// The table: subjects by hash, patterns by exactness, message types by name.
#[derive(Debug)]
pub struct RouteTable {
    by_name: BTreeMap<String, Arc<Route>>,
    literals: HashMap<Subject, Arc<Route>>,
    /// The most exact first.
    patterns: Vec<(Pattern, Arc<Route>)>,
    tasks: Vec<(MessageType, Arc<Route>)>,
    unknown: Arc<Route>,
}

impl RouteTable {
    /// Builds the table. State is shared with `before` route by route, by name; `meters` makes or finds the
    /// meters of a name.
    pub fn new(
        routes: Vec<RouteSettings>,
        before: Option<&Self>,
        mut meters: impl FnMut(&str) -> RouteMeters,
    ) -> Self {
        let kept = |name: &str| before.and_then(|table| table.by_name.get(name)).map(Arc::as_ref);
        let mut table = Self {
            by_name: BTreeMap::new(),
            literals: HashMap::new(),
            patterns: Vec::new(),
            tasks: Vec::new(),
            unknown: Arc::new(Route::new(no_route(), true, None, meters(UNKNOWN))),
        };
        for settings in routes {
            let name = settings.name.clone();
            let route = Arc::new(Route::new(settings, false, kept(&name), meters(&name)));
            for pattern in &route.settings.patterns {
                if let (true, Ok(subject)) = (pattern.is_literal(), Subject::parse(pattern.as_str())) {
                    table.literals.entry(subject).or_insert_with(|| Arc::clone(&route));
                }
                table.patterns.push((pattern.clone(), Arc::clone(&route)));
            }
            for kind in &route.settings.message_types {
                table.tasks.push((*kind, Arc::clone(&route)));
            }
            table.by_name.insert(name, route);
        }
        table.patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.precision()));
        table
    }

    /// The routes, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_name.values()
    }

    /// The route of a request: the most exact one that stands for its target. Rewrites the target where the
    /// route says so.
    pub fn resolve(&self, request: &mut Request) -> Arc<Route> {
        let route = match &request.target {
            Target::Publish(subject) | Target::Request(subject) => self.of_subject(subject),
            Target::Subscribe(pattern) => self.of_pattern(pattern),
            Target::Task(kind) => self.tasks.iter().find(|(known, _)| known == kind).map(|(_, route)| route),
        };
        let route = route.unwrap_or(&self.unknown);
        if let Some(subject) = &route.settings.subject {
            match &mut request.target {
                Target::Publish(named) | Target::Request(named) => named.clone_from(subject),
                task @ Target::Task(_) => *task = Target::Request(subject.clone()),
                Target::Subscribe(_) => {}
            }
        }
        Arc::clone(route)
    }

    /// The most exact route that stands for `subject`.
    pub fn of_subject(&self, subject: &Subject) -> Option<&Arc<Route>> {
        self.literals.get(subject).or_else(|| {
            self.patterns.iter().find(|(pattern, _)| pattern.matches(subject)).map(|(_, route)| route)
        })
    }

    /// The most exact route that covers all of `pattern`.
    pub fn of_pattern(&self, pattern: &Pattern) -> Option<&Arc<Route>> {
        self.patterns.iter().find(|(wide, _)| wide.covers(pattern)).map(|(_, route)| route)
    }
}

/// The name under which requests without a route are counted.
pub const UNKNOWN: &str = "unknown";

fn no_route() -> RouteSettings {
    RouteSettings {
        name: UNKNOWN.to_owned(),
        patterns: Vec::new(),
        message_types: Vec::new(),
        subject: None,
        cancel_subject: None,
        refuse: None,
        operations: Vec::new(),
        allow: Vec::new(),
        timeout: Duration::ZERO,
        payload_bytes_min: 0,
        payload_bytes_max: 0,
        rate: None,
        calls_max: None,
        streams_max: None,
        queue: QueueBounds { policy: QueuePolicy::DropOldest, messages_max: 1, bytes_max: 0 },
        replies: None,
        headers: Vec::new(),
        breaker: None,
        retry: None,
        idempotency: None,
        adaptive: None,
        pressure: None,
        profile: Profile::Raw,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{request, route_settings};

    fn table(routes: Vec<RouteSettings>) -> RouteTable {
        RouteTable::new(routes, None, crate::testing::meters)
    }

    fn resolved(table: &RouteTable, target: Target) -> (String, String) {
        let mut request = request(target);
        let route = table.resolve(&mut request);
        (route.settings.name.clone(), request.target.as_str().to_owned())
    }

    #[test]
    fn the_most_exact_route_wins_whatever_the_order() {
        let table = table(vec![
            route_settings("all", &[">"]),
            route_settings("exact", &["a.b"]),
            route_settings("one", &["a.*"]),
        ]);
        let name = |subject| resolved(&table, Target::Request(Subject::from_static(subject))).0;
        assert_eq!((name("a.b"), name("a.c"), name("x.y.z")), ("exact".into(), "one".into(), "all".into()));
    }

    #[test]
    fn a_message_type_goes_to_the_subject_of_its_route() {
        let mut decide = route_settings("decide", &[]);
        decide.message_types = vec![MessageType("task_submit")];
        decide.subject = Some(Subject::from_static("beamline.router.v1.decide"));
        let table = table(vec![decide]);
        let found = resolved(&table, Target::Task(MessageType("task_submit")));
        assert_eq!(found, ("decide".into(), "beamline.router.v1.decide".into()));
        assert_eq!(resolved(&table, Target::Task(MessageType("task_query"))).0, UNKNOWN);
    }

    #[test]
    fn a_subscription_needs_a_route_that_covers_all_of_its_pattern() {
        let table = table(vec![route_settings("some", &["a.*"])]);
        let name = |pattern| resolved(&table, Target::Subscribe(Pattern::from_static(pattern))).0;
        assert_eq!((name("a.b"), name("a.*")), ("some".into(), "some".into()));
        assert_eq!((name("a.>"), name(">")), (UNKNOWN.into(), UNKNOWN.into()));
    }

    #[test]
    fn state_outlives_a_reload_by_name() {
        let before = table(vec![route_settings("kept", &["a"]), route_settings("gone", &["b"])]);
        let permit = before.by_name["kept"].calls.take().unwrap();
        let mut smaller = route_settings("kept", &["a"]);
        smaller.calls_max = Some(1);
        let after = RouteTable::new(vec![smaller], Some(&before), crate::testing::meters);
        assert!(after.by_name["kept"].calls.take().is_none(), "the permit of the table before counts");
        drop(permit);
        assert!(after.by_name["kept"].calls.take().is_some());
    }

    #[test]
    fn loopback_is_who_comes_over_tcp_from_this_machine_unknown() {
        let origin = |method, address: Option<&str>| Origin {
            door: "http",
            identity: contract::Identity::new("x", method),
            address: address.map_or(PeerAddress::Unix, |text| PeerAddress::Tcp(text.parse().unwrap())),
            connection: 1,
        };
        let included = |method, address| Principal::Loopback.includes(&origin(method, address));
        for here in ["127.0.0.1:9", "127.8.8.8:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert!(included(Method::Anonymous, Some(here)), "{here}");
            assert!(!included(Method::Local, Some(here)), "{here}");
        }
        assert!(!included(Method::Anonymous, Some("10.0.0.1:9")) && !included(Method::Anonymous, None));
        assert!(Principal::Anonymous.includes(&origin(Method::Anonymous, Some("10.0.0.1:9"))));
    }

    #[test]
    fn headers_pass_by_the_routes_list_and_reserved_ones_never() {
        let mut settings = route_settings("r", &["a"]);
        settings.headers = vec!["X-Kind".to_owned()];
        let listed = Route::new(settings.clone(), false, None, crate::testing::meters("r"));
        assert!(listed.passes("x-kind") && !listed.passes("x-other"));
        settings.headers = vec!["*".to_owned(), "Nats-Msg-Id".to_owned()];
        let any = Route::new(settings, false, None, crate::testing::meters("r"));
        assert!(any.passes("x-other") && !any.passes("nats-msg-id") && !any.passes("Ipc-Gateway-Tenant"));
    }
}
