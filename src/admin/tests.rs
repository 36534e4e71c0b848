//! The admin listener over real sockets, with raw bytes.

use std::io::ErrorKind;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;

const HEADER_TIMEOUT: Duration = Duration::from_millis(200);
/// Far more than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

struct Fixed {
    is_ready: bool,
    metrics: String,
}

impl Status for Fixed {
    fn health(&self) -> Value {
        json!({"uptime_seconds": 7})
    }

    fn ready(&self) -> (bool, Value) {
        (self.is_ready, json!({"message": "no NATS", "reasons": ["backend unavailable"], "status": "a lie"}))
    }

    fn metrics(&self) -> String {
        self.metrics.clone()
    }
}

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Running {
    fn start(change: impl FnOnce(&mut AdminSettings)) -> Self {
        Self::with(change, Fixed { is_ready: true, metrics: "a_total 1\n".into() })
    }

    fn with(change: impl FnOnce(&mut AdminSettings), status: Fixed) -> Self {
        // Long by default: the tests of the timeout shorten it.
        let mut settings = AdminSettings {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            header_timeout: PATIENCE,
            ..AdminSettings::default()
        };
        change(&mut settings);
        let admin = Admin::bind(settings).unwrap();
        let (address, shutdown) = (admin.local_address(), CancellationToken::new());
        let serving = tokio::spawn(admin.serve(Arc::new(status), shutdown.clone()));
        Self { address, shutdown, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends the bytes and reads until the other side closes.
    async fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // What is refused early may be closed while it is still being written.
        drop(stream.write_all(bytes.as_ref()).await);
        read_all(&mut stream).await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap();
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("closed in time") {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    String::from_utf8(bytes).unwrap()
}

/// One answer of a kept connection: its head, and a body of the length that the head names.
async fn read_answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let head = loop {
        text.push(tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("answered in time").unwrap());
        if text.ends_with(b"\r\n\r\n") {
            break String::from_utf8(text.clone()).unwrap();
        }
    };
    let length = header(&head, "content-length").expect("a length").parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn code(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n")?;
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| found == &name)
        .map(|(_, value)| value)
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn each_page_answers_what_it_should() {
    let admin = Running::start(|_| ());
    let health = admin.say(get("/health?verbose")).await;
    assert_eq!((code(&health), header(&health, "content-type")), ("200", Some("application/json")));
    assert_eq!(body(&health)["status"], "healthy");
    assert_eq!(body(&health)["uptime_seconds"], 7);
    let stamp = body(&health)["timestamp"].as_str().unwrap().to_owned();
    assert!(stamp.len() == 24 && stamp.ends_with('Z') && stamp.as_str() > "2026", "{stamp}");

    let ready = admin.say(get("/ready")).await;
    assert_eq!((code(&ready), &body(&ready)["status"]), ("200", &json!("healthy")));

    let metrics = admin.say(get("/metrics")).await;
    let content_type = header(&metrics, "content-type");
    assert_eq!((code(&metrics), content_type), ("200", Some("text/plain; version=0.0.4; charset=utf-8")));
    assert!(metrics.ends_with("\r\n\r\na_total 1\n"), "{metrics}");

    let index = admin.say(get("/")).await;
    for path in body(&index)["pages"].as_object().unwrap().keys() {
        assert_eq!(code(&admin.say(get(path)).await), "200", "{path}");
    }
    for path in ["/nothing", "/health/", "//", "/metrics%00", "/..", "*"] {
        let lost = admin.say(get(path)).await;
        assert_eq!((code(&lost), &body(&lost)["error"]), ("404", &json!("not_found")), "{path}");
    }
    admin.stop().await;
}

#[tokio::test]
async fn not_ready_is_503_with_the_reasons() {
    let admin = Running::with(|_| (), Fixed { is_ready: false, metrics: String::new() });
    let ready = admin.say(get("/ready")).await;
    assert_eq!(code(&ready), "503");
    let body = body(&ready);
    assert_eq!((&body["status"], &body["message"]), (&json!("unhealthy"), &json!("no NATS")));
    assert_eq!(body["reasons"], json!(["backend unavailable"]));
    assert!(body["timestamp"].is_string());
    admin.stop().await;
}

#[tokio::test]
async fn head_has_the_headers_and_no_body_and_other_methods_are_told_what_is_allowed() {
    let admin = Running::start(|_| ());
    let head = admin.say(get("/metrics").replace("GET", "HEAD")).await;
    assert_eq!((code(&head), header(&head, "content-length")), ("200", Some("10")));
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"] {
        let answer = admin.say(get("/health").replace("GET", method)).await;
        assert_eq!((code(&answer), header(&answer, "allow")), ("405", Some("GET, HEAD")), "{method}");
    }
    admin.stop().await;
}

#[tokio::test]
async fn a_name_that_is_not_listed_is_told_the_setting_and_nothing_else() {
    let admin = Running::start(|settings| settings.hosts = vec!["gateway.internal".into()]);
    for (host, expected) in [
        ("localhost:8080", "200"),
        ("127.0.0.1", "200"),
        ("[::1]:8080", "200"),
        ("gateway.internal", "200"),
        ("evil.example", "403"),
        ("bad host", "400"),
        ("", "400"),
    ] {
        let answer = admin.say(get("/health").replace("localhost", host)).await;
        assert_eq!(code(&answer), expected, "{host}: {answer}");
    }
    let refused = admin.say(get("/metrics").replace("localhost", "evil.example")).await;
    assert_eq!(body(&refused)["error"], "host_denied");
    assert!(body(&refused)["message"].as_str().unwrap().contains("IPC_GATEWAY__ADMIN__HOSTS"), "{refused}");
    assert!(!refused.contains("a_total"));

    let none = admin.say("GET /health HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert_eq!((code(&none), &body(&none)["error"]), ("400", &json!("host_missing")));
    let two = admin.say(get("/health").replace("Connection", "Host: localhost\r\nConnection")).await;
    assert_eq!((code(&two), &body(&two)["error"]), ("400", &json!("host_repeated")));
    let absolute = admin.say(get("http://evil.example/metrics")).await;
    assert_eq!((code(&absolute), &body(&absolute)["error"]), ("403", &json!("host_denied")));
    admin.stop().await;
}

#[tokio::test]
async fn a_page_of_another_site_is_refused() {
    let admin = Running::start(|_| ());
    for line in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let answer = admin.say(get("/metrics").replace("Connection", &format!("{line}\r\nConnection"))).await;
        assert_eq!((code(&answer), &body(&answer)["error"]), ("403", &json!("other_site")), "{line}");
        assert_eq!(header(&answer, "access-control-allow-origin"), None);
    }
    admin.stop().await;
}

#[tokio::test]
async fn a_request_hidden_in_a_body_is_never_answered() {
    let admin = Running::start(|_| ());
    let hidden = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let length = hidden.len();
    for framing in [
        format!("Content-Length: {length}\r\n\r\n{hidden}"),
        format!("Content-Length: {length}\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("Content-Length: 3\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Content-Length : {length}\r\n\r\n{hidden}"),
        format!("X: y\r\n Content-Length: {length}\r\n\r\n{hidden}"),
        format!("Content-Length: +{length}\r\n\r\n{hidden}"),
        format!("Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n{hidden}"),
    ] {
        for method in ["GET", "POST"] {
            let answer =
                admin.say(format!("{method} /health HTTP/1.1\r\nHost: localhost\r\n{framing}")).await;
            assert!(answer.matches("HTTP/1.").count() <= 1, "{method} {framing:?}\n{answer}");
            assert!(!answer.contains("a_total"), "{method} {framing:?}\n{answer}");
        }
    }
    admin.stop().await;
}

#[tokio::test]
async fn an_endless_body_is_not_read() {
    let admin = Running::start(|_| ());
    let mut stream = admin.connect().await;
    let head = "POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let flood = async {
        let chunk = vec![b'x'; 64 * 1024];
        // 64 MiB is more than the socket buffers of both sides can take.
        for _ in 0..1024 {
            if stream.write_all(&chunk).await.is_err() {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(PATIENCE, flood).await.unwrap(), "the connection took all of it");
    admin.stop().await;
}

#[tokio::test]
async fn what_is_not_http_or_too_long_is_closed() {
    let admin = Running::start(|_| ());
    let long = "x".repeat(64 * 1024);
    let many = "X: y\r\n".repeat(HEADERS_MAX + 1);
    for bytes in [
        "hello\r\n\r\n".to_owned(),
        "{\"task_id\":\"1\"}\n\r\n\r\n".to_owned(),
        "\0\0\0\u{10}\u{1}\r\n\r\n".to_owned(),
        "GET /health\r\n\r\n".to_owned(),
        "GET /health HTTP/2.0\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n".to_owned(),
        get("/health").replace("Connection", &format!("X: {long}\r\nConnection")),
        get(&format!("/{long}")),
        get("/health").replace("Connection", &format!("{many}Connection")),
    ] {
        let answer = admin.say(&bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{bytes:.60?}: {answer}");
    }
    assert_eq!(code(&admin.say(get("/health")).await), "200", "it still serves");
    admin.stop().await;
}

#[tokio::test]
async fn a_slow_head_and_an_idle_connection_are_closed_in_time() {
    let admin = Running::start(|settings| settings.header_timeout = HEADER_TIMEOUT);
    for start in ["", "GET /health HTTP/1.1\r\nHos"] {
        let mut stream = admin.connect().await;
        stream.write_all(start.as_bytes()).await.unwrap();
        let began = Instant::now();
        let answer = read_all(&mut stream).await;
        assert!(answer.is_empty() || code(&answer) == "408", "{answer}");
        assert!(began.elapsed() >= HEADER_TIMEOUT / 2, "closed too early: {:?}", began.elapsed());
    }
    let mut kept = admin.connect().await;
    kept.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(code(&read_answer(&mut kept).await), "200");
    assert_eq!(read_all(&mut kept).await, "", "a kept connection that stays idle");
    // A byte at a time does not win more.
    let mut stream = admin.connect().await;
    let trickle = async {
        loop {
            if stream.write_all(b"G").await.is_err() {
                return;
            }
            tokio::time::sleep(HEADER_TIMEOUT / 10).await;
        }
    };
    tokio::time::timeout(PATIENCE, trickle).await.expect("closed in time");
    admin.stop().await;
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let admin = Running::start(|_| ());
    let mut stream = admin.connect().await;
    for path in ["/health", "/ready", "/nothing", "/metrics"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 "), "{path}");
    }
    admin.stop().await;
}

#[tokio::test]
async fn a_client_that_closes_its_half_first_gets_its_answer() {
    let admin = Running::start(|_| ());
    let mut stream = admin.connect().await;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(code(&read_all(&mut stream).await), "200");
    admin.stop().await;
}

#[tokio::test]
async fn a_connection_too_many_is_closed_and_its_place_comes_back() {
    let admin = Running::start(|settings| settings.connections_max = 2);
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = admin.connect().await;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert_eq!(code(&read_answer(&mut stream).await), "200");
        kept.push(stream);
    }
    assert_eq!(admin.say(get("/health")).await, "");
    drop(kept);
    let served = async {
        // The places are given back when the server has seen the closed connections.
        while code(&admin.say(get("/health")).await) != "200" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.unwrap();
    admin.stop().await;
}

#[tokio::test]
async fn shutdown_closes_idle_connections_at_once_and_half_a_request_soon() {
    let admin = Running::start(|_| ());
    let address = admin.address;
    let mut used = admin.connect().await;
    used.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    read_answer(&mut used).await;
    let mut fresh = admin.connect().await;
    // Answered after `fresh` was accepted, so `fresh` is being served when the token is cancelled.
    assert_eq!(code(&admin.say(get("/health")).await), "200");
    let began = Instant::now();
    admin.stop().await;
    assert!(began.elapsed() < LAST_ANSWER, "idle connections held it for {:?}", began.elapsed());
    assert_eq!((read_all(&mut used).await.as_str(), read_all(&mut fresh).await.as_str()), ("", ""));
    assert!(TcpStream::connect(address).await.is_err());

    let admin = Running::start(|_| ());
    let mut half = admin.connect().await;
    half.write_all(b"GET /health HTTP/1.1\r\n").await.unwrap();
    assert_eq!(code(&admin.say(get("/health")).await), "200");
    let began = Instant::now();
    admin.stop().await;
    assert!(began.elapsed() < PATIENCE / 5, "half a request held it for {:?}", began.elapsed());
    read_all(&mut half).await;
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_the_shutdown() {
    // More than the socket buffers of both sides.
    let admin = Running::with(|_| (), Fixed { is_ready: true, metrics: "x".repeat(32 * 1024 * 1024) });
    let mut stream = admin.connect().await;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    stream.readable().await.unwrap();
    let began = Instant::now();
    admin.stop().await;
    assert!(began.elapsed() < PATIENCE / 5, "held for {:?}", began.elapsed());
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_says_who_has_it_and_what_to_set() {
    let admin = Running::start(|_| ());
    let settings = AdminSettings { address: admin.address, ..AdminSettings::default() };
    let error = Admin::bind(settings).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, BindError::Taken { .. }), "{text}");
    assert!(text.starts_with(&format!("cannot listen on {}: the port is taken", admin.address)), "{text}");
    assert!(text.contains("--set admin.port=N") && text.contains("IPC_GATEWAY__ADMIN__PORT"), "{text}");
    #[cfg(target_os = "linux")]
    assert!(text.contains(&format!(" by process {}", std::process::id())), "{text}");
    admin.stop().await;

    // TEST-NET-1 (RFC 5737) is no address of this machine.
    let elsewhere = AdminSettings { address: "192.0.2.1:0".parse().unwrap(), ..AdminSettings::default() };
    let error = Admin::bind(elsewhere).unwrap_err();
    assert!(matches!(error, BindError::Refused { .. }), "{error}");
}
