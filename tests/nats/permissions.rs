//! What the server does not permit is told to whom it concerns.

use contract::{Kind, Outcome};
use futures_util::StreamExt;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::nats::{Credentials, Nats, Settings};
use tokio::time::{Duration, Instant};

use crate::nats_server::NatsServer;
use crate::scene::*;

/// A server with a user for the gateway, whose permissions are given, and one that may do everything.
fn server(permissions: &str) -> NatsServer {
    NatsServer::start(&format!(
        "no_auth_user: outside\n\
         authorization {{ users: [\n\
           {{ user: gateway, password: pw, permissions: {{ {permissions} }} }}\n\
           {{ user: outside, password: pw }}\n\
         ] }}"
    ))
}

fn gateway(server: &NatsServer) -> Settings {
    let credentials = Credentials::UserPassword { user: "gateway".into(), password: "pw".into() };
    Settings { credentials, ..settings(server) }
}

async fn assert_request_denied(nats: &Nats) {
    let started = Instant::now();
    let error = ask(nats, "forbidden.work", "x").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Denied, Outcome::NotSent));
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(reading(nats, "violations_total") > 0);
}

/// The refusal comes by another way than what shows that the subscription is in force: it may be behind, and
/// is the stream's end then.
async fn assert_subscription_denied(nats: &Nats) {
    let error = match subscribe(nats, "forbidden.news").await {
        Ok(mut stream) => stream.next().await.unwrap().unwrap_err(),
        Err(error) => error,
    };
    assert_eq!((error.kind(), error.outcome()), (Kind::Denied, Outcome::NotSent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn violations_reach_the_request_and_the_subscription_they_concern() {
    within(async {
        let server = server("publish: [\"work\", \"_INBOX.>\"], subscribe: [\"news\", \"_INBOX.>\"]");
        let nats = open(gateway(&server)).await;
        let client = outside(&server).await;
        echo(&client, "work").await;
        let _listener = listen(&client, "forbidden.>").await;
        assert_request_denied(&nats).await;
        assert_eq!(ask(&nats, "work", "x").await.unwrap(), "x");
        for _ in 0..20 {
            assert_subscription_denied(&nats).await;
        }
        let mut stream = subscribe(&nats, "news").await.unwrap();
        client.publish("news", "x".into()).await.unwrap();
        assert_eq!(next(&mut stream).await, "x");
        drop(stream);
        eventually(|| reading(&nats, "subscriptions") == 0).await;
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_publish_to_the_inbox_all_but_the_round_trips_works() {
    within(async {
        let server = server("publish: [\"work\"], subscribe: [\"news\", \"_INBOX.>\"]");
        let nats = open(gateway(&server)).await;
        let client = outside(&server).await;
        echo(&client, "work").await;
        let _listener = listen(&client, "forbidden.>").await;
        assert_eq!(ask(&nats, "work", "x").await.unwrap(), "x");
        assert_request_denied(&nats).await;
        assert!(nats.health().facts["members"][0]["round_trip_ms"].is_null());
        assert_subscription_denied(&nats).await;
        let _stream = subscribe(&nats, "news").await.unwrap();
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_hear_replies_it_says_so_and_still_publishes() {
    within(async {
        let server = server("publish: [\">\"], subscribe: [\"news\"]");
        let nats = open(gateway(&server)).await;
        let health = nats.health();
        assert!(!health.reachable && health.reasons[0].contains("receive replies"), "{health:?}");
        let error = ask(&nats, "work", "x").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::NotSent));
        let mut heard = listen(&outside(&server).await, "told").await;
        nats.call(publish("told", "x")).await.unwrap();
        assert_eq!(heard.next().await.unwrap().payload, "x");
        close(nats).await;
    })
    .await;
}
