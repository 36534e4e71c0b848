//! A stock client: Python's `websockets`, in both forms.

use std::path::PathBuf;
use std::process::Command;

use crate::running::Running;

/// A Python that has `websockets`: the one named, or the one that the test command has set up.
fn python() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let python = std::env::var_os("WEBSOCKETS_PYTHON")
        .map_or_else(|| target.join("tools/venv/bin/python"), PathBuf::from);
    let found = Command::new(&python).args(["-c", "import websockets"]).output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "{} has no websockets: run tests/run, or set WEBSOCKETS_PYTHON to a Python that has it",
        python.display()
    );
    python
}

#[tokio::test]
async fn pythons_websockets_requests_publishes_and_subscribes_in_both_forms() {
    let gateway = Running::start(&[]).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e_ws/stock.py");
    let address = gateway.http.to_string();
    let ran = tokio::process::Command::new(python()).args([script, &address]).output();
    let output = crate::running::within(ran).await.unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.ends_with("all is well\n"), "{told}");
}
