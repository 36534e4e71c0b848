//! Order, sizes, and how many of what there may be.

use std::time::Duration;

use bytes::Bytes;
use contract::{Kind, Outcome, Request, Subject, Target};
use futures_util::StreamExt;
use futures_util::future::join_all;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::nats::Settings;

use crate::nats_server::NatsServer;
use crate::scene::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_publishes_of_each_client_arrive_in_order() {
    within(async {
        let server = NatsServer::start("");
        let nats = open(Settings { pool_min: 4, ..settings(&server) }).await;
        let client = outside(&server).await;
        let mut heard = listen(&client, "ordered.*").await;
        let subjects = ["ordered.1", "ordered.2", "ordered.3"];
        for (connection, subject) in (1..).zip(subjects) {
            let (nats, origin) = (nats.clone(), origin(connection));
            tokio::spawn(async move {
                for number in 0..10_000 {
                    let target = Target::Publish(Subject::from_static(subject));
                    nats.call(request_of(&origin, target, number.to_string())).await.unwrap();
                }
            });
        }
        let mut due = [0_u32; 3];
        for _ in 0..30_000 {
            let message = heard.next().await.unwrap();
            let client = subjects.iter().position(|subject| *subject == message.subject.as_str()).unwrap();
            assert_eq!(message.payload, due[client].to_string());
            due[client] += 1;
        }
        // A client that is gone is forgotten.
        eventually(|| reading(&nats, "pins") == 0).await;
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordered_requests_keep_to_one_connection_and_others_spread() {
    within(async {
        let server = NatsServer::start("");
        let nats = open(Settings { pool_min: 4, ..settings(&server) }).await;
        let client = outside(&server).await;
        let mut requests = listen(&client, "work").await;
        let (one, subject) = (origin(1), Subject::from_static("work"));
        let in_flight = || {
            let facts = nats.health().facts;
            let members = facts["members"].as_array().unwrap();
            members.iter().map(|member| member["in_flight"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        let calls: Vec<_> = (0..1000)
            .map(|number: u32| {
                let request = request_of(&one, Target::Request(subject.clone()), number.to_string());
                nats.call(Request { ordered: true, ..request })
            })
            .collect();
        for due in 0..1000 {
            assert_eq!(requests.next().await.unwrap().payload, due.to_string());
        }
        let mut on_each = in_flight();
        on_each.sort_unstable();
        assert_eq!(on_each, [0, 0, 0, 1000]);
        drop(calls);
        let calls: Vec<_> = (0..1000).map(|_| nats.call(request("work", "x"))).collect();
        let on_each = in_flight();
        assert!(on_each.iter().all(|count| (200..=300).contains(count)), "{on_each:?}");
        drop(calls);
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_limit_is_read_again_after_a_reconnect() {
    within(async {
        let mut server = NatsServer::start("max_payload: 1000000");
        let nats = open(settings(&server)).await;
        let large = vec![b'x'; 900_000];
        nats.call(publish("any", large.clone())).await.unwrap();
        server.kill();
        eventually(|| connections(&nats, "connected") == 0).await;
        server.restart_with("max_payload: 65536");
        all_connected(&nats, 2).await;
        for refused in
            [publish("any", large.clone()), request("any", large), request("any", vec![b'x'; 65_536])]
        {
            let error = nats.call(refused).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (Kind::TooLarge, Outcome::NotSent));
        }
        echo(&outside(&server).await, "work").await;
        assert_eq!(ask(&nats, "work", vec![b'x'; 60_000]).await.unwrap().len(), 60_000);
        // The server ends a connection that sends too much; none did.
        assert_eq!(reading(&nats, "reconnects_total"), 2);
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_inbox_refuses_and_recovers() {
    within(async {
        let server = NatsServer::start("");
        let nats = open(Settings { pool_min: 1, pool_max: 1, inbox_slots_max: 5, ..settings(&server) }).await;
        let client = outside(&server).await;
        let _silent = listen(&client, "silent").await;
        let mut calls: Vec<_> = (0..5).map(|_| nats.call(request("silent", "x"))).collect();
        let error = nats.call(request("silent", "x")).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Overloaded, Outcome::NotSent));
        assert_eq!(reading(&nats, "inbox_full_total"), 1);
        calls.pop();
        assert_eq!(ask(&nats, "nobody", "x").await.unwrap_err().kind(), Kind::NoResponders);
        drop(calls);
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_waits_and_what_never_left_is_told_so() {
    within(async {
        let server = NatsServer::start("");
        let settings = Settings {
            publish_queue: 4,
            ping_interval: Duration::from_millis(500),
            connect_timeout: Duration::from_millis(500),
            ..settings(&server)
        };
        let nats = open(settings).await;
        server.halt();
        // More than the queue and what the systems on both ends buffer.
        let large = Bytes::from(vec![b'x'; 900_000]);
        let mut calls: Vec<_> = (0..100).map(|_| nats.call(publish("large", large.clone()))).collect();
        // The caller's own deadline holds here, too.
        assert!(tokio::time::timeout(Duration::from_millis(1), calls.pop().unwrap()).await.is_err());
        let mut refused = 0;
        for error in join_all(calls).await.into_iter().filter_map(Result::err) {
            assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::NotSent));
            refused += 1;
        }
        assert!(refused > 50, "{refused}");
        server.go_on();
        nats.reachable().await;
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_grows_under_load_and_shrinks_without_losing_an_answer() {
    within(async {
        let server = NatsServer::start("");
        let settings = Settings {
            pool_min: 1,
            pool_max: 3,
            in_flight_per_connection: 10,
            idle_shrink: Duration::from_millis(200),
            ..settings(&server)
        };
        let nats = open(settings).await;
        let client = outside(&server).await;
        let mut requests = listen(&client, "silent").await;
        let mut calls = Vec::new();
        while connections(&nats, "connected") < 3 {
            calls.push(nats.call(request("silent", "x")));
            requests.next().await.unwrap();
        }
        // One request on each connection stays; whichever goes first, its request must be answered.
        let last: Vec<_> = (0..30).map(|number| nats.call(request("silent", number.to_string()))).collect();
        let mut open = Vec::new();
        for _ in 0..30 {
            open.push(requests.next().await.unwrap());
        }
        assert_eq!(reading(&nats, "pool_size"), 3);
        drop(calls);
        let mut last: Vec<_> = last.into_iter().collect();
        let kept = last.split_off(26);
        drop(last);
        eventually(|| reading(&nats, "pool_size") == 1).await;
        for message in open {
            client.publish(message.reply.unwrap(), message.payload).await.unwrap();
        }
        for call in kept {
            assert!(call.await.is_ok());
        }
        eventually(|| connections(&nats, "connected") == 1 && connections(&nats, "retiring") == 0).await;
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_subscribe_at_once_and_each_is_in_force() {
    within(async {
        let server = NatsServer::start("");
        let nats = open(settings(&server)).await;
        let streams = join_all((0..500).map(|_| subscribe(&nats, "news"))).await;
        nats.call(publish("news", "x")).await.unwrap();
        for stream in streams {
            assert_eq!(next(&mut stream.unwrap()).await, "x");
        }
        eventually(|| reading(&nats, "subscriptions") == 0).await;
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reaches_below_the_inbox_prefix() {
    within(async {
        let server = NatsServer::start("");
        let nats = open(Settings { inbox_prefix: "gateway.replies".into(), ..settings(&server) }).await;
        for subject in
            ["gateway.replies.x", "gateway.replies", "$SYS.REQ.SERVER.PING", "_INBOX.x", "$JS.API.INFO"]
        {
            for refused in [request(subject, "x"), publish(subject, "x")] {
                assert_eq!(nats.call(refused).await.unwrap_err().kind(), Kind::Denied, "{subject}");
            }
            assert_eq!(subscribe(&nats, subject).await.unwrap_err().kind(), Kind::Denied, "{subject}");
        }
        // A wider pattern is allowed, and replies on it are kept back.
        let mut stream = subscribe(&nats, "gateway.>").await.unwrap();
        let client = outside(&server).await;
        echo(&client, "work").await;
        assert_eq!(ask(&nats, "work", "x").await.unwrap(), "x");
        client.publish("gateway.repliesnot", "marker".into()).await.unwrap();
        assert_eq!(next(&mut stream).await, "marker");
        assert!(reading(&nats, "kept_back_total") > 0);
        drop(stream);
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_shows_each_member() {
    within(async {
        let server = NatsServer::start("server_name: shown");
        let nats = open(settings(&server)).await;
        let health = nats.health();
        assert!(health.reachable && health.reasons.is_empty(), "{health:?}");
        assert_eq!((&health.facts["connected"], &health.facts["size"]), (&2.into(), &2.into()));
        for member in health.facts["members"].as_array().unwrap() {
            assert_eq!(member["state"], "connected");
            assert_eq!(member["server"], server.url());
            assert_eq!(member["name"], "shown");
            assert!(member["round_trip_ms"].as_f64().unwrap() > 0.0);
            assert_eq!((&member["in_flight"], &member["reconnects"]), (&0.into(), &0.into()));
        }
        close(nats).await;
    })
    .await;
}
