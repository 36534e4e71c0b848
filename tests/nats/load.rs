//! Load: how many bytes may wait, and how the pool follows what is in flight.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::{Kind, Origin, Outcome, Request, Subject, Target};
use futures_util::StreamExt;
use futures_util::future::join_all;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::nats::{Answer, Nats, Settings};
use tokio::time::{Instant, timeout};

use crate::nats_server::NatsServer;
use crate::scene::*;

const MIB: usize = 1024 * 1024;

/// A request whose order counts.
fn ordered(nats: &Nats, origin: &Arc<Origin>, payload: impl Into<Bytes>) -> Answer {
    let request = request_of(origin, Target::Request(Subject::from_static("work")), payload);
    nats.call(Request { ordered: true, ..request })
}

/// In flight on each member, the least first.
fn on_each(nats: &Nats) -> Vec<u64> {
    let facts = nats.health().facts;
    let members = facts["members"].as_array().unwrap();
    let mut counts: Vec<_> = members.iter().filter_map(|member| member["in_flight"].as_u64()).collect();
    counts.sort_unstable();
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_server_that_stands_still_is_bounded_and_given_back() {
    within(async {
        let server = NatsServer::start("max_payload: 8388608");
        let nats = open(Settings { pool_min: 2, pool_max: 2, ..settings(&server) }).await;
        let client = outside(&server).await;
        echo(&client, "work").await;
        let bytes_max = reading(&nats, "queued_bytes_max");
        assert_eq!(bytes_max, 16 * MIB as u64);
        server.halt();
        let large = Bytes::from(vec![b'x'; MIB]);
        let mut refused = 0;
        // Every caller gives up soon, and what it sent stays behind.
        for round in 0..25_u64 {
            let calls: Vec<_> = (0..4).map(|client| ordered(&nats, &origin(client), large.clone())).collect();
            for answer in
                join_all(calls.into_iter().map(|call| timeout(Duration::from_millis(5), call))).await
            {
                let Ok(answer) = answer else { continue };
                let error = answer.unwrap_err();
                assert_eq!((error.kind(), error.outcome()), (Kind::Overloaded, Outcome::NotSent), "{round}");
                assert!(error.retry_after().is_some());
                refused += 1;
            }
            let queued = reading(&nats, "queued_bytes");
            assert!(queued <= 2 * bytes_max, "{queued}");
        }
        // A hundred were sent, and the bounds and what the systems on both ends buffer took the others.
        assert!(refused >= 30, "{refused}");
        assert_eq!(reading(&nats, "queue_full_total"), refused);
        assert!(reading(&nats, "queued_bytes") > bytes_max);
        server.go_on();
        eventually(|| reading(&nats, "queued_bytes") == 0).await;
        while ordered(&nats, &origin(1), large.clone()).await.is_err() {}
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_wait_for_room_and_stay_in_order() {
    within(async {
        let server = NatsServer::start("");
        // Less than the system's own buffers, and a few commands: every kind of waiting happens.
        let settings = Settings {
            publish_queue_bytes_max: 100_000,
            publish_queue: 4,
            ping_interval: Duration::from_mins(1),
            ..settings(&server)
        };
        let nats = open(settings).await;
        let mut heard = listen(&outside(&server).await, "ordered").await;
        server.halt();
        let one = origin(1);
        // Large ones fill the queue; small ones between them, which need no room, may not pass.
        let payload = |number: usize| {
            let size = if number.is_multiple_of(3) { 60_000 } else { 10 };
            format!("{number:0size$}")
        };
        let calls: Vec<_> = (0..600)
            .map(|number| {
                let target = Target::Publish(Subject::from_static("ordered"));
                nats.call(request_of(&one, target, payload(number)))
            })
            .collect();
        let calls = tokio::spawn(join_all(calls));
        eventually(|| reading(&nats, "queued_bytes") > 0).await;
        server.go_on();
        for due in 0..600_usize {
            let payload = heard.next().await.unwrap().payload;
            let number: usize = std::str::from_utf8(&payload).unwrap().parse().unwrap();
            assert_eq!(number, due);
        }
        assert!(calls.await.unwrap().iter().all(Result::is_ok));
        assert_eq!(reading(&nats, "queued_bytes"), 0);
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_grows_under_ordered_load_and_idle_clients_move_to_what_is_new() {
    within(async {
        let server = NatsServer::start("");
        let settings =
            Settings { pool_min: 1, pool_max: 2, in_flight_per_connection: 10, ..settings(&server) };
        let nats = open(settings).await;
        let client = outside(&server).await;
        let mut requests = listen(&client, "work").await;
        let clients: Vec<_> = (1..=4).map(origin).collect();
        // Everyone is bound to the one connection there is, has had an answer, and two are busy.
        for client_of in &clients {
            let call = ordered(&nats, client_of, "first");
            client.publish(requests.next().await.unwrap().reply.unwrap(), "x".into()).await.unwrap();
            call.await.unwrap();
        }
        let busy: Vec<_> = (0..20).map(|number| ordered(&nats, &clients[number % 2], "busy")).collect();
        eventually(|| connections(&nats, "connected") == 2).await;
        assert_eq!(on_each(&nats), [0, 20]);
        // The other two move; those who are busy stay, because an answer of theirs is on its way.
        let moved: Vec<_> = (0..4).map(|number| ordered(&nats, &clients[2 + number % 2], "moved")).collect();
        assert_eq!(on_each(&nats), [4, 20]);
        let stayed = ordered(&nats, &clients[0], "stayed");
        assert_eq!(on_each(&nats), [4, 21]);
        drop((busy, moved, stayed));
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_does_not_come_up_neither_stops_growth_nor_costs_a_good_connection() {
    within(async {
        // One connection of the gateway and the outside party's; a second one of the gateway is refused.
        let server = NatsServer::start("max_connections: 2");
        let client = outside(&server).await;
        let mut requests = listen(&client, "work").await;
        let settings = Settings {
            pool_min: 1,
            pool_max: 2,
            in_flight_per_connection: 10,
            idle_shrink: Duration::from_millis(300),
            ..settings(&server)
        };
        let nats = open(settings).await;
        let calls: Vec<_> = (0..20).map(|_| nats.call(request("work", "x"))).collect();
        eventually(|| reading(&nats, "pool_size") == 2).await;
        eventually(|| reading(&nats, "connect_failures_total") > 2).await;
        assert_eq!(connections(&nats, "connected"), 1);
        drop(calls);
        // The one without a connection goes, and the answers still come by the other.
        let kept = nats.call(request("work", "kept"));
        eventually(|| reading(&nats, "pool_size") == 1).await;
        assert_eq!((connections(&nats, "connected"), connections(&nats, "retiring")), (1, 0));
        let message = loop {
            let message = requests.next().await.unwrap();
            if message.payload == "kept" {
                break message;
            }
        };
        client.publish(message.reply.unwrap(), "x".into()).await.unwrap();
        kept.await.unwrap();
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_only_searches_is_waited_for_and_then_no_longer_stops_growth() {
    within(async {
        // One connection of the gateway and the outside party's; the pool's second is refused from the beginning.
        let server = NatsServer::start("max_connections: 2");
        let client = outside(&server).await;
        let _requests = listen(&client, "work").await;
        let settings = Settings {
            pool_min: 2,
            pool_max: 3,
            in_flight_per_connection: 10,
            connect_timeout: Duration::from_millis(500),
            ..settings(&server)
        };
        let nats = Nats::open(settings).unwrap();
        let opened = Instant::now();
        all_connected(&nats, 1).await;
        let calls: Vec<_> = (0..20).map(|_| nats.call(request("work", "x"))).collect();
        // Growth is asked for by requests.
        while reading(&nats, "pool_size") < 3 {
            let _ = timeout(Duration::from_millis(5), nats.call(request("work", "x"))).await;
        }
        assert!(opened.elapsed() >= Duration::from_millis(500), "{:?}", opened.elapsed());
        assert_eq!(connections(&nats, "connected"), 1);
        drop(calls);
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_a_dead_connection_is_not_kept_by_idle_clients() {
    within(async {
        let mut server = NatsServer::start("");
        let nats = open(settings(&server)).await;
        let clients: Vec<_> = (0..50).map(origin).collect();
        for client in &clients {
            let target = Target::Publish(Subject::from_static("any"));
            nats.call(request_of(client, target, "x")).await.unwrap();
        }
        assert_eq!(reading(&nats, "pins"), 50);
        server.kill();
        let killed = Instant::now();
        eventually(|| reading(&nats, "pins") == 0).await;
        assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
        close(nats).await;
    })
    .await;
}
