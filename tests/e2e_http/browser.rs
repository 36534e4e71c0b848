//! A real browser: what pages of a listed origin get, and that pages of any other get nothing.
//!
//! The page comes from a server of the test, whose address is its origin, and tells that server what it got. The
//! browser is Chromium, as `tests/run` installs it.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::fixture::{Client, PATIENCE, Running};

/// Asks the gateway by all that a page has, and tells what came. `GATEWAY` is replaced.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><script type="module">
const gateway = "GATEWAY";
const limit = (what, promise) => Promise.race([
  promise.catch(error => "no: " + error),
  new Promise(resolve => setTimeout(resolve, 10000, "nothing in time")),
]);
const posted = (path, options) => fetch("http://" + gateway + path, { method: "POST", ...options });
const asked = async () => (await posted("/v1/request/demo.echo", { body: "hello" })).text();
const read = async () => (await (await posted("/v1/request/demo.fail", { body: "x" })).json()).kind;
// A request that needs no leave of the gateway, and whose answer nobody reads.
const published = async () => {
  await posted("/v1/publish/from.page", { body: document.location.host, mode: "no-cors" });
  return "sent";
};
const streamed = () => new Promise((resolve, reject) => {
  const events = new EventSource("http://" + gateway + "/v1/subscribe/demo.tick");
  events.addEventListener("message", event => {
    events.close();
    resolve(JSON.parse(event.data).subject);
  });
  events.onerror = () => { events.close(); reject("refused"); };
});
const talked = () => new Promise((resolve, reject) => {
  const socket = new WebSocket("ws://" + gateway + "/ws", "ipc-gateway.v1+json");
  socket.onopen = () => socket.send('{"op":"request","id":1,"subject":"demo.echo","payload":{"a":1}}');
  socket.onmessage = ({ data }) => resolve(JSON.stringify(JSON.parse(data).payload));
  socket.onerror = () => reject("refused");
});
const got = {};
for (const way of [asked, read, published, streamed, talked]) got[way.name] = await limit(way.name, way());
await fetch("/told", { method: "POST", body: JSON.stringify(got) });
</script>"#;

/// A browser, gone with the value and with all its processes.
struct Browser {
    child: Child,
    _profile: TempDir,
}

impl Browser {
    fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromium");
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--disable-background-networking", "--disable-component-update", "--no-proxy-server"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .env("HOME", profile.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("chromium is installed");
        Self { child, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Serves the page until it has told what it got.
async fn told(site: TcpListener, page: &str) -> Value {
    loop {
        let (stream, _) = site.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let (mut first, mut length) = (String::new(), 0);
        // A browser opens connections that it may want later.
        if stream.read_line(&mut first).await.unwrap_or(0) == 0 {
            continue;
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let length = page.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        if first.starts_with("POST /told ") {
            return serde_json::from_slice(&body).unwrap();
        }
    }
}

/// What a page of this site gets of the gateway.
async fn visit(gateway: &Running, site: TcpListener) -> Value {
    let page = PAGE.replace("GATEWAY", &gateway.http.to_string());
    let browser = Browser::open(&format!("http://{}/", site.local_addr().unwrap()));
    let got = timeout(3 * PATIENCE, told(site, &page)).await.expect("the page tells in time");
    drop(browser);
    got
}

async fn site() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// The subject and the payload of the next event.
async fn next_event(events: &mut Client) -> (String, String) {
    loop {
        let line = events.until("\n").await;
        if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap();
            return (data["subject"].to_string(), data.to_string());
        }
    }
}

#[tokio::test]
async fn pages_of_a_listed_origin_get_answers_and_pages_of_another_get_nothing() {
    let ((listed, listed_address), (other, other_address)) = (site().await, site().await);
    let origin = format!("http://{listed_address}");
    let gateway = Running::start(&[("http.cors_origins", &origin), ("embedded.tick_ms", "20")]).await;
    let mut events = gateway.connect().await;
    events.send("GET /v1/subscribe/from.page HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    events.until(": open").await;

    let got = visit(&gateway, listed).await;
    let all = json!({
        "asked": "hello", "read": "failed", "published": "sent", "streamed": "demo.tick", "talked": "{\"a\":1}",
    });
    assert_eq!(got, all);
    // What it published came from it: the payload is its address, in base64.
    let (_, event) = next_event(&mut events).await;
    assert!(event.contains("payload_base64"), "{event}");

    let got = visit(&gateway, other).await;
    for way in ["asked", "read", "streamed", "talked"] {
        assert!(got[way].as_str().unwrap().starts_with("no: "), "{way} of {other_address}: {got}");
    }
    // The browser sent it, and cannot know that it was refused: the next that comes is not the page's.
    assert_eq!(got["published"], "sent");
    assert_eq!(gateway.ask("POST", "/v1/publish/from.page", "", "{\"marker\":1}").await.status(), 202);
    let (_, event) = next_event(&mut events).await;
    assert!(event.contains("marker"), "{event}");
    drop(events);
    gateway.stop().await;
}
