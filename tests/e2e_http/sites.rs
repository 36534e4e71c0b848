//! Web pages of other sites, and names that are not ours.

use crate::fixture::{Answer, Running};

async fn ask(gateway: &Running, method: &str, host: &str, headers: &str) -> Answer {
    let path = if method == "POST" { "/v1/publish/a" } else { "/" };
    let mut client = gateway.connect().await;
    client.send(&format!("{method} {path} HTTP/1.1\r\n{host}{headers}\r\n")).await;
    client.answer().await
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused_on_every_path() {
    let gateway = Running::start(&[("http.hosts", "gateway.internal")]).await;
    for host in ["Host: localhost:8081\r\n", "Host: 127.0.0.1\r\n", "Host: gateway.internal\r\n"] {
        assert_eq!(ask(&gateway, "GET", host, "").await.status(), 200, "{host}");
        assert_eq!(ask(&gateway, "POST", host, "").await.status(), 202, "{host}");
    }
    for method in ["GET", "POST"] {
        let rebound = ask(&gateway, method, "Host: evil.example:8081\r\n", "").await;
        let document = rebound.problem(403, "denied");
        assert!(document["detail"].as_str().unwrap().contains("IPC_GATEWAY__HTTP__HOSTS"), "{document}");
        for host in ["", "Host: \r\n", "Host: bad host\r\n", "Host: localhost\r\nHost: localhost\r\n"] {
            ask(&gateway, method, host, "").await.problem(400, "malformed");
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_are_refused_whatever_they_send() {
    let gateway = Running::start(&[]).await;
    let host = "Host: localhost:8081\r\n";
    for method in ["GET", "POST", "OPTIONS"] {
        for page in [
            "Origin: https://evil.example\r\nContent-Type: text/plain\r\n",
            "Origin: null\r\n",
            "Origin: http://localhost:3000\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
        ] {
            let refused = ask(&gateway, method, host, page).await;
            refused.problem(403, "denied");
            assert_eq!(refused.header("access-control-allow-origin"), None);
        }
    }
    let own = "Origin: http://localhost:8081\r\nSec-Fetch-Site: same-origin\r\n";
    assert_eq!(ask(&gateway, "POST", host, own).await.status(), 202);
    gateway.stop().await;
}

#[tokio::test]
async fn listed_origins_may_send_and_those_of_cors_may_read() {
    let settings = [("http.origins", "https://send.example"), ("http.cors_origins", "https://read.example")];
    let gateway = Running::start(&settings).await;
    let host = "Host: localhost\r\n";
    let sends =
        ask(&gateway, "POST", host, "Origin: https://send.example\r\nSec-Fetch-Site: cross-site\r\n").await;
    assert_eq!((sends.status(), sends.header("access-control-allow-origin")), (202, None));
    let reads =
        ask(&gateway, "POST", host, "Origin: https://read.example\r\nSec-Fetch-Site: cross-site\r\n").await;
    assert_eq!(
        (reads.status(), reads.header("access-control-allow-origin")),
        (202, Some("https://read.example"))
    );
    let preflight = "Origin: https://read.example\r\nAccess-Control-Request-Method: POST\r\n\
                     Access-Control-Request-Headers: x-request-timeout\r\n";
    let allowed = ask(&gateway, "OPTIONS", host, preflight).await;
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.header("access-control-allow-headers"), Some("x-request-timeout"));
    ask(&gateway, "POST", host, "Origin: https://other.example\r\n").await.problem(403, "denied");
    gateway.stop().await;
}
