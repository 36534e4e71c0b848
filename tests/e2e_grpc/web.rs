//! gRPC-Web: as a browser would, and as a page that should not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::calls::{framed, question};
use crate::running::{Running, within};

async fn post(gateway: &Running, method: &str, headers: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(gateway.grpc).await.unwrap();
    let head = format!(
        "{method} /gateway.v1.Gateway/Request HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase(), answer[end + 4..].to_vec())
}

const WEB: &str = "Host: localhost\r\nContent-Type: application/grpc-web+proto\r\n";

#[tokio::test]
async fn a_page_of_this_machine_calls_in_both_forms() {
    let gateway = Running::start(&[]).await;
    let message = framed(0, &question("echo", b"hello web"));
    let (head, body) = post(&gateway, "POST", WEB, &message).await;
    assert!(head.starts_with("http/1.1 200") && head.contains("application/grpc-web+proto"), "{head}");
    let body = String::from_utf8_lossy(&body);
    assert!(body.contains("hello web") && body.contains("grpc-status:0"), "{body}");
    let text =
        "Host: localhost\r\nContent-Type: application/grpc-web-text\r\nAccept: application/grpc-web-text\r\n";
    let (head, body) = post(&gateway, "POST", text, STANDARD.encode(&message).as_bytes()).await;
    assert!(head.starts_with("http/1.1 200") && head.contains("application/grpc-web-text"), "{head}");
    let body = String::from_utf8_lossy(&body);
    // Pieces of base64, each with its own padding, in chunks.
    let decoded: Vec<u8> =
        body.split("\r\n").filter_map(|line| STANDARD.decode(line).ok()).flatten().collect();
    let decoded = String::from_utf8_lossy(&decoded);
    assert!(decoded.contains("hello web") && decoded.contains("grpc-status:0"), "{body}");
}

#[tokio::test]
async fn hosts_and_origins_are_checked_before_anything_else() {
    let listed = [("grpc.origins", "https://app.example"), ("grpc.hosts", "gateway.example")];
    let gateway = Running::start(&listed).await;
    let message = framed(0, &question("echo", b"hello"));
    let grpc = "Content-Type: application/grpc-web+proto\r\n";
    for (headers, expected) in [
        ("Host: localhost\r\n", 200),
        ("Host: gateway.example\r\n", 200),
        ("Host: evil.example\r\n", 403),
        ("Host: localhost\r\nOrigin: https://app.example\r\n", 200),
        ("Host: localhost\r\nOrigin: https://evil.example\r\n", 403),
        ("Host: localhost\r\nOrigin: null\r\n", 403),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", 403),
        ("", 400),
        ("Host: a\r\nHost: b\r\n", 400),
    ] {
        let (head, body) = post(&gateway, "POST", &format!("{headers}{grpc}"), &message).await;
        assert!(head.starts_with(&format!("http/1.1 {expected} ")), "{headers}: {head}");
        assert_eq!(String::from_utf8_lossy(&body).contains("hello"), expected == 200, "{headers}");
        let is_allowed = head.contains("access-control-allow-origin: https://app.example");
        assert_eq!(is_allowed, headers.contains("app.example"), "{headers}: {head}");
    }
    let preflight = "Host: localhost\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n\
                     Access-Control-Request-Headers: content-type,x-grpc-web\r\n";
    let (head, _) = post(&gateway, "OPTIONS", preflight, b"").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("access-control-allow-headers"), "{head}");
    let (head, _) = post(&gateway, "OPTIONS", &preflight.replace("app", "evil"), b"").await;
    assert!(head.starts_with("http/1.1 403"), "{head}");
}

/// Asks what is never answered and sends a byte more, which is not read while that is so.
async fn wait_in_vain(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    let message = framed(0, &question("silent", b""));
    let head = format!(
        "POST /gateway.v1.Gateway/Request HTTP/1.1\r\nContent-Length: {}\r\n{WEB}\r\n",
        message.len()
    );
    stream.write_all(&[head.as_bytes(), &message, b"P"].concat()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_is_noticed_although_it_has_pipelined() {
    // A deadline would not count as a client that went; and this one is far off.
    let far = ("limits.timeout_ms", "300000");
    let gateway = Running::start(&[far, ("grpc.path", "{}/grpc")]).await;
    for is_reset in [false, true] {
        let mut stream = TcpStream::connect(gateway.grpc).await.unwrap();
        wait_in_vain(&mut stream).await;
        gateway.until("in_flight", 1).await;
        if is_reset {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        gateway.until("vanished_total", 1 + i64::from(is_reset)).await;
        gateway.until("in_flight", 0).await;
    }
    let mut stream = UnixStream::connect(gateway.file("grpc")).await.unwrap();
    wait_in_vain(&mut stream).await;
    gateway.until("in_flight", 1).await;
    drop(stream);
    gateway.until("vanished_total", 3).await;
    gateway.until("connections", 0).await;
}
