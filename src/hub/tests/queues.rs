//! Slow listeners: what each policy keeps and tells, and that nobody else notices.

use super::*;

/// The number that a message carries.
fn number(saw: &Saw) -> u64 {
    let Saw::Message(text) = saw else { panic!("a message was expected, and came {saw:?}") };
    text.parse().unwrap()
}

#[tokio::test]
async fn one_frozen_among_a_thousand_is_told_exactly_what_it_missed_and_the_rest_miss_nothing() {
    const LISTENERS: usize = 1000;
    const KEPT: u64 = 64;
    const MESSAGES: u64 = 400;
    let bench = Bench::new(
        open_route(|route| route.queue.messages_max = usize::try_from(KEPT).unwrap()),
        Settings::default(),
    );
    let mut frozen = bench.subscribe("ticks").await;
    let mut lively = Vec::new();
    for _ in 1..LISTENERS {
        lively.push(bench.subscribe("ticks").await);
    }
    assert_eq!(bench.subscriptions(), 1);
    // Half a queue at once: a listener that reads in time has room.
    for part in 0..MESSAGES / (KEPT / 2) {
        let numbers = || part * (KEPT / 2)..(part + 1) * (KEPT / 2);
        for message in numbers() {
            bench.publish("ticks", message.to_string());
        }
        for stream in &mut lively {
            for message in numbers() {
                assert_eq!(number(&next(stream).await), message);
            }
        }
    }
    let published = MESSAGES / (KEPT / 2) * (KEPT / 2);
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_unread_messages"), KEPT);
    assert_eq!(next(&mut frozen).await, Saw::Gap(Some(published - KEPT)));
    for message in published - KEPT..published {
        assert_eq!(number(&next(&mut frozen).await), message);
    }
    assert!(is_silent(&mut frozen) && lively.iter_mut().all(is_silent));
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_lost_total"), published - KEPT);
    let delivered = reading(&bench.hub, "ipc_gateway_hub_deliveries_total");
    assert_eq!(delivered, published * LISTENERS as u64);
}

#[tokio::test]
async fn the_latest_of_each_subject_is_what_a_slow_listener_gets() {
    let policy = QueuePolicy::LatestBySubject;
    let bench = Bench::new(open_route(|route| route.queue.policy = policy), Settings::default());
    let mut slow = bench.subscribe("price.*").await;
    let mut witness = bench.subscribe("price.*").await;
    for round in 0..100 {
        for subject in ["price.a", "price.b"] {
            bench.publish(subject, format!("{subject} {round}"));
            assert_eq!(next(&mut witness).await, Saw::Message(format!("{subject} {round}")));
        }
    }
    assert_eq!(next(&mut slow).await, told("price.a 99"));
    assert_eq!(next(&mut slow).await, told("price.b 99"));
    assert!(is_silent(&mut slow));
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_conflated_total"), 198);
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_lost_total"), 0);
}

#[tokio::test]
async fn disconnect_ends_the_slow_listeners_stream_and_only_that() {
    let change = |route: &mut RouteSettings| {
        route.queue.policy = QueuePolicy::Disconnect;
        route.queue.messages_max = 4;
    };
    let bench = Bench::new(open_route(change), Settings::default());
    let mut slow = bench.subscribe("a").await;
    let mut lively = bench.subscribe("a").await;
    for message in 0..20 {
        bench.publish("a", message.to_string());
        assert_eq!(number(&next(&mut lively).await), message);
    }
    let text = "5 messages were lost, because they were not read in time".to_owned();
    assert_eq!(next(&mut slow).await, Saw::Failure(Kind::SlowConsumer, text));
    assert_eq!(next(&mut slow).await, Saw::End);
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_lost_total"), 5);
}

#[tokio::test]
async fn a_peer_may_narrow_its_queue_and_not_widen_it() {
    let bench = Bench::new(open_route(|route| route.queue.messages_max = 8), Settings::default());
    let wish = |messages_max| {
        let wish = QueueWish { messages_max: Some(messages_max), ..QueueWish::default() };
        subscribe(&bench.hub, "a", 1000, Some(wish))
    };
    let (mut narrow, mut wide) = (wish(2).await.unwrap(), wish(1_000_000).await.unwrap());
    let mut witness = bench.subscribe("a").await;
    for message in 0..10 {
        bench.publish("a", message.to_string());
        assert_eq!(number(&next(&mut witness).await), message);
    }
    assert_eq!(next(&mut narrow).await, Saw::Gap(Some(8)));
    assert_eq!(next(&mut wide).await, Saw::Gap(Some(2)));
}
