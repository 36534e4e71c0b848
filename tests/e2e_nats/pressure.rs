//! A responder under pressure: what it says is asked for, holds for every door, and ends.

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::client::kind;
use crate::gateway::{Gateway, Start, eventually, run};
use crate::nats_server::NatsServer;
use crate::outside::{DECIDE, Outside, in_front_of_a_router, until_connected};
use crate::router::{CONTROL, Router, over_http};

const STATUS: &str = "beamline.router.v1.status.backpressure";
const STATE: &str = "ipc_gateway_backpressure_state{route=\"decide\"}";
const FREE: f64 = 0.0;
const RECOVERING: f64 = 1.0;
const SLOWED: f64 = 2.0;
const REFUSING: f64 = 3.0;

/// A gateway that asks often.
fn watching(server: &NatsServer) -> Start {
    in_front_of_a_router(server).set("breaker.enabled=false").set("backpressure.interval_ms=50")
}

fn started(start: Start) -> Gateway {
    let gateway = start.gateway();
    until_connected(&gateway);
    gateway
}

/// Tells every demo router what to say of its pressure, and how to behave.
fn control(outside: &Outside, told: &Value) {
    let (inbox, mut answers) = outside.inbox();
    outside.ask_from(&inbox, CONTROL, HeaderMap::new(), told.to_string());
    let answer: Value = serde_json::from_slice(&answers.next().payload).unwrap();
    assert_eq!(answer["ok"], true, "{answer}");
}

fn asks(gateway: &Gateway, answer: &str) -> f64 {
    let series = format!("ipc_gateway_backpressure_asks_total{{route=\"decide\",answer=\"{answer}\"}}");
    gateway.metrics().of(&series)
}

#[test]
fn while_the_router_is_active_every_door_refuses_with_its_word_and_then_all_goes_on() {
    let server = NatsServer::start("");
    let _router = Router::start(&server, &["--backpressure", "active", "--retry-after", "7"]);
    let outside = Outside::of(&server);
    let gateway = started(watching(&server).set("backpressure.recovery_ms=0"));
    gateway.until(STATE, REFUSING);
    let mut client = gateway.client();
    let refused = client.ask(kind::TASK_SUBMIT, "{}");
    assert_eq!((refused.error().0, refused.error().2.as_str()), (99, "overloaded"), "{refused:?}");
    assert_eq!(refused.json()["error"]["retry_after_ms"], 7000);
    let (head, body) = over_http(&gateway, &json!({"task_id": "t"}));
    assert!(head.starts_with("http/1.1 503 ") && head.contains("\r\nretry-after: 7\r\n"), "{head}");
    assert_eq!((&body["kind"], &body["outcome"]), (&json!("overloaded"), &json!("not_sent")));
    let (status, ready) = gateway.ready();
    assert_eq!((status, &ready["pressure"]), (200, &json!({"decide": "refusing"})));
    let port = gateway.admin().port().to_string();
    let (_, shown, _) = run(&["status", "--admin-port", &port, "--interval", "1ms"], &[]);
    assert!(shown.contains("pressure decide: refusing\n"), "{shown}");
    let metrics = gateway.metrics();
    let refusals = "ipc_gateway_backpressure_refusals_total{route=\"decide\",status=\"active\"}";
    assert_eq!(metrics.of(refusals), 2.0);
    assert_eq!(metrics.of("ipc_gateway_backpressure_calls_max{route=\"decide\"}"), 0.0);
    control(&outside, &json!({"backpressure": "inactive"}));
    gateway.until(STATE, FREE);
    assert_eq!(client.ask(kind::TASK_SUBMIT, "{}").json()["ok"], true);
    assert!(over_http(&gateway, &json!({"task_id": "t"})).0.starts_with("http/1.1 200 "));
    assert_eq!(gateway.ready().1["pressure"], json!({}));
    gateway.stop();
}

#[test]
fn at_a_warning_a_share_passes_and_every_request_gets_one_answer() {
    let server = NatsServer::start("");
    let _router = Router::start(&server, &["--backpressure", "warning", "--mode", "slow", "--wait", "300ms"]);
    let outside = Outside::of(&server);
    let start = watching(&server).set("routes.decide.calls_max=10").set("backpressure.warning_percent=40");
    let gateway = started(start.set("backpressure.recovery_ms=600000"));
    gateway.until(STATE, SLOWED);
    let may = "ipc_gateway_backpressure_calls_max{route=\"decide\"}";
    assert_eq!(gateway.metrics().of(may), 4.0);
    // All ten are read before the first is answered: it is slow.
    let burst = |gateway: &Gateway| {
        let mut clients: Vec<_> = (0..10).map(|_| gateway.client()).collect();
        for client in &mut clients {
            client.send(kind::TASK_SUBMIT, "{}");
        }
        let frames: Vec<_> = clients.iter_mut().map(crate::client::Client::receive).collect();
        let refused = frames.iter().filter(|frame| frame.kind == kind::RESPONSE_ERROR);
        assert!(refused.clone().all(|frame| frame.error().2 == "overloaded"), "{frames:?}");
        refused.count()
    };
    assert_eq!(burst(&gateway), 6);
    let refusals = "ipc_gateway_backpressure_refusals_total{route=\"decide\",status=\"warning\"}";
    assert_eq!(gateway.metrics().of(refusals), 6.0);
    // It recovers by and by, and not at once.
    control(&outside, &json!({"backpressure": "inactive"}));
    gateway.until(STATE, RECOVERING);
    assert!(gateway.metrics().of(may) < 10.0);
    gateway.stop();
}

#[test]
fn a_router_that_offers_no_status_is_asked_rarely_and_served_as_ever() {
    let server = NatsServer::start("");
    let _router = Router::start(&server, &[]);
    let gateway = started(watching(&server).set("backpressure.absent_interval_ms=600000"));
    // Before the connection was there nobody could be asked.
    eventually("it has asked", || asks(&gateway, "absent") > 0.0);
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.ask(kind::TASK_SUBMIT, "{}").json()["ok"], true);
    }
    assert_eq!((asks(&gateway, "absent"), gateway.metrics().of(STATE)), (1.0, FREE));
    gateway.stop();
}

#[test]
fn what_was_said_is_not_believed_for_ever_when_the_router_falls_silent() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    outside.respond(DECIDE, |_| r#"{"ok":true}"#.into());
    let mut status = outside.listen(STATUS);
    let start = watching(&server).set("backpressure.recovery_ms=0").set("backpressure.timeout_ms=50");
    let gateway = started(start.set("backpressure.believed_ms=300"));
    // A machine that looks away answers too late, and is asked again.
    while asks(&gateway, "active") == 0.0 {
        let asked = status.next();
        assert_eq!(asked.payload, format!(r#"{{"subject":"{DECIDE}"}}"#));
        status.answer(&asked, r#"{"data":{"status":"active","policy":{"retry_after_seconds":2}}}"#);
    }
    // Nothing more is answered.
    gateway.until(STATE, FREE);
    assert!(asks(&gateway, "silent") >= 1.0);
    assert_eq!(gateway.client().ask(kind::TASK_SUBMIT, "{}").json()["ok"], true);
    gateway.stop();
}

#[test]
fn a_restart_of_nats_neither_ends_the_watch_nor_makes_pressure_of_its_own() {
    let mut server = NatsServer::start("");
    let router = Router::start(&server, &["--backpressure", "inactive"]);
    let start = watching(&server).set("backpressure.absent_interval_ms=50");
    let gateway = started(start.set("backpressure.recovery_ms=0"));
    eventually("it was heard", || asks(&gateway, "inactive") > 0.0);
    server.kill();
    eventually("nobody answers", || asks(&gateway, "silent") > 0.0);
    assert_eq!(gateway.metrics().of(STATE), FREE);
    drop(router);
    server.restart();
    until_connected(&gateway);
    let _router = Router::start(&server, &["--backpressure", "active"]);
    gateway.until(STATE, REFUSING);
    gateway.stop();
}
