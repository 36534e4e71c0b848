//! The same request by every door is the same message on NATS: subject, payload, headers, deadline and trace.

use std::collections::BTreeSet;

use conformance::broker::{Seen, Server};
use conformance::doors::{DOORS, Door};
use conformance::ground::{Ground, ask, reply};
use ipc_gateway::client::Say;

const PAYLOAD: &str = r#"{"task":"measure","n":[1,2.5]}"#;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// Who asks, and by which door, differs by nature; a span and an id are one message's own.
const OWN: [&str; 6] = [
    "ipc-gateway-identity",
    "ipc-gateway-door",
    "ipc-gateway-request-id",
    "traceparent",
    "ipc-gateway-deadline",
    "ipc-gateway-timeout-ms",
];

/// What is on the wire when `door` asks.
async fn seen(door: &'static Door, server: &Server) -> Seen {
    let settings = [("routes.case.timeout_ms", "8000")];
    let mut ground = Ground::open(door, server.behind(), "the.same.subject", &settings).await;
    let mut ear = ground.echo().await;
    let mut line = ground.line().await.expect("the door is open");
    let mut call = ground.call(PAYLOAD);
    if door.cannot("headers to the responder").is_none() {
        call.headers.append("X-Case", "yes").expect("a header");
        call.traceparent = Some(format!("00-{TRACE}-00f067aa0ba902b7-01"));
    }
    let what = ask(&mut line, 1, &Say::Request(call)).await.expect("an answer");
    reply(what).expect("a reply");
    let seen = ear.hear().await.expect("the responder is there");
    drop(line);
    ground.close().await;
    seen
}

/// The names of the headers, without what the peer or the trace brings.
fn names(seen: &Seen) -> BTreeSet<String> {
    let names = seen.headers.iter().map(|(name, _)| name.to_ascii_lowercase());
    names.filter(|name| name != "x-case").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_by_each_door_is_the_same_message() {
    let server = Server::start();
    let mut first: Option<Seen> = None;
    for door in DOORS.iter().filter(|door| !door.only_listens()) {
        let seen = seen(door, &server).await;
        assert_eq!(
            (seen.subject.as_str(), &seen.payload[..]),
            ("the.same.subject", PAYLOAD.as_bytes()),
            "{}",
            door.name
        );
        if door.cannot("headers to the responder").is_none() {
            assert_eq!(seen.header("x-case"), Some("yes"), "{}", door.name);
            let trace = seen.header("traceparent").unwrap_or_default();
            assert_eq!(trace.split('-').nth(1), Some(TRACE), "{}", door.name);
        }
        let left: u64 =
            seen.header("Ipc-Gateway-Timeout-Ms").and_then(|text| text.parse().ok()).unwrap_or_default();
        assert!((1..=8000).contains(&left), "{}: {left} ms are left", door.name);
        for name in OWN {
            assert!(seen.header(name).is_some(), "{}: no {name}", door.name);
        }
        if let Some(first) = &first {
            assert_eq!(names(&seen), names(first), "{}", door.name);
        }
        first.get_or_insert(seen);
    }
}
