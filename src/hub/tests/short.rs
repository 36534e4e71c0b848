//! When memory is short: the queues of those who do not read give way, and nobody is locked out.

use contract::Marks;

use super::*;
use crate::load::LoadSettings;
use crate::rules::Limits;

/// Small enough that a few frozen listeners could fill it.
const MEMORY_BYTES: usize = 256 * 1024;
const PAYLOAD_BYTES: usize = 1000;

fn bench(policy: QueuePolicy) -> Bench {
    let routes = open_route(|route| {
        route.queue.policy = policy;
        route.queue.messages_max = 100_000;
    });
    let marks = Marks { short: 50, low: 70, high: 85 };
    let load = LoadSettings { memory_bytes_max: MEMORY_BYTES, marks, ..LoadSettings::default() };
    let limits = Limits { load, ..testing::limits() };
    let broker = Embedded::open(embedded::Settings { demo: false, ..embedded::Settings::default() });
    let handle = Handle::new(Rules::new(routes, limits, None, testing::meters));
    let hub = Hub::new(broker.clone(), Settings::default(), handle.clone());
    Bench { broker, hub, handle }
}

/// Publishes `count` numbered messages, which the lively one reads at once, and sees that memory never runs out.
async fn flood(bench: &Bench, subject: &'static str, lively: &mut DeliveryStream, count: usize) {
    for number in 0..count {
        let payload = format!("{number:0>PAYLOAD_BYTES$}");
        bench.publish(subject, payload.clone());
        assert_eq!(next(lively).await, Saw::Message(payload));
        let memory = &bench.handle.load().load.memory;
        assert!(!memory.is_pressed(), "{} bytes are used", memory.used());
    }
}

/// All that a listener has: how many messages, and how many it is told that it missed.
fn counted(stream: &mut DeliveryStream) -> (u64, u64) {
    let (mut read, mut lost) = (0, 0);
    while let Some(event) = stream.next().now_or_never() {
        match seen(event) {
            Saw::Message(_) => read += 1,
            Saw::Gap(Some(count)) => lost += count,
            other => panic!("{other:?}"),
        }
    }
    (read, lost)
}

#[tokio::test]
async fn queues_that_are_not_read_give_way_also_where_nothing_comes_any_more() {
    let bench = bench(QueuePolicy::DropOldest);
    let mut silent = bench.subscribe("before").await;
    let mut witness = bench.subscribe("before").await;
    flood(&bench, "before", &mut witness, 50).await;
    let mut frozen = bench.subscribe("flood").await;
    let mut lively = bench.subscribe("flood").await;
    flood(&bench, "flood", &mut lively, 1000).await;
    assert!(reading(&bench.hub, "ipc_gateway_hub_relieved_total") > 0);
    let (read, lost) = counted(&mut silent);
    assert!(read > 0 && lost > 0 && read + lost == 50, "{read} and {lost}");
    let (read, lost) = counted(&mut frozen);
    assert!(read > 0 && lost > 0 && read + lost == 1000, "{read} and {lost}");
    assert!(is_silent(&mut lively) && is_silent(&mut witness));
    // With the last reader every byte is given back.
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_unread_bytes"), 0);
    assert_eq!(bench.handle.load().load.memory.used(), 0);
}

#[tokio::test]
async fn where_that_is_the_policy_the_stream_ends() {
    let bench = bench(QueuePolicy::Disconnect);
    let mut frozen = bench.subscribe("flood").await;
    let mut lively = bench.subscribe("flood").await;
    flood(&bench, "flood", &mut lively, 200).await;
    assert!(matches!(next(&mut frozen).await, Saw::Failure(Kind::SlowConsumer, _)));
    drop((frozen, lively));
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_unread_bytes"), 0);
    assert_eq!(bench.handle.load().load.memory.used(), 0);
}
