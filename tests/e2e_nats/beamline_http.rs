//! The paths of the scheduling system's clients, line by line, as `config/beamline.toml` has them: the committed file,
//! a real nats-server, and the demo router or a responder of the test's own behind it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::client::kind;
use crate::gateway::{Gateway, PATIENCE, Start};
use crate::nats_server::NatsServer;
use crate::outside::{DECIDE, Outside, in_front_of_a_router, until_connected};
use crate::router::Router;

const ADMIN: &str = "beamline.router.v1.admin";

/// A gateway with the committed file, in front of this server.
fn start(server: &NatsServer) -> Start {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/beamline.toml");
    in_front_of_a_router(server).environment("IPC_GATEWAY_CONFIG", file)
}

fn connected(start: Start) -> Gateway {
    let gateway = start.gateway();
    until_connected(&gateway);
    gateway
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Sees that it is an error of this status and code, in the form of these paths, and gives the body.
    fn error(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let body = self.json();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(keys(&body), "context error ok", "{body}");
        assert_eq!(keys(&body["error"]), "code details intake_error_code message", "{body}");
        assert_eq!(keys(&body["context"]), "request_id tenant_id trace_id", "{body}");
        assert!(body["error"]["details"].is_object() && body["error"]["message"].is_string(), "{body}");
        assert_eq!(
            (&body["ok"], &body["error"]["code"], &body["context"]["tenant_id"]),
            (&json!(false), &json!(code), &json!("default_tenant")),
            "{body}"
        );
        body
    }
}

fn ask(gateway: &Gateway, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(gateway.http()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub(crate) fn get(gateway: &Gateway, path: &str) -> Answer {
    ask(gateway, "GET", path, "", "")
}

fn decide(request_id: &str, policy: &str) -> String {
    json!({
        "version": "1", "tenant_id": "default_tenant", "request_id": request_id, "policy_id": policy,
        "task": {"type": "chat", "payload": {"text": "hello world"}},
    })
    .to_string()
}

#[test]
fn both_paths_decide_and_only_for_ones_own_tenant() {
    let server = NatsServer::start("");
    let _router = Router::start(&server, &[]);
    let gateway = connected(start(&server));
    for path in ["/api/v1/routes/decide", "/api/v1/messages"] {
        let answer = ask(&gateway, "POST", path, "X-Tenant-ID: default_tenant\r\n", &decide("r1", "default"));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["decision"]["provider_id"], "openai");
        assert_eq!(answer.json()["context"]["request_id"], "r1");

        let stranger = ask(&gateway, "POST", path, "X-Tenant-ID: other\r\n", &decide("r1", "default"));
        stranger.error(403, "denied");
        let two = "X-Tenant-ID: default_tenant\r\nX-Tenant-ID: other\r\n";
        ask(&gateway, "POST", path, two, &decide("r1", "default")).error(400, "invalid_request");

        let lost = ask(&gateway, "POST", path, "", &decide("r2", "none")).error(404, "policy_not_found");
        assert_eq!(lost["error"]["details"]["policy_id"], "none");
        assert_eq!(lost["context"]["request_id"], "r2");
        assert_eq!(lost["context"]["trace_id"].as_str().unwrap().len(), 32);

        for bad in ["", "{", "{\"task\":{\"type\":7}}"] {
            let refused =
                ask(&gateway, "POST", path, "X-Request-ID: h1\r\n", bad).error(400, "invalid_request");
            assert_eq!(refused["context"]["request_id"], "h1", "{bad}");
            assert_eq!(refused["error"]["intake_error_code"], Value::Null);
        }
        let other = ask(&gateway, "GET", path, "", "");
        other.error(405, "unsupported");
        assert_eq!(other.header("allow"), Some("POST"));
    }
    gateway.stop();
}

#[test]
fn the_admin_paths_answer_with_what_the_router_says_or_a_part_of_it() {
    let server = NatsServer::start("");
    let router = Router::start(&server, &[]);
    let gateway = connected(start(&server));
    let question = r#"{"tenant_id":"default_tenant","policy_id":"default","payload":{"a":1}}"#;
    let dry = ask(&gateway, "POST", "/api/v1/policies/dry-run", "", question);
    assert_eq!((dry.status, &dry.json()["result"]["final_payload"]), (200, &json!({"a": 1})));
    ask(&gateway, "POST", "/api/v1/policies/dry-run", "", "").error(400, "invalid_request");
    ask(&gateway, "POST", "/api/v1/policies/dry-run", "", "{}").error(404, "policy_not_found");

    let complexity = get(&gateway, "/api/v1/policies/default_tenant/default/complexity");
    assert_eq!((complexity.status, &complexity.json()["complexity_level"]), (200, &json!("low")));
    get(&gateway, "/api/v1/policies/default_tenant/none/complexity").error(404, "policy_not_found");

    for path in ["/api/v1/extensions/health", "/api/v1/extensions/circuit-breakers"] {
        let answer = get(&gateway, path);
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    drop(router);
    let outside = Outside::of(&server);
    let mut asked = outside.listen("beamline.router.v1.admin.get_pipeline_complexity");
    let inbox = std::thread::scope(|scope| {
        let answer = scope.spawn(|| get(&gateway, "/api/v1/policies/a%22b%2Fc/d%C3%A9/complexity"));
        let message = asked.next();
        asked.answer(&message, r#"{ "complexity_score" : 1.50 }"#);
        asked.flush();
        let answer = answer.join().unwrap();
        assert_eq!(answer.body, r#"{ "complexity_score" : 1.50 }"#, "as it was written");
        message
    });
    assert_eq!(inbox.payload, r#"{"tenant_id":"a\"b/c","policy_id":"dé"}"#);
    gateway.stop();
}

#[test]
fn a_part_of_an_answer_is_given_as_it_was_written() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    outside.respond("beamline.router.v1.admin.get_extension_health", |_| {
        r#"{"ok":true, "health" : { "a" :  1.50, "health":[ ] } , "x":0}"#.into()
    });
    outside.respond("beamline.router.v1.admin.get_circuit_breaker_states", |_| r#"{"ok":true}"#.into());
    let gateway = connected(start(&server));
    let answer = get(&gateway, "/api/v1/extensions/health");
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{ "a" :  1.50, "health":[ ] }"#));
    get(&gateway, "/api/v1/extensions/circuit-breakers").error(502, "failed");
    gateway.stop();
}

#[test]
fn the_routers_own_words_stay_in_the_error() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    outside.respond(DECIDE, |_| {
        r#"{"ok":false,"error":{"code":"invalid_request","message":"no \"x\"","details":{"field":"x"},
            "intake_error_code":"SCHEMA_VALIDATION_FAILED"},"context":{"request_id":"undefined"}}"#
            .into()
    });
    let gateway = connected(start(&server));
    let answer = ask(&gateway, "POST", "/api/v1/messages", "", &decide("mine", "default"));
    let body = answer.error(400, "invalid_request");
    assert_eq!(body["error"]["message"], "no \"x\"");
    assert_eq!(body["error"]["intake_error_code"], "SCHEMA_VALIDATION_FAILED");
    assert_eq!(body["error"]["details"], json!({"field": "x"}));
    assert_eq!(body["context"]["request_id"], "mine");
    gateway.stop();
}

#[test]
fn over_the_rate_is_told_with_its_limit_after_rights_and_before_form() {
    let server = NatsServer::start("");
    let _router = Router::start(&server, &[]);
    let limit = start(&server).set("routes.decide.rate_per_second=1").set("routes.decide.rate_burst=1");
    // Nobody waits so long that the next one would be let in.
    let limit = limit.set("routes.router-admin.rate_per_second=1").set("routes.router-admin.rate_burst=1");
    let gateway = connected(limit);
    let path = "/api/v1/messages";
    let over = |headers: &str, body: &str| {
        // The bucket fills again while a busy machine looks away.
        loop {
            let answer = ask(&gateway, "POST", path, headers, body);
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let answer = over("", &decide("r", "default"));
    let body = answer.error(429, "rate_limited");
    assert_eq!(body["error"]["details"], json!({"endpoint": path, "limit": 1, "retry_after_seconds": 1}));
    assert_eq!(answer.header("x-ratelimit-limit"), Some("1"));
    assert_eq!(answer.header("x-ratelimit-remaining"), Some("0"));
    let reset: u64 = answer.header("x-ratelimit-reset").unwrap().parse().unwrap();
    assert!(reset > 1_700_000_000, "{reset}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    // The spent bucket is met by a body that is wrong, and not by a tenant that is.
    ask(&gateway, "POST", path, "X-Tenant-ID: other\r\n", "").error(403, "denied");
    let mut last = over("", &decide("r", "default"));
    while last.status != 429 {
        last = over("", &decide("r", "default"));
    }
    let empty = ask(&gateway, "POST", path, "", "");
    empty.error(429, "rate_limited");
    gateway.stop();
}

#[test]
fn events_of_ones_own_tenant_and_no_other_come_by_their_names() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let gateway = connected(start(&server));
    get(&gateway, "/api/v1/messages/stream?tenant_id=other").error(403, "denied");
    get(&gateway, "/api/v1/messages/stream").error(400, "invalid_request");
    get(&gateway, "/api/v1/messages/stream?tenant_id=%ff").error(400, "invalid_request");

    let mut stream = TcpStream::connect(gateway.http()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET /api/v1/messages/stream?tenant_id=default_tenant HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    // Chunks have their lengths between the events; what is looked for is whole lines.
    let mut next = |wanted: &str| loop {
        let line = lines.next().expect("the stream goes on");
        if line.starts_with(wanted) {
            return line;
        }
    };
    assert!(next("HTTP/1.1").contains("200"));
    assert_eq!(next("content-type"), "content-type: text/event-stream");
    assert!(next(":").starts_with(": "));
    let (inbox, _) = outside.inbox();
    let subject = "beamline.messages.events.x";
    for event in [
        json!({"type": "message_created", "tenant_id": "other", "data": {"secret": 1}}),
        json!({"type": "message_created", "data": {"secret": 2}}),
        json!({"type": "message_created", "tenant_id": "default_tenant", "data": {"id": "m1"}}),
        json!({"type": "message_updated", "data": {"tenant_id": "other", "secret": 3}}),
        json!({"type": "message_updated", "data": {"tenant_id": "default_tenant", "id": "m2"}}),
        json!({"type": "message_deleted", "tenant_id": "default_tenant", "data": {"id": "m3"}}),
    ] {
        outside.ask_from(&inbox, subject, HeaderMap::new(), event.to_string());
    }
    for (name, data) in [
        ("message_created", json!({"id": "m1"})),
        ("message_updated", json!({"tenant_id": "default_tenant", "id": "m2"})),
        ("message_deleted", json!({"id": "m3"})),
    ] {
        assert_eq!(next("event: "), format!("event: {name}"));
        let line = next("data: ");
        assert_eq!(serde_json::from_str::<Value>(&line["data: ".len()..]).unwrap(), data);
    }
    gateway.stop();
}

#[test]
fn the_gateways_own_health_says_whether_nats_is_there() {
    let mut server = NatsServer::start("");
    let gateway = connected(start(&server));
    let health = |connected: bool| {
        let answer = get(&gateway, "/_health");
        let body = answer.json();
        (answer.status == 200 && body["nats"]["connected"] == connected).then_some(body)
    };
    let body = health(true).unwrap();
    assert_eq!((&body["status"], &body["service"]), (&json!("healthy"), &json!("gateway")));
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
    server.kill();
    crate::gateway::eventually("health knows that NATS is gone", || health(false).is_some());
    let answer = ask(&gateway, "POST", "/api/v1/messages", "", &decide("r", "default"));
    answer.error(503, "unavailable");
    gateway.stop();
}

#[test]
fn queries_and_cancels_of_the_old_protocol_are_told_that_there_is_no_such_subject() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut asked = outside.listen(DECIDE);
    let gateway = connected(start(&server));
    let mut client = gateway.client();
    for kind in [kind::TASK_QUERY, kind::TASK_CANCEL] {
        let (number, text, word) = client.ask(kind, r#"{"task_id":"t"}"#).error();
        assert_eq!((number, word.as_str()), (2, "unsupported"));
        assert!(text.contains("the router has no subject"), "{text}");
    }
    // Nothing of them came: the first message is that of the task.
    client.send(kind::TASK_SUBMIT, r#"{"task_id":"first"}"#);
    let body: Value = serde_json::from_slice(&asked.next().payload).unwrap();
    assert_eq!(body["request_id"], "first");
    drop(client);
    gateway.stop();
}

#[test]
fn what_the_file_has_is_listed_and_described() {
    let server = NatsServer::start("");
    let gateway = connected(start(&server));
    let index = get(&gateway, "/").json();
    let document = get(&gateway, "/openapi.json").json();
    for (method, path) in [
        ("POST", "/api/v1/routes/decide"),
        ("POST", "/api/v1/messages"),
        ("POST", "/api/v1/policies/dry-run"),
        ("GET", "/api/v1/policies/{tenant}/{policy}/complexity"),
        ("GET", "/api/v1/extensions/health"),
        ("GET", "/api/v1/extensions/circuit-breakers"),
        ("GET", "/api/v1/messages/stream"),
        ("GET", "/_health"),
    ] {
        let listed = |entry: &&Value| entry["method"] == method && entry["path"] == path;
        assert_eq!(index["paths"].as_array().unwrap().iter().filter(listed).count(), 1, "{method} {path}");
        assert!(document["paths"][path][method.to_lowercase()]["operationId"].is_string(), "{method} {path}");
    }
    assert!(get(&gateway, &format!("/api/v1/{ADMIN}")).json()["kind"] == "not_found");
    gateway.stop();
}
