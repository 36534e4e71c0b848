//! Addresses and credentials: what is wrong is told before anything starts, and what is secret never.

use std::fs;
use std::path::Path;

use crate::client::kind;
use crate::gateway::{Gateway, eventually, run};
use crate::nats_server::NatsServer;
use crate::operator::Operator;
use crate::outside::until_connected;

/// The exit code of a wrong command line or configuration.
const USAGE: i32 = 2;
const PASSWORD: &str = "hunter2-is-the-password";

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Sees that nothing the gateway shows holds any of these.
fn expect_untold(gateway: &Gateway, secrets: &[&str]) {
    let shown =
        [gateway.page("/ready").1, gateway.page("/metrics").1, gateway.page("/health").1, gateway.log()];
    for (secret, text) in secrets.iter().flat_map(|secret| shown.iter().map(move |text| (secret, text))) {
        assert!(!text.contains(secret), "{secret} is in:\n{text}");
    }
    assert!(gateway.log().contains("NATS"), "there is a log");
}

#[test]
fn a_bad_address_is_an_error_at_start_and_never_the_demo() {
    for bad in ["http://h:4222", "nats://u:hunter2@:x", "nats://h:99999", "nats://ok:1,ws://u:hunter2@h"] {
        let (code, complaint) = Gateway::with().environment("NATS_URL", bad).refusal();
        assert_eq!(code, USAGE, "{bad}: {complaint}");
        assert!(complaint.contains("nats.urls") && !complaint.contains("hunter2"), "{bad}: {complaint}");
    }
}

#[test]
fn a_password_in_a_file_opens_the_door_and_is_not_told() {
    let config = |password: &str| format!("authorization {{ user: gateway, password: \"{password}\" }}");
    let mut server = NatsServer::start(&config(PASSWORD));
    let file = write(server.directory(), "password", &format!("{PASSWORD}\n"));
    let gateway = Gateway::with()
        .environment("NATS_URL", &server.url())
        .environment("IPC_GATEWAY__NATS__USER", "gateway")
        .environment("IPC_GATEWAY__NATS__PASSWORD_FILE", &file)
        .environment("RUST_LOG", "debug")
        .set("nats.reconnect_delay_ms_max=100")
        .gateway();
    until_connected(&gateway);
    let (_, _, word) = gateway.client().ask(kind::TASK_SUBMIT, "{}").error();
    assert_eq!(word, "no_responders");
    expect_untold(&gateway, &[PASSWORD]);
    // Nor when the server does not take it any more.
    server.kill();
    server.restart_with(&config("another"));
    eventually("the refusal is told", || gateway.ready().1["reasons"].to_string().contains("authorization"));
    expect_untold(&gateway, &[PASSWORD]);
    gateway.stop();
}

#[test]
fn a_user_and_password_in_an_address_in_a_file_are_not_told() {
    let server = NatsServer::start(&format!("authorization {{ user: gateway, password: \"{PASSWORD}\" }}"));
    let url = server.url().replace("nats://", &format!("nats://gateway:{PASSWORD}@"));
    let file = write(server.directory(), "url", &url);
    let gateway =
        Gateway::with().environment("NATS_URL_FILE", &file).environment("RUST_LOG", "debug").gateway();
    until_connected(&gateway);
    expect_untold(&gateway, &[PASSWORD]);
    gateway.stop();
}

#[test]
fn a_credentials_file_opens_the_door_and_is_not_told() {
    let operator = Operator::new();
    let server = NatsServer::start(&operator.server);
    let file = write(server.directory(), "user.creds", &operator.credentials);
    let gateway = Gateway::with()
        .environment("NATS_URL", &server.url())
        .environment("IPC_GATEWAY__NATS__CREDENTIALS_FILE", &file)
        .environment("RUST_LOG", "debug")
        .gateway();
    until_connected(&gateway);
    let secrets: Vec<_> =
        operator.credentials.lines().filter(|line| line.len() > 20 && !line.contains("--")).collect();
    assert_eq!(secrets.len(), 2, "the JWT and the seed");
    expect_untold(&gateway, &secrets);
    gateway.stop();
}

#[test]
fn check_finds_what_would_not_start_and_forgives_what_is_only_not_here() {
    let directory = tempfile::tempdir().unwrap();
    let junk = write(directory.path(), "junk", "junk");
    let missing = directory.path().join("missing").to_str().unwrap().to_owned();
    let url = ("NATS_URL", "nats://127.0.0.1:4222");
    let nkey = ("IPC_GATEWAY__NATS__NKEY_SEED", "SUxx");
    let ca = ("IPC_GATEWAY__NATS__TLS_CA_FILE", junk.as_str());
    let (code, out, _) = run(&["check"], &[url, nkey, ca]);
    assert_eq!(code, USAGE, "{out}");
    for part in ["2 problems", "nats.nkey_seed", "nats.tls_ca_file", "IPC_GATEWAY__NATS__TLS_CA_FILE"] {
        assert!(out.contains(part), "{part} is not in:\n{out}");
    }
    assert!(!out.contains("SUxx"), "{out}");
    let credentials = |file: &str| run(&["check"], &[url, ("IPC_GATEWAY__NATS__CREDENTIALS_FILE", file)]);
    let (code, out, _) = credentials(&junk);
    assert!(code == USAGE && out.contains("nats.credentials_file"), "{code}: {out}");
    let (code, out, _) = credentials(&missing);
    assert!(code == 0 && out.contains("warning: nats.credentials_file"), "{code}: {out}");
    let (code, out, _) =
        run(&["check", "--strict"], &[url, ("IPC_GATEWAY__NATS__CREDENTIALS_FILE", &missing)]);
    assert!(code == USAGE && out.contains("nats.credentials_file"), "{code}: {out}");
    // A file that holds the addresses themselves may be missing, too.
    let (code, out, _) = run(&["check"], &[("NATS_URL_FILE", &missing)]);
    assert!(code == 0 && out.contains("warning: nats.urls"), "{code}: {out}");
    let (code, complaint) = Gateway::with().environment(url.0, url.1).environment(ca.0, ca.1).refusal();
    assert!(code != 0 && complaint.contains("nats.tls_ca_file"), "{code}: {complaint}");
}
