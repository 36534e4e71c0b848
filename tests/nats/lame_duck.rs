//! A server that says it is about to leave.

use std::time::Duration;

use contract::{Reply, Subject, Target};
use futures_util::StreamExt;
use futures_util::future::join_all;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::nats::Nats;
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

fn is_all_on(nats: &Nats, server: &str) -> bool {
    let facts = nats.health().facts;
    facts["leaving"] == 0
        && facts["members"].as_array().unwrap().iter().all(|member| member["name"] == server)
}

/// Publishes numbers until the pool has left the first server, at least `least`; then `end`.
async fn publish_over_the_move(nats: Nats, least: usize) {
    let origin = origin(5);
    for number in 0.. {
        let is_end = number >= least && is_all_on(&nats, "two");
        let payload = if is_end { "end".to_owned() } else { number.to_string() };
        let target = Target::Publish(Subject::from_static("ordered"));
        nats.call(request_of(&origin, target, payload)).await.unwrap();
        if is_end {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_moves_away_in_order_and_what_is_in_flight_is_answered() {
    within(async {
        let (one, two) = cluster().await;
        // Told of the first only: it is the cluster that tells of the second.
        let nats = open(settings(&one)).await;
        assert!(is_all_on(&nats, "one"));
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
        let publisher = tokio::spawn(publish_over_the_move(nats.clone(), 5_000));
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
            let facts = nats.health().facts;
            if asked.len() == 50 && facts["members"].as_array().unwrap().iter().all(|it| it["name"] == "two")
            {
                assert_eq!(facts["leaving"], 2);
                for message in asked.drain(..) {
                    client.publish(message.reply.unwrap(), message.payload).await.unwrap();
                }
            }
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
