//! Servers that go and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contract::{Kind, Outcome, Subject, Target};
use futures_util::StreamExt;
use futures_util::future::join_all;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::nats::{Nats, Settings};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::nats_server::NatsServer;
use crate::scene::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_with_a_thousand_in_flight_each_gets_one_answer() {
    within(async {
        let mut server = NatsServer::start("");
        let nats = open(settings(&server)).await;
        let client = outside(&server).await;
        let mut requests = listen(&client, "work").await;
        let calls: Vec<_> =
            (0..1000).map(|number: u32| nats.call(request("work", number.to_string()))).collect();
        let answers = tokio::spawn(join_all(calls));
        let mut heard = Vec::new();
        for _ in 0..1000 {
            heard.push(requests.next().await.unwrap());
        }
        assert_eq!(reading(&nats, "inbox_slots"), 1000);
        for message in heard.iter().take(300) {
            client.publish(message.reply.clone().unwrap(), message.payload.clone()).await.unwrap();
        }
        server.kill();
        let killed = Instant::now();
        let answers = answers.await.unwrap();
        assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
        // Which of the 300 came through in time, nobody can say; the others had no answer.
        let answered = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(answered <= 300, "{answered}");
        for error in answers.into_iter().filter_map(Result::err) {
            assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::Unknown));
        }
        eventually(|| connections(&nats, "connected") == 0).await;
        assert_eq!((reading(&nats, "inbox_slots"), reading(&nats, "in_flight")), (0, 0));
        assert_unavailable_at_once(&nats).await;
        assert!(!nats.health().reachable);
        assert!(!nats.health().reasons.is_empty());

        server.restart();
        nats.reachable().await;
        echo(&outside(&server).await, "work").await;
        assert_eq!(ask(&nats, "work", "again").await.unwrap(), "again");
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halted_server_is_noticed_by_pings_and_no_deadline_waits_for_it() {
    within(async {
        let server = NatsServer::start("");
        let settings = Settings {
            ping_interval: Duration::from_millis(100),
            connect_timeout: Duration::from_millis(500),
            ..settings(&server)
        };
        let nats = open(settings).await;
        echo(&outside(&server).await, "work").await;
        assert_eq!(ask(&nats, "work", "before").await.unwrap(), "before");
        server.halt();
        let halted = Instant::now();
        // A caller's own deadline holds whatever the server does.
        assert!(timeout(Duration::from_millis(20), ask(&nats, "work", "x")).await.is_err());
        assert_eq!(reading(&nats, "inbox_slots"), 0);
        // Without one, the pings tell: two unanswered, and the third finds that out.
        let error = ask(&nats, "work", "x").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::Unknown));
        assert!(halted.elapsed() < Duration::from_secs(5), "{:?}", halted.elapsed());
        eventually(|| connections(&nats, "connected") == 0).await;
        assert_unavailable_at_once(&nats).await;
        server.go_on();
        nats.reachable().await;
        // The responder's own client may have to come back, too.
        while ask(&nats, "work", "after").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_leave_nothing_behind() {
    within(async {
        let mut server = NatsServer::start("");
        let nats = open(settings(&server)).await;
        let mut stream = subscribe(&nats, "news").await.unwrap();
        // The runtime's own count has the library's tasks, too.
        let alive = || Handle::current().metrics().num_alive_tasks();
        let before = (reading(&nats, "tasks"), alive());
        for kill in 1..=10 {
            let client = outside(&server).await;
            let mut requests = listen(&client, "silent").await;
            let calls: Vec<_> = (0..50).map(|_| nats.call(request("silent", "x"))).collect();
            for _ in 0..50 {
                requests.next().await.unwrap();
            }
            drop((requests, client));
            server.kill();
            for answer in join_all(calls).await {
                assert_eq!(answer.unwrap_err().kind(), Kind::Unavailable);
            }
            eventually(|| connections(&nats, "connected") == 0).await;
            server.restart();
            all_connected(&nats, 2).await;
            eventually(|| reading(&nats, "subscriptions") == 1).await;
            assert_eq!((reading(&nats, "inbox_slots"), reading(&nats, "in_flight")), (0, 0));
            assert_eq!(reading(&nats, "reconnects_total"), 2 * kill);
        }
        eventually(|| (reading(&nats, "tasks"), alive()) == before).await;
        // The subscription is in force again, and says so; a message that comes before that is lost, so it is
        // sent until it is told.
        assert_eq!(next(&mut stream).await, "gap");
        let client = outside(&server).await;
        let back = async {
            loop {
                client.publish("news", "back".into()).await.unwrap();
                round_trip(&client).await;
            }
        };
        tokio::select! {
            told = next(&mut stream) => assert_eq!(told, "back"),
            () = back => {}
        }
        drop((stream, client));
        close(nats).await;
        eventually(|| alive() == 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_timeouts_and_then_their_late_replies_leave_nothing() {
    within(async {
        let server = NatsServer::start("");
        let nats = open(settings(&server)).await;
        let client = outside(&server).await;
        let mut requests = listen(&client, "late").await;
        let calls = (0..1000).map(|_| timeout(Duration::from_millis(300), nats.call(request("late", "x"))));
        let answers = join_all(calls).await;
        assert!(answers.iter().all(Result::is_err), "nobody has answered");
        assert_eq!((reading(&nats, "inbox_slots"), reading(&nats, "in_flight")), (0, 0));
        for _ in 0..1000 {
            let reply = requests.next().await.unwrap().reply.unwrap();
            client.publish(reply, "late".into()).await.unwrap();
        }
        eventually(|| reading(&nats, "late_replies_total") == 1000).await;
        assert_eq!(reading(&nats, "double_replies_total") + reading(&nats, "foreign_replies_total"), 0);
        echo(&client, "work").await;
        assert_eq!(ask(&nats, "work", "x").await.unwrap(), "x");
        assert_eq!(reading(&nats, "inbox_slots"), 0);
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreachable_at_start_is_alive_and_comes_up_later() {
    within(async {
        let mut server = NatsServer::start("");
        server.kill();
        let nats = Nats::open(settings(&server)).unwrap();
        assert_unavailable_at_once(&nats).await;
        eventually(|| nats.health().reasons.iter().any(|reason| reason.contains(&server.url()))).await;
        let health = nats.health();
        assert!(!health.reachable);
        assert_eq!(health.facts["connected"], 0);
        let error = subscribe(&nats, "news").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::NotSent));
        server.restart();
        nats.reachable().await;
        assert_eq!(ask(&nats, "nobody", "x").await.unwrap_err().kind(), Kind::NoResponders);
        all_connected(&nats, 2).await;
        assert_eq!(nats.health().reasons, Vec::<String>::new());
        close(nats).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_attempts_is_kept_and_told() {
    within(async {
        let mut server = NatsServer::start("");
        server.kill();
        let settings = Settings { reconnect_attempts_max: 3, pool_min: 1, ..settings(&server) };
        let nats = Nats::open(settings).unwrap();
        eventually(|| connections(&nats, "given_up") == 1).await;
        assert_eq!(reading(&nats, "connect_failures_total"), 3);
        assert_eq!(nats.health().facts["members"][0]["state"], "given_up");
        // Nobody looks for a connection any more, so no time is named at which there might be one.
        let error = ask(&nats, "any.subject", "x").await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (Kind::Unavailable, None));
        close(nats).await;
    })
    .await;
}

/// How long a connection to a flapping server lasts: long enough to be taken for a good one.
const MOMENT: Duration = Duration::from_millis(20);

/// A server that greets, and closes: every connection lasts a moment.
async fn flap(listener: TcpListener, connections: Arc<AtomicUsize>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let info =
                r#"INFO {"server_id":"flap","server_name":"flap","version":"2.11.0","max_payload":1048576}"#;
            stream.write_all(format!("{info}\r\n").as_bytes()).await?;
            let (read, mut write) = stream.split();
            let mut lines = BufReader::new(read).lines();
            let mut inbox = String::new();
            while let Some(line) = lines.next_line().await? {
                match line.split(' ').collect::<Vec<_>>()[..] {
                    ["PING"] => write.write_all(b"PONG\r\n").await?,
                    ["SUB", _, id] => inbox = id.to_owned(),
                    // The round trip, which makes the connection a good one; the next thing is its end.
                    ["PUB", subject, _] => {
                        write.write_all(format!("MSG {subject} {inbox} 0\r\n\r\n").as_bytes()).await?;
                        tokio::time::sleep(MOMENT).await;
                        break;
                    }
                    _ => {}
                }
            }
            std::io::Result::Ok(())
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_drops_every_connection_is_not_stormed() {
    within(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let server = tokio::spawn(flap(listener, connections.clone()));
        let settings = Settings {
            servers: vec![url.parse().unwrap()],
            pool_min: 1,
            pool_max: 1,
            reconnect_delay_max: Duration::from_secs(30),
            ..Settings::default()
        };
        let nats = Nats::open(settings).unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        // Waits of at most 0.1, 0.2, 0.4 ... seconds: five of them on the average in three seconds, and more than
        // a dozen about never. Waits that begin anew each time make it sixty.
        let made = connections.load(Ordering::Relaxed);
        assert!((2..=15).contains(&made), "{made}");
        assert!(reading(&nats, "reconnects_total") > 0, "they were good connections");
        close(nats).await;
        server.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_while_the_server_stands_still_is_quick() {
    within(async {
        let server = NatsServer::start("");
        let nats = open(settings(&server)).await;
        // An idle client's pin does not keep what is closed.
        let one = origin(3);
        let target = Target::Publish(Subject::from_static("any"));
        nats.call(request_of(&one, target, "x")).await.unwrap();
        server.halt();
        let started = Instant::now();
        close(nats).await;
        assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
        server.go_on();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_while_nobody_answers_is_quick() {
    within(async {
        let mut server = NatsServer::start("");
        server.kill();
        let nats = Nats::open(settings(&server)).unwrap();
        let started = Instant::now();
        close(nats).await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        eventually(|| Handle::current().metrics().num_alive_tasks() == 0).await;
    })
    .await;
}
