//! A server that says it is about to leave.

use std::sync::Arc;
use std::time::Duration;

use contract::{Reply, Subject, Target};
use futures_util::StreamExt;
use futures_util::future::join_all;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::nats::Nats;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::nats_server::{NatsServer, free_port};
use crate::scene::*;

/// Two servers of one cluster, connected.
async fn cluster() -> (NatsServer, NatsServer) {
    let route = free_port();
    let one = NatsServer::start(&format!(
        "server_name: one\nlame_duck_duration: 60s\nlame_duck_grace_period: 50s\n\
         cluster {{ name: c, listen: \"127.0.0.1:{route}\" }}"
    ));
    let two = NatsServer::start(&format!(
        "server_name: two\n\
         cluster {{ name: c, listen: \"127.0.0.1:-1\", routes: [\"nats://127.0.0.1:{route}\"] }}"
    ));
    let (near, far) = (outside(&one).await, outside(&two).await);
    let mut heard = listen(&far, "cluster.up").await;
    while timeout(Duration::from_millis(20), heard.next()).await.is_err() {
        near.publish("cluster.up", "".into()).await.unwrap();
    }
    (one, two)
}

/// Whether every member is connected to `server`, and how many connections of old ones still have work.
fn members_on(nats: &Nats, server: &str) -> (bool, u64) {
    let facts = nats.health().facts;
    let all = facts["members"].as_array().unwrap().iter().all(|member| member["name"] == server);
    (all, facts["leaving"].as_u64().unwrap())
}

/// Publishes numbers until the window is closed, as many ahead of the listener as it allows; then `end`.
async fn publish_numbers(nats: Nats, window: Arc<Semaphore>) {
    let origin = origin(5);
    let target = || Target::Publish(Subject::from_static("ordered"));
    for number in 0_u64.. {
        let Ok(permit) = window.acquire().await else { break };
        permit.forget();
        nats.call(request_of(&origin, target(), number.to_string())).await.unwrap();
    }
    nats.call(request_of(&origin, target(), "end")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_moves_away_in_order_and_what_is_in_flight_is_answered() {
    within(async {
        let (one, two) = cluster().await;
        // Told of the first only: it is the cluster that tells of the second.
        let nats = open(settings(&one)).await;
        assert_eq!(members_on(&nats, "one"), (true, 0));
        let client = outside(&two).await;
        let mut requests = listen(&client, "work").await;
        let mut heard = listen(&client, "ordered").await;
        let mut stream = subscribe(&nats, "news").await.unwrap();
        // What is listened to at one server is known at the other a moment later.
        echo(&client, "known").await;
        while ask(&nats, "known", "x").await.is_err() {}
        let calls: Vec<_> =
            (0..50).map(|number: u32| nats.call(request("work", number.to_string()))).collect();
        let answers = tokio::spawn(join_all(calls));
        let mut asked = Vec::new();
        for _ in 0..50 {
            asked.push(requests.next().await.unwrap());
        }
        let window = Arc::new(Semaphore::new(200));
        let publisher = tokio::spawn(publish_numbers(nats.clone(), window.clone()));
        let mut due = 0;
        loop {
            let payload = heard.next().await.unwrap().payload;
            if payload == "end" {
                break;
            }
            assert_eq!(payload, due.to_string(), "in order, over the move");
            due += 1;
            if due == 1_000 {
                one.become_lame_duck();
            }
            // New work goes to the other server while the old one still brings these answers.
            if asked.len() == 50 && members_on(&nats, "two") == (true, 2) {
                for message in asked.drain(..) {
                    client.publish(message.reply.unwrap(), message.payload).await.unwrap();
                }
            }
            if asked.is_empty() && members_on(&nats, "two") == (true, 0) {
                window.close();
            }
            window.add_permits(1);
        }
        for (number, answer) in answers.await.unwrap().into_iter().enumerate() {
            let Reply::Message(message) = answer.unwrap() else { panic!("a message was expected") };
            assert_eq!(message.payload, number.to_string());
        }
        publisher.await.unwrap();
        // The subscription moved, too, and says that it may have missed something.
        assert_eq!(next(&mut stream).await, "gap");
        client.publish("news", "after".into()).await.unwrap();
        assert_eq!(next(&mut stream).await, "after");
        drop(stream);
        close(nats).await;
    })
    .await;
}
