//! What is slow, cut, hidden or too large.

use std::time::{Duration, Instant};

use crate::fixture::{Running, head, status};

const HEADER_TIMEOUT: Duration = Duration::from_millis(300);
const IMPATIENT: &[(&str, &str)] = &[("http.header_timeout_ms", "300"), ("http.body_timeout_ms", "300")];

#[tokio::test]
async fn a_slow_head_is_closed_in_time_also_on_a_kept_connection() {
    let gateway = Running::start(IMPATIENT).await;
    for before in ["", "kept"] {
        for start in ["", "POST /v1/request/demo.echo HTTP/1.1\r\nHos"] {
            if !before.is_empty() && start.is_empty() {
                // An idle connection has a time of its own.
                continue;
            }
            let mut client = gateway.connect().await;
            if !before.is_empty() {
                client.send(&head("POST", "/v1/request/demo.echo", "", before)).await;
                assert_eq!(client.answer().await.text(), before);
            }
            let began = Instant::now();
            client.send(start).await;
            let rest = client.rest().await;
            assert!(rest.is_empty() || status(&rest) == 408, "{rest}");
            assert!(began.elapsed() >= HEADER_TIMEOUT / 2, "closed too early: {:?}", began.elapsed());
        }
    }
    gateway.until("connections", 0).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_byte_at_a_time_wins_no_more_time() {
    let gateway = Running::start(IMPATIENT).await;
    let mut client = gateway.connect().await;
    let trickle = async {
        loop {
            if tokio::io::AsyncWriteExt::write_all(&mut client.0, b"G").await.is_err() {
                return;
            }
            tokio::time::sleep(HEADER_TIMEOUT / 10).await;
        }
    };
    tokio::time::timeout(crate::fixture::PATIENCE, trickle).await.expect("closed in time");
    gateway.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_own_time() {
    let gateway = Running::start(&[("http.header_timeout_ms", "100"), ("http.keep_alive_ms", "600")]).await;
    let mut client = gateway.connect().await;
    client.send(&head("POST", "/v1/request/demo.echo", "", "1")).await;
    client.answer().await;
    let began = Instant::now();
    assert_eq!(client.rest().await, "");
    assert!(began.elapsed() >= Duration::from_millis(300), "closed too early: {:?}", began.elapsed());
    gateway.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_408() {
    let gateway = Running::start(IMPATIENT).await;
    let mut client = gateway.connect().await;
    client
        .send("POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
        .await;
    let problem = client.answer().await.problem(408, "timed_out");
    assert_eq!(problem["outcome"], "not_sent");
    assert_eq!(client.rest().await, "");
    gateway.stop().await;
}

#[tokio::test]
async fn bad_framing_is_400_and_closed() {
    let gateway = Running::start(&[]).await;
    let post = "POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\n";
    for (what, bytes) in [
        ("no chunk size", format!("{post}Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n")),
        ("a negative chunk size", format!("{post}Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n")),
        ("a huge chunk size", format!("{post}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n")),
        ("two lengths", format!("{post}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")),
        ("a signed length", format!("{post}Content-Length: +3\r\n\r\nabc")),
        ("a list of lengths", format!("{post}Content-Length: 3, 3\r\n\r\nabc")),
        ("not chunked last", format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n")),
        ("no coding", format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")),
        ("a folded header", format!("{post}X: y\r\n Content-Length: 3\r\n\r\nabc")),
        ("a NUL", format!("{post}X: a\0b\r\n\r\n")),
        ("no HTTP", "hello\r\n\r\n".to_owned()),
        ("a frame of version 1", "\0\0\0\u{10}\u{1}\r\n\r\n".to_owned()),
    ] {
        let answer = gateway.say(bytes).await;
        assert_eq!(status(&answer), 400, "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
    }
    assert!(gateway.count("protocol_errors_total").await >= 9);
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_hidden_in_a_body_is_never_answered() {
    let gateway = Running::start(&[]).await;
    let hidden = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let length = hidden.len();
    // Both headers: the length is ignored, and the connection ends with the one answer (RFC 9112, 6.1).
    for (framing, expected) in [
        (format!("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"), 200),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n{hidden}"), 200),
        (format!("Content-Length: 3\r\nContent-Length: {length}\r\n\r\n{hidden}"), 400),
        (
            format!(
                "Content-Length: {length}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{hidden}"
            ),
            200,
        ),
        (format!("Content-Length : {length}\r\n\r\n{hidden}"), 400),
    ] {
        let post = format!("POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\n{framing}");
        let answer = gateway.say(&post).await;
        assert_eq!(status(&answer), expected, "{framing:?}\n{answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 4").count() + answer.matches("HTTP/1.1 2").count(),
            1,
            "{framing:?}\n{answer}"
        );
        assert!(!answer.contains("\"openapi\""), "{framing:?}\n{answer}");
    }
    // What a GET carries means nothing, and is no request either.
    let get = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{hidden}"
    );
    assert!(!gateway.say(&get).await.contains("\"openapi\""));
    gateway.stop().await;
}

#[tokio::test]
async fn a_large_head_and_a_thousand_headers_are_431() {
    let gateway = Running::start(&[]).await;
    let long = format!("X-Long: {}\r\nConnection: close\r\n", "x".repeat(100_000));
    let many = "X-Many: y\r\n".repeat(1000);
    for headers in [long, many] {
        let answer = gateway.say(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")).await;
        assert!(answer.is_empty() || status(&answer) == 431, "{answer}");
    }
    let fits = format!("X-Long: {}\r\n{}", "x".repeat(20_000), "X-Many: y\r\n".repeat(90));
    assert_eq!(gateway.ask("GET", "/", &fits, "").await.status(), 200);
    let mut client = gateway.connect().await;
    // Read before more is sent than fits, so that the answer is not lost in a reset.
    client.send(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}", "X-Many: y\r\n".repeat(101))).await;
    client.send("\r\n").await;
    assert_eq!(status(&client.rest().await), 431);
    gateway.stop().await;
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_and_its_place_comes_back() {
    let gateway = Running::start(&[("http.connections_max", "2")]).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = gateway.connect().await;
        client.send(&head("POST", "/v1/request/demo.echo", "", "1")).await;
        client.answer().await;
        kept.push(client);
    }
    let mut refused = gateway.connect().await;
    let answer = refused.answer().await;
    answer.problem(503, "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(gateway.count("connections_refused_total").await, 1);
    drop(kept);
    gateway.until("connections", 0).await;
    assert_eq!(gateway.ask("GET", "/", "", "").await.status(), 200);
    gateway.stop().await;
}
