//! The watcher: asks the responders of routes for their pressure, as long as the gateway runs.
//!
//! One task for all of them, in which a route is a future: nothing has to be found and ended when a reload changes
//! the routes, since then all futures are dropped and made anew; what was heard is the routes' own. It asks the
//! backend and not the pipeline: a responder under pressure has to be asked although its route refuses.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::{
    Error, Headers, Identity, Kind, Method, Origin, PeerAddress, Reply, Request, Subject, Target,
    TraceContext,
};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout_at};

use crate::backend::Backend;
use crate::pressure::{News, PressureSettings, State};
use crate::route::Route;
use crate::rules::Handle;

/// The least that peers are told to wait: below, a refusal costs as much as what it keeps away.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// An answer has a few words; nothing larger is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Watches the routes of the rules in force until it is dropped.
pub(super) async fn watch<B: Backend>(backend: B, handle: Handle) {
    let mut swaps = handle.swaps();
    let identity = Identity::new("ipc-gateway", Method::Local);
    let origin = Arc::new(Origin { door: "watcher", identity, address: PeerAddress::Unix, connection: 0 });
    loop {
        // Before the rules are read: a swap in between is then seen.
        swaps.borrow_and_update();
        let rules = handle.load();
        let watched = rules.routes.iter().filter_map(|route| {
            let settings = route.settings.pressure.clone()?;
            let (backend, origin) = (backend.clone(), Arc::clone(&origin));
            Some(follow(backend, Arc::clone(route), settings, origin))
        });
        let followed = join_all(watched);
        drop(rules);
        let followed = async {
            // Over at once where no route is watched.
            followed.await;
            pending::<Infallible>().await
        };
        tokio::select! {
            changed = swaps.changed() => changed.expect("the handle lives as long as this"),
            never = followed => match never {},
        }
    }
}

/// Asks for one route, for ever.
async fn follow<B: Backend>(
    backend: B,
    route: Arc<Route>,
    settings: PressureSettings,
    origin: Arc<Origin>,
) -> Infallible {
    let mut told = State::Free;
    loop {
        let news = ask(&backend, &route, &settings, &origin).await;
        let state = route.pressure.hear(&settings, Instant::now(), news);
        if state != told {
            tell(&route, state);
            told = state;
        }
        // Who was there a moment ago comes back soon.
        let is_absent = news == News::Absent && state == State::Free;
        let interval = if is_absent { settings.absent_interval } else { settings.interval };
        // Not all gateways at the same moment.
        sleep(interval.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
    }
}

fn tell(route: &Route, state: State) {
    let (route, name) = (&route.settings.name, state.name());
    match state {
        State::Slowed | State::Refusing => {
            tracing::warn!(route, state = name, "a responder is under pressure");
        }
        State::Free | State::Recovering => tracing::info!(route, state = name, "the pressure is over"),
    }
}

async fn ask<B: Backend>(
    backend: &B,
    route: &Route,
    settings: &PressureSettings,
    origin: &Arc<Origin>,
) -> News {
    let received = Instant::now();
    let deadline = received + settings.timeout;
    let asked = serde_json::json!({ "subject": subject(route) });
    let request = Request {
        target: Target::Request(settings.subject.clone()),
        headers: Headers::new(),
        payload: asked.to_string().into(),
        received,
        deadline,
        idempotent: true,
        ordered: false,
        queue: None,
        parts: false,
        trace: TraceContext::start(),
        origin: Arc::clone(origin),
    };
    match timeout_at(deadline, backend.call(request)).await {
        Ok(answer) => read(answer, settings),
        Err(_) => News::Silent,
    }
}

/// What the route is for: the subject that its requests go to, or else its first pattern.
fn subject(route: &Route) -> &str {
    let settings = &route.settings;
    let pattern = settings.patterns.first().map_or("", |pattern| pattern.as_str());
    settings.subject.as_ref().map_or(pattern, Subject::as_str)
}

fn read(answer: Result<Reply, Error>, settings: &PressureSettings) -> News {
    match answer {
        Ok(Reply::Message(message)) => understand(&message.payload, settings).unwrap_or(News::Unknown),
        Ok(_) => News::Unknown,
        Err(error) => match error.kind() {
            // Where the gateway may not ask, nothing is offered to it.
            Kind::NoResponders | Kind::NotFound | Kind::Denied => News::Absent,
            Kind::Failed => News::Unknown,
            _ => News::Silent,
        },
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    status: &'a str,
    /// Read by itself: what it says of times is worth less than the status.
    #[serde(borrow)]
    policy: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Policy {
    retry_after_seconds: Option<f64>,
}

fn understand(payload: &Bytes, settings: &PressureSettings) -> Option<News> {
    if payload.len() > ANSWER_BYTES_MAX {
        return None;
    }
    let Answer { data: Data { status, policy } } = serde_json::from_slice(payload).ok()?;
    Some(match status {
        "active" => {
            let policy = policy.and_then(|policy| serde_json::from_str::<Policy>(policy.get()).ok());
            let seconds = policy.and_then(|policy| policy.retry_after_seconds);
            let said = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            // Before it is asked again, nothing changes.
            News::Active { retry_after: said.unwrap_or(settings.interval).max(RETRY_AFTER_MIN) }
        }
        "warning" => News::Warning,
        "inactive" => News::Inactive,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use contract::{Message, Pattern};

    use super::*;
    use crate::backend::embedded::{Attached, Embedded, Settings};
    use crate::pressure::Verdict;
    use crate::route::RouteSettings;
    use crate::rules::Rules;
    use crate::testing::{self, pressure_settings as settings};

    fn rules(name: &str, pressure: Option<PressureSettings>, before: Option<&Rules>) -> Rules {
        let subject = Some(Subject::from_static("work"));
        let route = RouteSettings { subject, pressure, ..testing::route_settings(name, &["a", "b"]) };
        Rules::new(vec![route], testing::limits(), before, testing::meters)
    }

    /// A watcher of one route, and a responder who says what a test puts here; `None` is silence.
    struct Bench {
        handle: Handle,
        backend: Embedded,
        says: Arc<Mutex<Option<&'static str>>>,
        responder: Option<Attached>,
        watcher: tokio::task::JoinHandle<()>,
    }

    impl Bench {
        fn new() -> Self {
            let backend = Embedded::open(Settings { demo: false, ..Settings::default() });
            let handle = Handle::new(rules("r", Some(settings()), None));
            let watcher = tokio::spawn(watch(backend.clone(), handle.clone()));
            Self { handle, backend, says: Arc::default(), responder: None, watcher }
        }

        fn offer(&mut self) {
            let says = Arc::clone(&self.says);
            let answer = move |posted: &crate::backend::embedded::Posted<'_>| {
                assert_eq!(posted.payload(), r#"{"subject":"work"}"#);
                let payload = Bytes::from_static((*says.lock().unwrap())?.as_bytes());
                Some(Message { payload, ..Message::default() })
            };
            self.responder = Some(self.backend.respond(Pattern::from_static("status"), None, answer));
        }

        fn say(&self, answer: Option<&'static str>) {
            *self.says.lock().unwrap() = answer;
        }

        fn look(&self) -> (State, Verdict) {
            let rules = self.handle.load();
            let route = rules.routes.iter().next().unwrap();
            let settings = settings();
            route.pressure.look(route.settings.pressure.as_ref().unwrap_or(&settings), Instant::now())
        }

        fn heard(&self, news: News) -> u64 {
            self.handle.load().routes.iter().next().unwrap().pressure.heard_total(news)
        }

        async fn pass(seconds: u64) {
            // The clock is paused: this passes as soon as all tasks wait.
            sleep(Duration::from_secs(seconds)).await;
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            self.watcher.abort();
        }
    }

    const ACTIVE: &str = r#"{"ok":true,"data":{"status":"active","policy":{"retry_after_seconds":7}}}"#;
    const INACTIVE: &str = r#"{"data":{"status":"inactive","policy":null}}"#;

    #[tokio::test(start_paused = true)]
    async fn a_status_holds_changes_and_expires_when_the_responder_falls_silent() {
        let mut bench = Bench::new();
        bench.offer();
        bench.say(Some(ACTIVE));
        Bench::pass(3).await;
        assert_eq!(bench.look(), (State::Refusing, Verdict::None(Duration::from_secs(7))));
        bench.say(Some(r#"{"data":{"status":"warning"}}"#));
        Bench::pass(3).await;
        assert_eq!(bench.look(), (State::Slowed, Verdict::Share(50)));
        bench.say(None);
        Bench::pass(7).await;
        assert_eq!(bench.look().0, State::Slowed, "it is believed for ten seconds");
        Bench::pass(3).await;
        assert_eq!(bench.look().0, State::Recovering);
        Bench::pass(4).await;
        assert_eq!(bench.look().0, State::Free);
        assert!(bench.heard(News::Silent) >= 3);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_answers_such_questions_they_are_asked_rarely() {
        let mut bench = Bench::new();
        Bench::pass(600).await;
        // One a minute, give or take a quarter.
        let absent = bench.heard(News::Absent);
        assert!((8..=15).contains(&absent), "{absent}");
        assert_eq!(bench.look().0, State::Free);
        bench.offer();
        bench.say(Some(ACTIVE));
        Bench::pass(76).await;
        assert_eq!(bench.look().0, State::Refusing);
        // Who goes in the middle of it is looked for at the usual pace until all is well again.
        bench.responder = None;
        Bench::pass(6).await;
        assert!(bench.heard(News::Absent) >= absent + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_asks_anew_and_keeps_what_is_known() {
        let mut bench = Bench::new();
        bench.offer();
        bench.say(Some(ACTIVE));
        Bench::pass(1).await;
        let asked = bench.heard(News::ALL[0]);
        let before = bench.handle.load();
        bench.handle.swap(rules("r", Some(settings()), Some(&before)));
        assert_eq!(bench.look().0, State::Refusing);
        Bench::pass(1).await;
        assert_eq!(bench.heard(News::ALL[0]), asked + 1);
        // Switched off, nothing is asked any more.
        let before = bench.handle.load();
        bench.handle.swap(rules("r", None, Some(&before)));
        Bench::pass(100).await;
        assert_eq!(bench.heard(News::ALL[0]), asked + 1);
        let before = bench.handle.load();
        bench.handle.swap(rules("r", Some(settings()), Some(&before)));
        bench.say(Some(INACTIVE));
        Bench::pass(1).await;
        assert_eq!(bench.heard(News::Inactive), 1);
    }

    #[test]
    fn answers_are_read_as_what_they_say() {
        let active = |seconds| Some(News::Active { retry_after: Duration::from_secs(seconds) });
        let cases = [
            (ACTIVE, active(7)),
            (r#"{"data":{"status":"active","policy":{"retry_after_seconds":0}}}"#, active(1)),
            (r#"{"data":{"status":"active","policy":{"retry_after_seconds":-3}}}"#, active(2)),
            (r#"{"data":{"status":"active","policy":{"retry_after_seconds":1e300}}}"#, active(2)),
            (r#"{"data":{"status":"active"}}"#, active(2)),
            (r#"{"data":{"status":"active","policy":{"retry_after_seconds":"7"}}}"#, active(2)),
            (r#"{"data":{"status":"active","policy":[]}}"#, active(2)),
            (r#"{"data":{"status":"warning","policy":{}}}"#, Some(News::Warning)),
            (INACTIVE, Some(News::Inactive)),
            (r#"{"data":{"status":"unknown"}}"#, None),
            (r#"{"data":{"status":"bad"}}"#, None),
            (r#"{"status":"active"}"#, None),
            ("active", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(understand(&Bytes::from_static(text.as_bytes()), &settings()), expected, "{text}");
        }
        let mut long = ACTIVE.as_bytes().to_vec();
        long.resize(ANSWER_BYTES_MAX + 1, b' ');
        assert_eq!(understand(&long.into(), &settings()), None);
    }

    #[test]
    fn what_did_not_come_is_no_answer_and_where_nobody_may_ask_none_is_offered() {
        let cases = [
            (Kind::NoResponders, News::Absent),
            (Kind::Denied, News::Absent),
            (Kind::Unavailable, News::Silent),
            (Kind::TimedOut, News::Silent),
            (Kind::Overloaded, News::Silent),
        ];
        for (kind, expected) in cases {
            assert_eq!(read(Err(Error::new(kind, "")), &settings()), expected, "{kind:?}");
        }
    }
}
