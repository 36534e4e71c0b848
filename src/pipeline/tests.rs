//! Each rule is in the pipeline, in its place, and the backend gets what a route wants: what no test of a rule alone
//! can see.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::{Kind, Subject, Target};
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::*;
use crate::backend::replies::ReplyBounds;
use crate::backend::{Health, Reading};
use crate::circuit::CircuitSettings;
use crate::load::LoadSettings;
use crate::pressure::News;
use crate::route::{Rate, Route, RouteSettings};
use crate::rules::{Limits, Rules};
use crate::services::idempotency::{HEADER, IdempotencySettings};
use crate::services::retry::RetrySettings;
use crate::testing;

/// What a backend answers to its first request, its second, and so on; `None` is nothing, ever.
type Script = fn(usize) -> Option<Result<Reply, Error>>;

/// A backend that does what a script says and notes how it was asked.
#[derive(Clone)]
struct Noting {
    script: Script,
    manners: Arc<Mutex<Vec<Manner>>>,
}

impl Backend for Noting {
    type Answer = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

    fn call_as(&self, _: Request, manner: Manner) -> Self::Answer {
        let mut manners = self.manners.lock().unwrap();
        manners.push(manner);
        let answer = (self.script)(manners.len());
        Box::pin(async move {
            match answer {
                Some(answer) => answer,
                None => pending().await,
            }
        })
    }

    fn health(&self) -> Health {
        Health { kind: "noting", reachable: true, reasons: Vec::new(), facts: serde_json::Value::Null }
    }

    fn readings(&self) -> Vec<Reading> {
        Vec::new()
    }

    async fn close(&self) {}
}

/// A pipeline with one route in front of such a backend.
struct Scene {
    handle: Handle,
    backend: Noting,
}

impl Scene {
    fn new(script: Script, change: impl FnOnce(&mut RouteSettings, &mut Limits)) -> Self {
        let (mut route, mut limits) = (testing::route_settings("r", &["a"]), testing::limits());
        change(&mut route, &mut limits);
        let handle = Handle::new(Rules::new(vec![route], limits, None, testing::meters));
        Self { handle, backend: Noting { script, manners: Arc::default() } }
    }

    fn rules(&self) -> Arc<Rules> {
        self.handle.load()
    }

    fn route(&self) -> Arc<Route> {
        Arc::clone(self.rules().routes.iter().next().unwrap())
    }

    /// Asks with what `change` makes of a request; `None` is that it was answered.
    async fn ask_with(&self, change: impl FnOnce(&mut Request)) -> Option<Kind> {
        let mut request = testing::request(Target::Request(Subject::from_static("a")));
        change(&mut request);
        let answer = pipeline(self.handle.clone(), self.backend.clone()).oneshot(request).await;
        answer.err().map(|error| error.kind())
    }

    async fn ask(&self) -> Option<Kind> {
        self.ask_with(|_| ()).await
    }

    /// How often the backend was asked.
    fn asked(&self) -> usize {
        self.backend.manners.lock().unwrap().len()
    }
}

fn answers(_: usize) -> Option<Result<Reply, Error>> {
    Some(Ok(Reply::Accepted))
}

fn fails(_: usize) -> Option<Result<Reply, Error>> {
    Some(Err(Error::new(Kind::Unavailable, "")))
}

fn opens_at_once(route: &mut RouteSettings) {
    route.breaker = Some(CircuitSettings {
        window: Duration::from_secs(10),
        volume_min: 1,
        error_percent: 0,
        consecutive_max: 1,
        slow: None,
        slow_percent: 0,
        open: Duration::from_secs(10),
        probes: 1,
    });
}

fn tries_twice(route: &mut RouteSettings) {
    route.retry = Some(RetrySettings {
        attempts_max: 1,
        attempt_timeout: None,
        backoff: Duration::from_millis(10),
        backoff_max: Duration::from_millis(10),
        budget_percent: 100,
        budget_max: 10,
    });
}

#[tokio::test(start_paused = true)]
async fn a_route_for_others_is_denied() {
    let scene = Scene::new(answers, |route, _| route.allow.clear());
    assert_eq!((scene.ask().await, scene.asked()), (Some(Kind::Denied), 0));
}

#[tokio::test(start_paused = true)]
async fn a_payload_over_the_routes_bound_is_too_large() {
    let scene = Scene::new(answers, |route, _| route.payload_bytes_max = 1);
    assert_eq!((scene.ask().await, scene.asked()), (Some(Kind::TooLarge), 0));
}

#[tokio::test(start_paused = true)]
async fn the_second_request_of_a_rate_of_one_is_refused() {
    let scene = Scene::new(answers, |route, _| route.rate = Some(Rate { per_second: 0.001, burst: 1 }));
    assert_eq!((scene.ask().await, scene.ask().await), (None, Some(Kind::RateLimited)));
    assert_eq!(scene.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_memory_is_short_new_work_is_refused() {
    let scene = Scene::new(answers, |_, limits| {
        limits.load = LoadSettings { memory_bytes_max: 1000, ..LoadSettings::default() };
    });
    let charge = scene.rules().load.memory.charge_always(900);
    assert_eq!((scene.ask().await, scene.asked()), (Some(Kind::Overloaded), 0));
    drop(charge);
    assert_eq!((scene.ask().await, scene.asked()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_responder_does_not_take_is_refused() {
    let scene = Scene::new(answers, |route, _| route.pressure = Some(testing::pressure_settings()));
    let news = News::Active { retry_after: Duration::from_secs(1) };
    scene.route().pressure.hear(&testing::pressure_settings(), Instant::now(), news);
    assert_eq!((scene.ask().await, scene.asked()), (Some(Kind::Overloaded), 0));
}

#[tokio::test(start_paused = true)]
async fn over_the_permits_is_refused() {
    let scene = Scene::new(answers, |route, _| route.calls_max = Some(0));
    assert_eq!((scene.ask().await, scene.asked()), (Some(Kind::Overloaded), 0));
}

#[tokio::test(start_paused = true)]
async fn a_key_is_executed_once() {
    let scene = Scene::new(answers, |route, _| {
        route.idempotency =
            Some(IdempotencySettings { window: Duration::from_mins(1), default_tenant: "t".into() });
    });
    let with_key = |request: &mut Request| request.headers.append(HEADER, "k").unwrap();
    assert_eq!((scene.ask_with(with_key).await, scene.ask_with(with_key).await), (None, None));
    assert_eq!(scene.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_request_is_tried_again() {
    let scene = Scene::new(
        |number| if number == 1 { fails(number) } else { answers(number) },
        |route, _| tries_twice(route),
    );
    assert_eq!((scene.ask_with(|request| request.idempotent = true).await, scene.asked()), (None, 2));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_passes_the_breaker() {
    let scene = Scene::new(fails, |route, _| {
        opens_at_once(route);
        tries_twice(route);
    });
    let ended = scene.ask_with(|request| request.idempotent = true).await;
    assert_eq!((ended, scene.asked()), (Some(Kind::CircuitOpen), 1));
}

#[tokio::test(start_paused = true)]
async fn silence_is_timed_out_and_opens_the_circuit() {
    let scene = Scene::new(
        |_| None,
        |route, _| {
            route.timeout = Duration::from_secs(1);
            opens_at_once(route);
        },
    );
    assert_eq!((scene.ask().await, scene.ask().await), (Some(Kind::TimedOut), Some(Kind::CircuitOpen)));
    assert_eq!(scene.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_backend_is_told_what_the_route_wants() {
    let scene = Scene::new(answers, |_, _| ());
    scene.ask().await;
    let plain = scene.backend.manners.lock().unwrap().remove(0);
    assert!(plain.cancel_subject.is_none() && plain.replies.is_none() && plain.memory.is_none());

    let scene = Scene::new(answers, |route, _| {
        route.cancel_subject = Some(Subject::from_static("cancel"));
        route.replies = Some(ReplyBounds {
            messages_max: 10,
            bytes_max: 1000,
            gap: Duration::from_secs(1),
            total: Duration::from_secs(10),
            queue_messages_max: 5,
            queue_bytes_max: 500,
        });
    });
    scene.ask().await;
    let many = scene.backend.manners.lock().unwrap().remove(0);
    assert_eq!(many.cancel_subject.unwrap().as_str(), "cancel");
    assert_eq!(many.replies, scene.route().settings.replies);
    // The gateway's own budget, so that all that waits counts together.
    let charge = many.memory.unwrap().charge_always(7);
    assert_eq!(scene.rules().load.memory.used(), 7);
    drop(charge);
}
