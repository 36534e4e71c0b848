//! Circuits that open on responders that hang, and close by themselves; and requests that are sent again, or never.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::client::{JsonClient, kind};
use crate::gateway::{Gateway, PATIENCE, Start};
use crate::nats_server::NatsServer;
use crate::outside::{DECIDE, Outside, in_front_of, until_connected};
use crate::proxy::Proxy;

/// A route's circuit opens after this many faults in a row.
const FAULTS: usize = 3;
/// And closes after this many calls that do well.
const PROBES: usize = 2;

/// A gateway whose circuits open soon. `open_ms` is how long they stay so.
fn with_circuits(server: &NatsServer, open_ms: u32) -> Start {
    in_front_of(server)
        .set(&format!("breaker.consecutive_max={FAULTS}"))
        .set(&format!("breaker.probes={PROBES}"))
        .set(&format!("breaker.open_ms={open_ms}"))
}

/// Asks for a decision and expects an error; its kind, and when to come again.
fn refused(client: &mut JsonClient) -> (String, Option<u64>) {
    let reply: Value = serde_json::from_str(&client.ask("{}")).unwrap();
    assert_eq!(reply["ok"], false, "{reply}");
    (reply["error"]["kind"].as_str().unwrap().to_owned(), reply["error"]["retry_after_ms"].as_u64())
}

/// Asks by an envelope, and returns the whole answer.
fn ask(client: &mut JsonClient, subject: &str, more: &Value) -> Value {
    let mut document = json!({"op": "request", "id": "1", "subject": subject, "payload": {}});
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_str(&client.ask(document.to_string())).unwrap()
}

fn kind_of(reply: &Value) -> &str {
    reply["error"]["kind"].as_str().unwrap_or("none")
}

fn state(gateway: &Gateway, route: &str) -> u32 {
    let state = gateway.metrics().of(&format!("ipc_gateway_breaker_state{{route=\"{route}\"}}"));
    [0, 1, 2].into_iter().find(|known| state == f64::from(*known)).unwrap()
}

/// Asks over HTTP; the whole answer.
fn over_http(gateway: &Gateway, subject: &str) -> String {
    let mut stream = TcpStream::connect(gateway.http()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "POST /v1/request/{subject} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_responder_that_hangs_opens_the_circuit_and_one_that_answers_closes_it() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let hangs = outside.listen(DECIDE);
    let gateway = with_circuits(&server, 3000).set("routes.decide.timeout_ms=100").gateway();
    until_connected(&gateway);
    let mut client = gateway.json();
    for _ in 0..FAULTS {
        assert_eq!(refused(&mut client).0, "timed_out");
    }
    assert_eq!(state(&gateway, "decide"), 2);
    let (kind, retry_after) = refused(&mut client);
    assert_eq!(kind, "circuit_open");
    assert!(retry_after.is_some_and(|after| (1..=3000).contains(&after)), "{retry_after:?}");
    let answer = over_http(&gateway, DECIDE);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("circuit_open"), "{answer}");
    let after =
        answer.lines().find_map(|line| line.to_lowercase().strip_prefix("retry-after: ")?.parse().ok());
    assert!(matches!(after, Some(1_u32..=3)), "{answer}");
    assert_eq!(gateway.ready().1["circuits"], json!({"decide": "open"}));
    assert_eq!(gateway.ready().0, 200, "the other routes work");

    drop(hangs);
    outside.respond(DECIDE, |task| task);
    // Not before its time; then the probes pass, and with them everything.
    crate::gateway::eventually("a probe passes", || client.ask("{}") == "{}");
    for _ in 1..PROBES {
        assert_eq!(client.ask("{}"), "{}");
    }
    assert_eq!(state(&gateway, "decide"), 0);
    assert_eq!(gateway.ready().1["circuits"], json!({}));
    let metrics = gateway.metrics();
    for to in ["open", "half_open", "closed"] {
        let series = format!("ipc_gateway_breaker_transitions_total{{route=\"decide\",to=\"{to}\"}}");
        assert_eq!(metrics.of(&series), 1.0, "{to}");
    }
    gateway.stop();
}

#[test]
fn where_nobody_listens_on_one_route_another_stays_closed() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    outside.respond("works", |request| request);
    let gateway = with_circuits(&server, 600_000)
        .set("routes.works.patterns=works")
        .set("routes.works.allow=local")
        .gateway();
    until_connected(&gateway);
    let mut client = gateway.json();
    for _ in 0..FAULTS {
        assert_eq!(refused(&mut client).0, "no_responders");
    }
    assert_eq!(refused(&mut client).0, "circuit_open");
    assert_eq!((state(&gateway, "decide"), state(&gateway, "works")), (2, 0));
    assert_eq!(kind_of(&ask(&mut client, "works", &json!({}))), "none");
    gateway.stop();
}

#[test]
fn peers_in_a_hurry_never_open_a_circuit() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let _hangs = outside.listen(DECIDE);
    let gateway = with_circuits(&server, 600_000).gateway();
    until_connected(&gateway);
    let mut client = gateway.json();
    for _ in 0..FAULTS * 3 {
        let reply = ask(&mut client, DECIDE, &json!({"timeout_ms": 100}));
        assert_eq!(kind_of(&reply), "timed_out", "{reply}");
    }
    assert_eq!(state(&gateway, "decide"), 0);
    gateway.stop();
}

#[test]
fn an_idempotent_request_outlives_a_killed_connection_and_has_one_answer() {
    let server = NatsServer::start("");
    let (outside, proxy) = (Outside::of(&server), Proxy::to(server.port()));
    let mut requests = outside.listen("work");
    let gateway = Gateway::with()
        .environment("NATS_URL", &proxy.url())
        .set("nats.pool_connections_max=2")
        .set("nats.reconnect_delay_ms_max=100")
        .set("retry.attempts_max=20")
        .set("retry.budget_max=100")
        .set("retry.backoff_ms=500")
        .gateway();
    until_connected(&gateway);
    let (mut client, mut plain) = (gateway.json(), gateway.json());
    let document = |id: u32, idempotent: bool| {
        let document =
            json!({"op": "request", "id": id, "subject": "work", "payload": id, "idempotent": idempotent});
        document.to_string() + "\n"
    };
    client.write(document(1, true));
    plain.write(document(2, false));
    let mut sent = [requests.next(), requests.next()].map(|request| request.payload);
    sent.sort();
    assert_eq!(sent, ["1", "2"]);
    proxy.cut();
    // What is not idempotent ends here, and may have happened.
    let lost: Value = serde_json::from_str(&plain.line()).unwrap();
    assert_eq!((kind_of(&lost), &lost["error"]["outcome"]), ("unavailable", &json!("unknown")), "{lost}");
    let again = requests.next();
    assert_eq!(again.payload, "1");
    requests.answer(&again, "\"done\"");
    let reply: Value = serde_json::from_str(&client.line()).unwrap();
    assert_eq!((&reply["id"], &reply["payload"]), (&json!(1), &json!("done")), "{reply}");
    // Exactly one answer, and nothing was sent but this: what is next at the responder and on the line is the next.
    client.write(document(3, false));
    let next = requests.next();
    assert_eq!(next.payload, "3");
    requests.answer(&next, "4");
    let reply: Value = serde_json::from_str(&client.line()).unwrap();
    assert_eq!((&reply["id"], &reply["payload"]), (&json!(3), &json!(4)), "{reply}");
    assert_eq!(gateway.metrics().of("ipc_gateway_retries_total{route=\"local\",outcome=\"ok\"}"), 1.0);
    gateway.stop();
}

#[test]
fn silence_is_asked_again_within_its_time_and_only_if_it_may_be() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut requests = outside.listen("work");
    let gateway = in_front_of(&server)
        .set("routes.local.retry_attempt_timeout_ms=100")
        .set("routes.local.timeout_ms=2000")
        .set("retry.attempts_max=2")
        .set("retry.backoff_ms=1")
        .gateway();
    until_connected(&gateway);
    let mut client = gateway.json();
    for (idempotent, sent) in [(false, 1), (true, 3)] {
        let reply = ask(&mut client, "work", &json!({ "idempotent": idempotent }));
        assert_eq!(
            (kind_of(&reply), &reply["error"]["outcome"]),
            ("timed_out", &json!("unknown")),
            "{reply}"
        );
        let ended = json!({"op": "publish", "id": "2", "subject": "work", "payload": "end"}).to_string();
        client.ask(ended);
        let heard =
            std::iter::from_fn(|| Some(requests.next()).filter(|message| message.payload != "\"end\""));
        assert_eq!(heard.count(), sent, "idempotent: {idempotent}");
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.of("ipc_gateway_retries_total{route=\"local\",outcome=\"failed\"}"), 2.0);
    gateway.stop();
}

#[test]
fn version_1_is_told_by_number_and_word() {
    let server = NatsServer::start("");
    let gateway = with_circuits(&server, 600_000).gateway();
    until_connected(&gateway);
    let mut client = gateway.client();
    for _ in 0..FAULTS {
        assert_eq!(client.ask(kind::TASK_SUBMIT, "{}").error().2, "no_responders");
    }
    let (code, _, word) = client.ask(kind::TASK_SUBMIT, "{}").error();
    assert_eq!((code, word.as_str()), (99, "circuit_open"));
    gateway.stop();
}
