//! Load by `h2load` of nghttp2: another implementation of HTTP/2, and many calls at once.

use std::process::Stdio;

use crate::calls::{framed, question};
use crate::running::{Running, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_has_no_failed_request() {
    let gateway = Running::start(&[]).await;
    let body = gateway.file("body");
    std::fs::write(&body, framed(0, &question("echo", b"hello"))).unwrap();
    let mut command = tokio::process::Command::new("h2load");
    command
        .args(["--requests", "20000", "--clients", "10", "--max-concurrent-streams", "50", "--data"])
        .arg(&body)
        .args(["--header", "content-type: application/grpc", "--header", "te: trailers"])
        .arg(format!("http://{}/gateway.v1.Gateway/Request", gateway.grpc))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let Ok(child) = command.spawn() else {
        println!("there is no h2load here (Debian: nghttp2-client), so nothing was tested");
        return;
    };
    let output = within(child.wait_with_output()).await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let expected =
        "requests: 20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(told.contains(expected), "{told}");
    let answered = "ipc_gateway_requests_total{operation=\"request\",outcome=\"ok\",route=\"local\"}";
    assert_eq!(gateway.metric(answered).await, 20_000);
    gateway.until("connections", 0).await;
    gateway.until("in_flight", 0).await;
    gateway.until_metric("ipc_gateway_memory_used_bytes", 0).await;
}
