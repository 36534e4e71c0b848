//! The router's profile from end to end: the demo router as a process of its own, a real nats-server, the gateway.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::client::kind;
use crate::gateway::{Gateway, PATIENCE, PROGRAM, clean, end_of, eventually};
use crate::nats_server::NatsServer;
use crate::outside::{DECIDE, Outside, in_front_of_a_router, until_connected};

pub(crate) const CONTROL: &str = "beamline.demo-router.v1.control";

/// `ipc-gateway demo-router`, there when this is; ends with the value.
pub(crate) struct Router(Child);

impl Router {
    pub(crate) fn start(server: &NatsServer, arguments: &[&str]) -> Self {
        let mut child = clean(PROGRAM)
            .args(["demo-router", "--nats", &server.url()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("demo router answers on "), "{line}");
        Self(child)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway in front of a router.
fn in_front(server: &NatsServer) -> Gateway {
    let gateway = in_front_of_a_router(server).set("breaker.enabled=false").gateway();
    until_connected(&gateway);
    gateway
}

fn exchanges() -> Vec<Value> {
    let recorded: Value =
        serde_json::from_str(include_str!("../vectors/beamline-router/exchanges.json")).unwrap();
    recorded["vectors"].as_array().unwrap().clone()
}

fn payload_of(exchange: &Value) -> String {
    exchange["request_raw"].as_str().map_or_else(|| exchange["request"].to_string(), str::to_owned)
}

/// Status, and body as JSON, of a decide request by HTTP.
pub(crate) fn over_http(gateway: &Gateway, payload: &Value) -> (String, Value) {
    let payload = payload.to_string();
    let mut stream = TcpStream::connect(gateway.http()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let bytes = payload.len();
    write!(
        stream,
        "POST /v1/request/{DECIDE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-A: b\r\n\
         Content-Length: {bytes}\r\n\r\n{payload}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn the_demo_router_answers_as_the_real_one_was_recorded_to() {
    let server = NatsServer::start("");
    let _router = Router::start(&server, &[]);
    let outside = Outside::of(&server);
    let (inbox, mut answers) = outside.inbox();
    let mut asked = 0;
    for exchange in exchanges() {
        let (name, subject) = (&exchange["name"], exchange["subject"].as_str().unwrap());
        if subject.starts_with("beamline.router.control.") {
            continue;
        }
        let mut headers = HeaderMap::new();
        for (name, value) in exchange["headers"].as_object().into_iter().flatten() {
            headers.insert(name.as_str(), value.as_str().unwrap());
        }
        outside.ask_from(&inbox, subject, headers, payload_of(&exchange));
        match exchange["outcome"].as_str().unwrap() {
            "reply" => {
                let answer: Value = serde_json::from_slice(&answers.next().payload).unwrap();
                assert_eq!(answer, exchange["reply"], "{name}");
            }
            "no_responders" => {
                assert_eq!(answers.next().status, Some(async_nats::StatusCode::NO_RESPONDERS), "{name}");
            }
            "timeout" => {
                // It works in order: what comes is the answer to the next one.
                outside.ask_from(&inbox, DECIDE, HeaderMap::new(), "{next");
                let answer: Value = serde_json::from_slice(&answers.next().payload).unwrap();
                assert_eq!(answer["error"]["intake_error_code"], "SCHEMA_VALIDATION_FAILED", "{name}");
            }
            other => panic!("{name}: {other}"),
        }
        asked += 1;
    }
    assert!(asked > 30, "{asked}");
}

#[test]
fn what_the_router_refuses_when_asked_directly_it_takes_through_the_gateway() {
    let server = NatsServer::start("");
    let _router = Router::start(&server, &[]);
    let gateway = in_front(&server);
    let mut client = gateway.client();
    for exchange in exchanges().iter().filter(|exchange| exchange["subject"] == DECIDE) {
        let name = exchange["name"].as_str().unwrap();
        let frame = client.ask(kind::TASK_SUBMIT, payload_of(exchange));
        match name {
            // The door's own refusal, and the profile's.
            "bad json" => assert_eq!(frame.error().2, "malformed"),
            "run_id only" => assert_eq!((frame.error().0, frame.error().2.as_str()), (4, "invalid")),
            // The router's own words, with the trace that the gateway gave it where it gives that back.
            "policy unknown" | "metadata user_id sticky" => {
                let (mut answer, recorded) = (frame.json(), &exchange["reply"]);
                answer["context"].as_object_mut().unwrap().remove("trace_id");
                assert_eq!((frame.kind, &answer), (kind::RESPONSE_OK, recorded), "{name}");
            }
            _ => {
                assert_eq!(
                    (frame.kind, &frame.json()["ok"]),
                    (kind::RESPONSE_OK, &json!(true)),
                    "{name}: {frame:?}"
                );
            }
        }
    }
    let mut json = gateway.json();
    let answer: Value = serde_json::from_str(&json.ask(r#"{"task_id":"test1","payload":"hello"}"#)).unwrap();
    assert_eq!((&answer["ok"], &answer["context"]["request_id"]), (&json!(true), &json!("test1")));
    gateway.stop();
}

#[test]
fn the_routers_no_has_its_own_status_in_http() {
    let server = NatsServer::start("");
    let _router = Router::start(&server, &[]);
    let start = in_front_of_a_router(&server).set("breaker.enabled=false").set("http.request_headers=x-a");
    let gateway = start.set("http.response_headers=x-a,demo-router").gateway();
    until_connected(&gateway);
    let (head, body) = over_http(&gateway, &json!({"task_id": "t"}));
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("\r\nx-a: b") && head.contains("\r\ndemo-router: true"), "{head}");
    assert_eq!(body["context"]["request_id"], "t");
    let cases = [
        ("invalid_request", 400),
        ("unauthorized", 401),
        ("validator_blocked", 403),
        ("policy_not_found", 404),
        ("internal", 500),
        ("extension_error", 502),
        ("extension_unavailable", 503),
        ("extension_timeout", 504),
        ("something new", 502),
    ];
    for (code, status) in cases {
        let (head, body) = over_http(&gateway, &json!({"demo_router": {"mode": "fail", "code": code}}));
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{code}: {head}");
        assert!(body.to_string().contains(code), "{code}: {body}");
    }
    gateway.stop();
}

#[test]
fn a_router_that_is_silent_late_or_double_costs_its_own_requests_only() {
    let server = NatsServer::start("");
    let _router = Router::start(&server, &[]);
    let start = in_front_of_a_router(&server).set("breaker.enabled=false");
    let gateway = start.set("routes.decide.timeout_ms=300").gateway();
    until_connected(&gateway);
    let before = gateway.metrics().held();
    let mut client = gateway.client();
    for mode in ["silent", "late"] {
        let task = json!({"demo_router": {"mode": mode, "wait_ms": 1}}).to_string();
        assert_eq!(client.ask(kind::TASK_SUBMIT, task).error().2, "timed_out", "{mode}");
    }
    for _ in 0..10 {
        let double = client.ask(kind::TASK_SUBMIT, json!({"demo_router": {"mode": "double"}}).to_string());
        assert_eq!(double.json()["ok"], true);
        let next = client.ask(kind::TASK_SUBMIT, r#"{"task_id":"next"}"#);
        assert_eq!(next.json()["context"]["request_id"], "next");
    }
    // The late one, and the second of each two, which finds its request answered or gone.
    eventually("eleven answers are counted and dropped", || {
        let metrics = gateway.metrics();
        let of = |name: &str| metrics.of(&format!("ipc_gateway_nats_{name}_replies_total"));
        of("late") >= 1.0 && of("late") + of("double") == 11.0
    });
    drop(client);
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn a_stream_over_the_routers_subject_answers_nobody() {
    let server = NatsServer::start("jetstream { store_dir: \"js\" }");
    let outside = Outside::of(&server);
    let (inbox, mut answers) = outside.inbox();
    let stream = json!({"name": "DECIDES", "subjects": [DECIDE], "storage": "memory"}).to_string();
    outside.ask_from(&inbox, "$JS.API.STREAM.CREATE.DECIDES", HeaderMap::new(), stream);
    let created: Value = serde_json::from_slice(&answers.next().payload).unwrap();
    assert_eq!(created["config"]["name"], "DECIDES", "{created}");
    let _router = Router::start(&server, &[]);
    let gateway = in_front(&server);
    let mut client = gateway.client();
    for number in 1..=20 {
        let answer = client.ask(kind::TASK_SUBMIT, json!({"task_id": number.to_string()}).to_string());
        assert_eq!(answer.json()["context"]["request_id"], number.to_string(), "{answer:?}");
    }
    // Each was acknowledged, before its answer or after it.
    eventually("twenty acknowledgements are counted", || {
        let metrics = gateway.metrics();
        let of = |name: &str| metrics.of(&format!("ipc_gateway_nats_{name}_total"));
        of("acknowledgements_skipped") + of("late_replies") + of("double_replies") == 20.0
            && of("acknowledgements_skipped") > 0.0
    });
    gateway.stop();
}

#[test]
fn a_router_is_told_at_run_time_how_to_behave() {
    let server = NatsServer::start("");
    let mut router = Router::start(&server, &["--backpressure", "inactive"]);
    let outside = Outside::of(&server);
    let (inbox, mut answers) = outside.inbox();
    let mut ask = |subject: &str, payload: Value| -> Value {
        outside.ask_from(&inbox, subject, HeaderMap::new(), payload.to_string());
        serde_json::from_slice(&answers.next().payload).unwrap()
    };
    let status = "beamline.router.v1.status.backpressure";
    assert_eq!(ask(status, json!({"subject": DECIDE}))["data"]["status"], "inactive");
    let told = ask(CONTROL, json!({"mode": "fail", "code": "decision_failed", "backpressure": "active"}));
    assert_eq!(told["ok"], true);
    assert_eq!(ask(status, json!({"subject": DECIDE}))["data"]["status"], "active");
    assert_eq!(ask(CONTROL, json!({"backpressure": "inactive"}))["code"], "decision_failed");
    let gateway = in_front(&server);
    let mut client = gateway.client();
    assert_eq!(client.ask(kind::TASK_SUBMIT, "{}").json()["error"]["code"], "decision_failed");
    client.send(kind::TASK_SUBMIT, json!({"demo_router": {"mode": "crash"}}).to_string());
    assert_eq!(end_of(&mut router.0).code(), Some(1));
    drop(client);
    assert_eq!(gateway.client().ask(kind::TASK_SUBMIT, "{}").error().2, "no_responders");
    gateway.stop();
}

#[test]
fn what_is_too_large_with_its_envelope_is_not_sent() {
    let server = NatsServer::start("");
    let _router = Router::start(&server, &[]);
    let gateway = in_front(&server);
    let mut client = gateway.client();
    // Within a message of the broker's by itself, and not with what is put around it.
    let (number, _, word) =
        client.ask(kind::TASK_SUBMIT, format!("\"{}\"", "x".repeat((1 << 20) - 20))).error();
    assert_eq!((number, word.as_str()), (3, "too_large"));
    assert_eq!(client.ask(kind::TASK_SUBMIT, "{}").json()["ok"], true);
    gateway.stop();
}
