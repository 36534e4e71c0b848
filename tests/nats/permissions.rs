//! What the server does not permit is told to whom it concerns.

use contract::{Kind, Outcome, Request, Subject, Target};
use futures_util::StreamExt;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::nats::{Credentials, Nats, Settings};
use tokio::time::{Duration, Instant};

use crate::nats_server::NatsServer;
use crate::scene::*;

/// A server with a user for the gateway, whose permissions are given, and one that may do everything.
fn server(permissions: &str) -> NatsServer {
    NatsServer::start(&config(permissions))
}

fn config(permissions: &str) -> String {
    format!(
        "no_auth_user: outside\n\
         authorization {{ users: [\n\
           {{ user: gateway, password: pw, permissions: {{ {permissions} }} }}\n\
           {{ user: outside, password: pw }}\n\
         ] }}"
    )
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

/// The permissions of the gateway's user with and without its inbox.
const DEAF: &str = "subscribe: { deny: [\"_INBOX.>\"] }";
const HEARING: &str = "subscribe: [\">\"]";

async fn assert_deaf(nats: &Nats) {
    // Each connection hears of it by itself.
    let is_deaf = || {
        let health = nats.health();
        !health.reachable && health.reasons.iter().any(|reason| reason.contains("receive replies"))
    };
    eventually(is_deaf).await;
    assert_unavailable_at_once(nats).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_hear_replies_it_says_so_until_it_has_it() {
    within(async {
        let server = server(DEAF);
        let nats = Nats::open(gateway(&server)).unwrap();
        assert_deaf(&nats).await;
        server.reload_with(&config(HEARING));
        all_connected(&nats, 2).await;
        echo(&outside(&server).await, "work").await;
        assert_eq!(ask(&nats, "work", "x").await.unwrap(), "x");
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_to_hear_replies_can_be_taken_away_and_given_back() {
    within(async {
        let server = server(HEARING);
        let nats = open(gateway(&server)).await;
        let client = outside(&server).await;
        echo(&client, "work").await;
        let mut requests = listen(&client, "silent").await;
        // A client whose work is ordered, so that it is bound to a connection.
        let one = origin(7);
        let ordered = |subject: &'static str| {
            let request = request_of(&one, Target::Request(Subject::from_static(subject)), "x");
            nats.call(Request { ordered: true, ..request })
        };
        ordered("work").await.unwrap();
        let waiting = tokio::spawn(ordered("silent"));
        requests.next().await.unwrap();
        server.reload_with(&config(DEAF));
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::Unknown));
        assert_deaf(&nats).await;
        server.reload_with(&config(HEARING));
        all_connected(&nats, 2).await;
        for _ in 0..10 {
            ordered("work").await.unwrap();
            assert_eq!(ask(&nats, "work", "x").await.unwrap(), "x");
        }
        close(nats).await;
    })
    .await;
}
