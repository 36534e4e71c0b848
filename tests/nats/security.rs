//! Credentials and certificates that do not fit, and those that change.

use ipc_gateway::backend::Backend;
use ipc_gateway::backend::nats::{Credentials, Nats, Settings, Tls};
use tempfile::TempDir;

use crate::certificates;
use crate::nats_server::NatsServer;
use crate::operator::Operator;
use crate::scene::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_told_and_show_no_secret() {
    within(async {
        let server = NatsServer::start("authorization { user: u, password: right }");
        let url = server.url().replace("nats://", "nats://u:hunter2@");
        let settings = Settings { servers: vec![url.parse().unwrap()], ..settings(&server) };
        let nats = Nats::open(settings).unwrap();
        let said = || nats.health().reasons.join("; ");
        eventually(|| said().contains("authorization violation")).await;
        assert!(!format!("{:?} {nats:?}", nats.health()).contains("hunter2"));
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_authority_is_not_talked_to() {
    within(async {
        let directory = TempDir::new().unwrap();
        certificates::write(directory.path());
        let server = NatsServer::start_in(directory, "tls { cert_file: server.pem, key_file: server.key }");
        let other = TempDir::new().unwrap();
        certificates::write(other.path());
        let tls = Tls { ca: Some(other.path().join("ca.pem")), ..Tls::default() };
        let nats = Nats::open(Settings { tls, ..settings(&server) }).unwrap();
        eventually(|| nats.health().reasons.join("; ").contains("certificate")).await;
        assert!(!nats.health().reachable);
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_not_talked_to_when_it_is_required() {
    within(async {
        let server = NatsServer::start("");
        let tls = Tls { required: true, ..Tls::default() };
        let nats = Nats::open(Settings { tls, ..settings(&server) }).unwrap();
        eventually(|| reading(&nats, "connect_failures_total") > 0).await;
        assert!(!nats.health().reachable);
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credentials_file_that_is_replaced_is_in_force_at_the_next_reconnect() {
    within(async {
        let (old, new) = (Operator::new(), Operator::new());
        let mut server = NatsServer::start(&old.server);
        let file = server.directory().join("user.creds");
        std::fs::write(&file, &old.credentials).unwrap();
        let credentials = Credentials::CredentialsFile(file.clone());
        let nats = open(Settings { credentials, ..settings(&server) }).await;
        server.kill();
        server.restart_with(&new.server);
        eventually(|| reading(&nats, "connect_failures_total") > 2).await;
        assert!(!nats.health().reachable);
        std::fs::write(&file, &new.credentials).unwrap();
        all_connected(&nats, 2).await;
        close(nats).await;
    })
    .await;
}
