//! A stock client: curl, as the documentation shows it.

use std::process::Stdio;

use tokio::process::Command;

use crate::fixture::{PATIENCE, Running};

/// What curl prints; without the settings of whoever runs the tests.
async fn curl(arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["-q", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20"]).args(arguments);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().expect("curl is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn curl_asks_publishes_and_compresses() {
    let gateway = Running::start(&[]).await;
    let url = |path: &str| format!("http://{}{path}", gateway.http);
    assert_eq!(curl(&["-d", "hello", &url("/v1/request/demo.echo")]).await, "hello");
    assert_eq!(curl(&["-d", "{}", &url("/v1/publish/a.b")]).await, "{\"accepted\":true}");
    let code = curl(&["-o", "/dev/null", "-w", "%{http_code}", "-d", "", &url("/v1/request/nobody")]).await;
    assert_eq!(code, "503");
    let json = format!("[{}1]", "1,".repeat(2000));
    assert_eq!(curl(&["--compressed", "-d", &json, &url("/v1/request/demo.echo")]).await, json);
    // Over a kilobyte curl asks first whether the body is welcome.
    let large = "x".repeat(100_000);
    let expecting = ["-H", "Expect: 100-continue", "-d", &large, &url("/v1/request/demo.echo")];
    assert_eq!(curl(&expecting).await, large);
    gateway.stop().await;
}

#[tokio::test]
async fn curl_follows_an_event_stream() {
    let gateway = Running::start(&[("embedded.tick_ms", "20")]).await;
    let url = format!("http://{}/v1/subscribe/demo.tick", gateway.http);
    let mut command = Command::new("curl");
    command.args(["-q", "--silent", "-N", "--noproxy", "*", &url]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("curl is installed");
    let mut output = child.stdout.take().unwrap();
    let mut text = String::new();
    while text.matches("event: message").count() < 3 {
        let mut bytes = [0; 4096];
        let read = tokio::io::AsyncReadExt::read(&mut output, &mut bytes);
        let read = tokio::time::timeout(PATIENCE, read).await.expect("events come").unwrap();
        assert_ne!(read, 0, "{text}");
        text += std::str::from_utf8(&bytes[..read]).unwrap();
    }
    child.kill().await.unwrap();
    gateway.until("streams", 0).await;
    gateway.stop().await;
}
