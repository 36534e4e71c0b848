//! Before the upgrade: what opens a WebSocket and what does not, and which pages may.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peer::{ACCEPT, KEY, Peer, opening};
use crate::running::{Running, within};

/// The status, the head and the body that are answered to these bytes.
async fn answer(gateway: &Running, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(gateway.http).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    within(stream.read_exact(&mut body)).await.unwrap();
    (head[9..12].parse().unwrap(), head, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused_with_what_is_wrong() {
    let gateway = Running::start(&[]).await;
    let good = opening("ipc-gateway.v1+json");
    let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
    let cases = [
        ("POST", good.replace("GET", "POST"), 405, "allow: get\r\n"),
        ("no Upgrade", good.replace("Upgrade: websocket\r\n", ""), 426, "upgrade: websocket\r\n"),
        ("another Upgrade", good.replace(": websocket", ": h2c"), 426, "upgrade: websocket\r\n"),
        ("no Connection", good.replace("Connection: Upgrade\r\n", ""), 426, "upgrade: websocket\r\n"),
        ("version 12", good.replace(": 13", ": 12"), 426, "sec-websocket-version: 13\r\n"),
        (
            "no version",
            good.replace("Sec-WebSocket-Version: 13\r\n", ""),
            426,
            "sec-websocket-version: 13\r\n",
        ),
        ("no key", good.replace(&key, ""), 400, ""),
        ("two keys", good.replace(&key, &key.repeat(2)), 400, ""),
        ("a short key", good.replace(KEY, "dGhlIHNhbXBsZQ=="), 400, ""),
        ("a key that is not base64", good.replace(KEY, "dGhlIHNhbXBsZSBub25jZ!=="), 400, ""),
        ("a key of 17 bytes", good.replace(KEY, "dGhlIHNhbXBsZSBub25jZQ="), 400, ""),
        ("an unknown subprotocol", good.replace("v1+json", "v9+json, mqtt"), 400, ""),
        ("a body", good.replace("Host:", "Content-Length: 2\r\nHost:") + "{}", 400, ""),
    ];
    for (what, request, status, header) in cases {
        let (found, head, body) = answer(&gateway, &request).await;
        assert_eq!(found, status, "{what}: {head}{body}");
        assert!(head.contains("content-type: application/problem+json\r\n"), "{what}: {head}");
        assert!(head.contains(header), "{what}: {head}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&problem["status"], &problem["outcome"]), (&status.into(), &"not_sent".into()), "{what}");
    }
    assert_eq!(gateway.count("connections_total").await, 0);
    assert_eq!(gateway.count("connections_refused_total").await, 13);
}

#[tokio::test]
async fn a_subprotocol_is_chosen_in_the_clients_order_and_json_without_one() {
    let gateway = Running::start(&[]).await;
    let choose = async |offered: &str| {
        let (status, head, _) = answer(&gateway, &opening(offered)).await;
        assert_eq!(status, 101, "{head}");
        let chosen = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        chosen.map(ToOwned::to_owned)
    };
    assert_eq!(choose("ipc-gateway.v1+binary, ipc-gateway.v1+json").await.unwrap(), "ipc-gateway.v1+binary");
    assert_eq!(choose("mqtt,ipc-gateway.v1+json").await.unwrap(), "ipc-gateway.v1+json");
    let none = opening("").replace("Sec-WebSocket-Protocol: \r\n", "");
    let (status, head, _) = answer(&gateway, &none).await;
    assert_eq!(status, 101, "{head}");
    assert!(
        !head.contains("sec-websocket-protocol") && head.contains(&ACCEPT.to_ascii_lowercase()),
        "{head}"
    );
    // Extensions are an offer, and none is taken.
    let offered = opening("ipc-gateway.v1+json")
        .replace("Host:", "Sec-WebSocket-Extensions: permessage-deflate\r\nHost:");
    let (status, head, _) = answer(&gateway, &offered).await;
    assert_eq!((status, head.contains("extensions")), (101, false), "{head}");
}

#[tokio::test]
async fn pages_of_other_sites_and_names_of_others_are_refused_before_the_upgrade() {
    let gateway =
        Running::start(&[("http.hosts", "gateway.internal"), ("http.origins", "https://app.example")]).await;
    let port = gateway.http.port();
    let from = async |host: &str, headers: &str| {
        let host = format!("Host: {host}\r\n{headers}");
        answer(&gateway, &opening("ipc-gateway.v1+json").replace("Host: localhost\r\n", &host)).await.0
    };
    let own = format!("localhost:{port}");
    for (host, headers, status) in [
        (&*own, String::new(), 101),
        (&own, format!("Origin: http://localhost:{port}\r\n"), 101),
        (&own, "Origin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n".to_owned(), 101),
        ("gateway.internal", String::new(), 101),
        ("127.0.0.1", "Origin: http://127.0.0.1\r\n".to_owned(), 101),
        (&own, "Origin: null\r\n".to_owned(), 403),
        (&own, "Origin: https://evil.example\r\n".to_owned(), 403),
        (&own, "Origin: https://app.example.evil.example\r\n".to_owned(), 403),
        (&own, "Origin: http://localhost:1\r\n".to_owned(), 403),
        (&own, "Cookie: session=1\r\nSec-Fetch-Site: cross-site\r\n".to_owned(), 403),
        ("evil.example", String::new(), 403),
        ("evil.example", "Origin: http://evil.example\r\n".to_owned(), 403),
        ("a b", String::new(), 400),
    ] {
        assert_eq!(from(host, &headers).await, status, "Host: {host}, {headers}");
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_and_its_place_is_free_again() {
    let gateway = Running::start(&[("websocket.connections_max", "3")]).await;
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(gateway.peer().await);
    }
    let (status, head, body) = answer(&gateway, &opening("ipc-gateway.v1+json")).await;
    assert_eq!(status, 503, "{head}{body}");
    assert!(head.contains("retry-after: 1\r\n") && body.contains("\"kind\":\"overloaded\""), "{head}{body}");
    drop(peers.pop());
    gateway.until("connections", 2).await;
    drop::<Peer>(gateway.peer().await);
    drop(peers);
    gateway.until("connections", 0).await;
}
