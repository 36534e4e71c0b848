//! The results of workers as streams: one shape, each once, by a door with frames and by one with events.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::client::{Client, Frame, kind};
use crate::gateway::{Gateway, PATIENCE, eventually};
use crate::nats_server::NatsServer;
use crate::outside::{Outside, in_front_of_a_router, until_connected};
use crate::router::Router;

const RESULT: &str = "caf.exec.result.v1";

fn in_front(server: &NatsServer) -> Gateway {
    let settings = [
        "routes.results.patterns=caf.exec.result.v1",
        "routes.results.operations=subscribe",
        "routes.results.allow=local,loopback",
        "routes.results.profile=beamline-results-v1",
        "routes.results.headers=Beamline-Request-Id",
        "http.request_headers=beamline-request-id",
    ];
    let start = settings.iter().fold(in_front_of_a_router(server), |start, setting| start.set(setting));
    let gateway = start.gateway();
    until_connected(&gateway);
    gateway
}

fn subscribe(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    let accepted = client.ask(kind::STREAM_SUBSCRIBE, json!({"subject": RESULT, "stream": "s"}).to_string());
    assert_eq!(accepted.json()["ok"], true, "{accepted:?}");
    client
}

/// The request of the result that a frame brings.
fn request_of(frame: &Frame) -> Value {
    assert_eq!(frame.kind, kind::STREAM_DATA, "{frame:?}");
    let result = frame.json()["payload"].clone();
    assert!(result["status"] == "success" && result.get("data").is_none(), "{result}");
    result["request_id"].clone()
}

/// The lines of an event stream of the results of one request.
fn follow(gateway: &Gateway, request_id: &str) -> impl FnMut() -> String + use<> {
    let mut stream = TcpStream::connect(gateway.http()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET /v1/subscribe/{RESULT} HTTP/1.1\r\nHost: localhost\r\nBeamline-Request-Id: {request_id}\r\n\r\n"
    )
    .unwrap();
    let mut lines = BufReader::new(stream);
    move || {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the stream has ended");
        line
    }
}

fn outcome(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metrics().of(&format!("ipc_gateway_results_total{{route=\"results\",outcome=\"{outcome}\"}}"))
}

#[test]
fn what_was_decided_comes_back_as_results_once_each_and_only_ones_own_where_that_is_asked() {
    let server = NatsServer::start("");
    let _router = Router::start(&server, &["--results", "both"]);
    let gateway = in_front(&server);
    let mut all = subscribe(&gateway);
    let mut own = follow(&gateway, "third");
    while own() != ": open\n" {}
    let mut client = gateway.client();
    for id in ["first", "second", "third"] {
        let decided = client.ask(kind::TASK_SUBMIT, json!({"task_id": id}).to_string());
        assert_eq!(decided.json()["ok"], true, "{decided:?}");
    }
    for id in ["first", "second", "third"] {
        assert_eq!(request_of(&all.receive()), id);
    }
    let mut line = own();
    while !line.starts_with("data: ") {
        line = own();
    }
    assert!(line.contains("third") && !line.contains("exec_result"), "{line}");
    // By two streams six results came, each in two shapes.
    eventually("all are counted", || outcome(&gateway, "duplicate") == 4.0);
    let counts = ["delivered", "other_request", "malformed"].map(|word| outcome(&gateway, word));
    assert_eq!(counts, [4.0, 4.0, 0.0]);
    assert_eq!(gateway.metrics().of("ipc_gateway_results_keys{route=\"results\"}"), 4.0);
    drop(all);
    gateway.until("ipc_gateway_results_keys{route=\"results\"}", 1.0);
    gateway.stop();
}

#[test]
fn what_cannot_be_read_is_told_as_a_gap_and_other_tenants_results_not_at_all() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let gateway = in_front(&server);
    let mut all = subscribe(&gateway);
    let (inbox, _answers) = outside.inbox();
    let theirs = json!({"version": "1", "request_id": "r", "tenant_id": "theirs", "status": "success"});
    let ours = json!({"version": "1", "request_id": "r", "tenant_id": "default_tenant", "status": "success"});
    for payload in [theirs.to_string(), "broken".to_owned(), ours.to_string()] {
        outside.ask_from(&inbox, RESULT, async_nats::HeaderMap::new(), payload);
    }
    assert_eq!(all.receive().json(), json!({"stream": "s", "gap": 1}));
    assert_eq!(request_of(&all.receive()), "r");
    let counts = ["delivered", "other_tenant", "malformed"].map(|word| outcome(&gateway, word));
    assert_eq!(counts, [1.0, 1.0, 1.0]);
    gateway.stop();
}
