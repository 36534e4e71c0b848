//! Requests and publishes: payloads, headers, deadlines, errors, and what a client that goes away gives back.

use serde_json::json;

use crate::fixture::{PATIENCE, Running, head, status};

#[tokio::test]
async fn a_request_is_answered_with_the_payload_untouched() {
    let gateway = Running::start(&[]).await;
    let answer = gateway.ask("POST", "/v1/request/demo.echo", "Content-Type: text/csv\r\n", "a,b\n").await;
    assert_eq!((answer.status(), answer.text()), (200, "a,b\n"));
    assert_eq!(answer.header("ipc-gateway-demo"), Some("true"), "the demo says so");
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    let task = r#"{"task_id":"t1"}"#;
    let decided = gateway.ask("POST", "/v1/request/beamline.router.v1.decide", "", task).await;
    assert_eq!((decided.status(), decided.header("content-type")), (200, Some("application/json")));
    assert_eq!(decided.json()["context"]["request_id"], "t1");
    let empty = gateway.ask("POST", "/v1/request/demo.echo", "", "").await;
    assert_eq!((empty.status(), empty.text()), (200, ""));
    gateway.stop().await;
}

#[tokio::test]
async fn one_connection_carries_many_and_bodies_may_be_chunked() {
    let gateway = Running::start(&[]).await;
    let mut client = gateway.connect().await;
    for body in ["one", "two"] {
        client.send(&head("POST", "/v1/request/demo.echo", "", body)).await;
        assert_eq!(client.answer().await.text(), body);
    }
    let chunked = "POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    client.send(chunked).await;
    assert_eq!(client.answer().await.text(), "abcde");
    // Two at once come back in order.
    let two =
        head("POST", "/v1/request/demo.echo", "", "1") + &head("POST", "/v1/request/demo.echo", "", "2");
    client.send(&two).await;
    assert_eq!((client.answer().await.text(), client.answer().await.text()), ("1", "2"));
    assert_eq!(gateway.count("connections").await, 1);
    drop(client);
    gateway.until("connections", 0).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_large_body_goes_there_and_back_and_its_memory_is_given_back() {
    let gateway = Running::start(&[]).await;
    let body = "x".repeat(4 << 20);
    let answer = gateway.ask("POST", "/v1/request/demo.echo", "", &body).await;
    assert!(answer.status() == 200 && answer.text() == body);
    let given_back = async {
        while gateway.metric("ipc_gateway_memory_used_bytes").await != 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, given_back).await.expect("memory is given back");
    gateway.stop().await;
}

#[tokio::test]
async fn a_publish_is_accepted_and_no_more_is_promised() {
    let gateway = Running::start(&[]).await;
    let answer = gateway.ask("POST", "/v1/publish/some.where", "", "{}").await;
    assert_eq!((answer.status(), answer.json()), (202, json!({ "accepted": true })));
    gateway.stop().await;
}

#[tokio::test]
async fn errors_are_problems_with_kind_outcome_and_trace() {
    let gateway = Running::start(&[]).await;
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    let nobody = gateway.ask("POST", "/v1/request/nobody.here", parent, "").await;
    let document = nobody.problem(503, "no_responders");
    assert_eq!(document["outcome"], "not_sent");
    assert_eq!(document["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let failed = gateway.ask("POST", "/v1/request/demo.fail", "", "").await;
    let document = failed.problem(502, "failed");
    assert_eq!((&document["backend_code"], &document["outcome"]), (&json!("demo_failure"), &json!("done")));
    assert_eq!(document["body"]["error"]["code"], "demo_failure");
    gateway.stop().await;
}

#[tokio::test]
async fn the_deadline_is_the_clients_wish() {
    let gateway = Running::start(&[]).await;
    for wish in ["50", "50ms"] {
        let header = format!("X-Request-Timeout: {wish}\r\n");
        let late = gateway.ask("POST", "/v1/request/demo.silent", &header, "").await;
        assert_eq!(late.problem(504, "timed_out")["outcome"], "unknown");
    }
    for wish in ["soon", "0", "1h", "-5"] {
        let header = format!("X-Request-Timeout: {wish}\r\n");
        gateway.ask("POST", "/v1/request/demo.echo", &header, "").await.problem(400, "malformed");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn hostile_subjects_and_headers_are_refused() {
    let gateway = Running::start(&[]).await;
    let long = "x".repeat(4096);
    for (subject, status, kind) in [
        ("foo.*", 400, "invalid"),
        ("%3E", 400, "invalid"),
        ("a..b", 400, "invalid"),
        ("a%20b", 400, "invalid"),
        ("a%0D%0APUB%20x", 400, "invalid"),
        ("%FF", 400, "malformed"),
        (long.as_str(), 400, "invalid"),
        ("$SYS.REQ.SERVER.PING", 403, "denied"),
        ("$JS.API.INFO", 403, "denied"),
        ("_INBOX.x", 403, "denied"),
    ] {
        for verb in ["request", "publish"] {
            let answer = gateway.ask("POST", &format!("/v1/{verb}/{subject}"), "", "").await;
            answer.problem(status, kind);
        }
    }
    let reserved = gateway.ask("POST", "/v1/request/demo.echo", "Nats-Msg-Id: 1\r\n", "ok").await;
    assert_eq!(reserved.text(), "ok", "a reserved header is left behind");
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let gateway = Running::start(&[("limits.payload_bytes_max", "2048")]).await;
    let mut client = gateway.connect().await;
    client
        .send("POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2049\r\n\r\n")
        .await;
    client.answer().await.problem(413, "too_large");
    assert_eq!(client.rest().await, "", "and the connection ends");
    let chunk = format!("801\r\n{}\r\n", "x".repeat(0x801));
    let endless =
        "POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(status(&gateway.say(format!("{endless}{chunk}")).await), 413);
    let fits = gateway.ask("POST", "/v1/request/demo.echo", "", &"x".repeat(2048)).await;
    assert_eq!(fits.status(), 200);
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_without_room_in_memory_is_refused_as_overloaded() {
    // 1 MiB for messages: half of what is above 16 MiB, and beside the two that may be kept.
    let small = [
        ("limits.memory_bytes_max", "27267120"),
        ("idempotency.bytes_max", "4096"),
        ("limits.peers_max", "1"),
        ("limits.payload_bytes_max", "1048576"),
    ];
    let gateway = Running::start(&small).await;
    // A client that keeps most of what bodies in pieces may have: its body is not whole.
    let mut kept = gateway.connect().await;
    let first_half =
        "POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    kept.send(&format!("{first_half}{}", "x".repeat(300_000))).await;
    let full = async {
        while gateway.metric("ipc_gateway_memory_used_bytes").await < 300_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.unwrap();
    let refused = gateway.say(head("POST", "/v1/request/demo.echo", "", &"x".repeat(500_000))).await;
    assert_eq!(status(&refused), 503, "{refused}");
    assert!(refused.contains("\"kind\":\"overloaded\""), "{refused}");
    drop(kept);
    let served = async {
        while gateway.ask("POST", "/v1/request/demo.echo", "", &"x".repeat(500_000)).await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.expect("memory comes back with the connections");
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_gives_everything_back_at_once() {
    let gateway = Running::start(&[("limits.calls_max", "3")]).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = gateway.connect().await;
        client.send(&head("POST", "/v1/request/demo.silent", "", "")).await;
        clients.push(client);
    }
    gateway.until("in_flight", 3).await;
    gateway.ask("POST", "/v1/request/demo.echo", "", "").await.problem(503, "overloaded");
    drop(clients);
    gateway.until("in_flight", 0).await;
    assert_eq!(gateway.count("vanished_total").await, 3);
    assert_eq!(gateway.ask("POST", "/v1/request/demo.echo", "", "").await.status(), 200, "permits are back");
    assert_eq!(gateway.stop().await, 0);
}

#[tokio::test]
async fn a_stop_lets_the_request_in_flight_finish_and_closes_idle_connections_at_once() {
    let gateway = Running::start(&[]).await;
    let mut idle = gateway.connect().await;
    idle.send(&head("POST", "/v1/request/demo.echo", "", "1")).await;
    idle.answer().await;
    let mut half = gateway.connect().await;
    half.send("POST /v1/request/demo.echo HTTP/1.1\r\n").await;
    let mut busy = gateway.connect().await;
    busy.send(&head("POST", "/v1/request/demo.slow", "", "700")).await;
    gateway.until("in_flight", 1).await;
    let (cut, answer) = tokio::join!(gateway.stop(), busy.answer());
    assert_eq!((cut, answer.status()), (0, 200));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!((idle.rest().await, half.rest().await), (String::new(), String::new()));
}

#[tokio::test]
async fn json_is_compressed_for_who_accepts_it_and_nothing_else() {
    let gateway = Running::start(&[]).await;
    let accepts = "Accept-Encoding: gzip\r\nConnection: close\r\n";
    let ask = async |headers: &str, body: &str| {
        gateway.say(head("POST", "/v1/request/demo.echo", headers, body)).await.to_ascii_lowercase()
    };
    let json = format!("[{}1]", "1,".repeat(1000));
    let compressed = ask(accepts, &json).await;
    assert!(compressed.contains("content-encoding: gzip") && compressed.len() < 1000, "{compressed}");
    assert!(!ask("Connection: close\r\n", &json).await.contains("content-encoding"), "not accepted");
    assert!(!ask(accepts, "[1]").await.contains("content-encoding"), "not worth it");
    assert!(!ask(accepts, &"x".repeat(2000)).await.contains("content-encoding"), "no JSON");
    gateway.stop().await;
    let gateway = Running::start(&[("http.gzip", "false")]).await;
    let plain = gateway.say(head("POST", "/v1/request/demo.echo", accepts, &json)).await;
    assert!(plain.ends_with(&json), "switched off");
    gateway.stop().await;
}
