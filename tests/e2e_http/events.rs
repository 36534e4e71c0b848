//! Subscriptions as Server-Sent Events.

use crate::fixture::{Client, Running, head};

const QUICK: &[(&str, &str)] = &[("embedded.tick_ms", "20")];

/// One chunk of a chunked body, as text.
async fn chunk(client: &mut Client) -> String {
    let size = client.until("\r\n").await;
    let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
    let text = client.until("\r\n").await;
    let mut text = text;
    while text.len() < size + 2 {
        text += &client.until("\r\n").await;
    }
    text.truncate(size);
    text
}

async fn subscribe(gateway: &Running, target: &str, headers: &str) -> (Client, String) {
    let mut client = gateway.connect().await;
    client.send(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")).await;
    let head = client.until("\r\n\r\n").await;
    (client, head)
}

#[tokio::test]
async fn a_subscription_is_a_stream_of_events() {
    let gateway = Running::start(QUICK).await;
    for target in ["/v1/subscribe/demo.tick", "/v1/subscribe/demo.%3E", "/v1/subscribe?pattern=demo.*"] {
        let (mut client, head) = subscribe(&gateway, target, "Accept-Encoding: gzip\r\n").await;
        let lower = head.to_ascii_lowercase();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(
            lower.contains("content-type: text/event-stream") && lower.contains("cache-control: no-store")
        );
        assert!(!lower.contains("content-encoding"), "a compressor would hold events back");
        assert_eq!(chunk(&mut client).await, ": open\n\n");
        let event = chunk(&mut client).await;
        let data = event.strip_prefix("event: message\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((&data["subject"], &data["payload"]["demo"]), (&"demo.tick".into(), &true.into()));
        assert_eq!(data["headers"]["Ipc-Gateway-Demo"], "true");
        assert_eq!(gateway.count("streams").await, 1);
        drop(client);
        gateway.until("streams", 0).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_published_arrives_whatever_it_is() {
    let gateway = Running::start(&[]).await;
    let (mut client, _) = subscribe(&gateway, "/v1/subscribe/a.*", "").await;
    chunk(&mut client).await;
    let published = gateway.ask("POST", "/v1/publish/a.b", "X-Request-Id: r1\r\n", "not JSON").await;
    assert_eq!(published.status(), 202);
    let event = chunk(&mut client).await;
    assert!(
        event.contains(r#""subject":"a.b""#) && event.contains(r#""payload_base64":"bm90IEpTT04=""#),
        "{event}"
    );
    assert!(event.contains(r#""X-Request-Id":"r1""#), "{event}");
    gateway.stop().await;
}

#[tokio::test]
async fn who_comes_back_is_told_of_a_gap_first() {
    let gateway = Running::start(&[]).await;
    let (mut client, _) = subscribe(&gateway, "/v1/subscribe/a", "Last-Event-ID: x\r\n").await;
    assert_eq!(chunk(&mut client).await, ": open\n\nevent: gap\ndata: {\"lost\":null}\n\n");
    gateway.stop().await;
}

#[tokio::test]
async fn a_quiet_stream_is_kept_alive() {
    let gateway = Running::start(&[("http.event_keep_alive_ms", "100")]).await;
    let (mut client, _) = subscribe(&gateway, "/v1/subscribe/a", "").await;
    chunk(&mut client).await;
    for _ in 0..2 {
        assert_eq!(chunk(&mut client).await, ": keep-alive\n\n");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_stop_says_goodbye_to_every_stream() {
    let gateway = Running::start(&[]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let (mut client, _) = subscribe(&gateway, "/v1/subscribe/a", "").await;
        chunk(&mut client).await;
        clients.push(client);
    }
    assert_eq!(gateway.count("streams").await, 20);
    assert_eq!(gateway.stop().await, 0, "no connection had to be cut");
    for mut client in clients {
        let rest = client.rest().await;
        assert!(rest.contains("retry: ") && rest.contains("event: error\ndata: "), "{rest}");
        assert!(rest.contains("\"kind\":\"draining\"") && rest.ends_with("0\r\n\r\n"), "{rest}");
    }
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_a_problem() {
    let gateway = Running::start(&[]).await;
    for (target, status, kind) in [
        ("/v1/subscribe/a..b", 400, "invalid"),
        ("/v1/subscribe/a.%3E.b", 400, "invalid"),
        ("/v1/subscribe/$SYS.%3E", 403, "denied"),
        ("/v1/subscribe/_INBOX.%3E", 403, "denied"),
        ("/v1/subscribe", 400, "malformed"),
        ("/v1/subscribe?pattern=a&pattern=b", 400, "malformed"),
        ("/v1/subscribe?patern=a", 400, "malformed"),
        ("/v1/subscribe?pattern=%ff", 400, "malformed"),
    ] {
        gateway.ask("GET", target, "", "").await.problem(status, kind);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_closed_and_costs_nobody_else() {
    let gateway = Running::start(&[("http.write_timeout_ms", "300")]).await;
    let (mut slow, _) = subscribe(&gateway, "/v1/subscribe/flood", "").await;
    chunk(&mut slow).await;
    let (mut other, _) = subscribe(&gateway, "/v1/subscribe/calm", "").await;
    chunk(&mut other).await;
    let body = "x".repeat(1 << 20);
    let mut publisher = gateway.connect().await;
    // More than the socket buffers of both sides hold.
    for _ in 0..32 {
        publisher.send(&head("POST", "/v1/publish/flood", "", &body)).await;
        assert_eq!(publisher.answer().await.status(), 202);
    }
    gateway.until("streams", 1).await;
    publisher.send(&head("POST", "/v1/publish/calm", "", "1")).await;
    assert_eq!(publisher.answer().await.status(), 202);
    assert!(chunk(&mut other).await.contains("\"payload\":1"));
    gateway.stop().await;
}
