//! The life of a feed: opened together, lingering, ended by its backend, by the hub, or by an accident.

use std::num::NonZeroU64;

use super::script::{PANIC, Scripted};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_pattern_lingers_after_its_last_listener_and_is_taken_up_again() {
    let bench = Bench::new(open_route(|_| ()), Settings::default());
    drop(bench.subscribe("a").await);
    tokio::time::sleep(Duration::from_millis(4990)).await;
    assert_eq!(bench.subscriptions(), 1);
    let mut again = bench.subscribe("a").await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    bench.publish("a", "x");
    assert_eq!(next(&mut again).await, told("x"));
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_opened_total"), 1);
    drop(again);
    tokio::time::sleep(Duration::from_millis(4990)).await;
    assert_eq!(bench.subscriptions(), 1);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((bench.subscriptions(), reading(&bench.hub, "ipc_gateway_hub_patterns")), (0, 0));
    // And opened anew.
    let mut anew = bench.subscribe("a").await;
    bench.publish("a", "y");
    assert_eq!(next(&mut anew).await, told("y"));
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_opened_total"), 2);
}

#[tokio::test]
async fn who_asks_while_it_opens_is_answered_together_and_nobodys_name_is_used() {
    let (script, hub) = Scripted::hub(Settings::default(), 0);
    let mut one = Box::pin(subscribe(&hub, "a", 1, None));
    let mut two = Box::pin(subscribe(&hub, "a", 2, None));
    for call in [&mut one, &mut two] {
        assert!(call.as_mut().now_or_never().is_none());
    }
    script.answer();
    let (one, two) = tokio::join!(one, two);
    script.say("x").await;
    for mut stream in [one.unwrap(), two.unwrap()] {
        assert_eq!(next(&mut stream).await, told("x"));
    }
    assert_eq!(script.asked(), ["ipc-gateway"]);
}

#[tokio::test]
async fn when_opening_fails_each_gets_the_error_and_the_next_opens_anew() {
    let (script, hub) = Scripted::hub(Settings::default(), 2);
    let after = Duration::from_millis(250);
    script.refuse(Error::new(Kind::Unavailable, "no connection").with_retry_after(after));
    let (one, two) = tokio::join!(subscribe(&hub, "a", 1, None), subscribe(&hub, "a", 2, None));
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!((error.kind(), error.text()), (Kind::Unavailable, "no connection"));
        assert_eq!(error.retry_after(), Some(after));
    }
    assert!(subscribe(&hub, "a", 1, None).await.is_ok());
    assert_eq!(script.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_is_not_waited_for_any_longer_than_allowed() {
    let (_script, hub) = Scripted::hub(Settings::default(), 0);
    let began = tokio::time::Instant::now();
    let error = subscribe(&hub, "a", 1, None).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::TimedOut, contract::Outcome::NotSent));
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_while_it_opens_leaves_nothing() {
    let (script, hub) = Scripted::hub(Settings::default(), 0);
    let mut given_up = Box::pin(subscribe(&hub, "a", 1, None));
    assert!(given_up.as_mut().now_or_never().is_none());
    drop(given_up);
    assert_eq!(reading(&hub, "ipc_gateway_hub_listeners"), 0);
    tokio::time::sleep(Duration::from_millis(10)).await;
    script.answer();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(script.held(), 1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((script.held(), reading(&hub, "ipc_gateway_hub_patterns")), (0, 0));
}

#[tokio::test]
async fn gaps_and_the_end_of_the_backend_reach_every_listener_in_order() {
    let (script, hub) = Scripted::hub(Settings::default(), 3);
    let mut one = subscribe(&hub, "a", 1, None).await.unwrap();
    let mut two = subscribe(&hub, "a", 2, None).await.unwrap();
    script.say("x").await;
    script.tell(Ok(Event::Gap { lost: NonZeroU64::new(3) })).await;
    script.say("y").await;
    script.tell(Ok(Event::Gap { lost: None })).await;
    script.tell(Err(Error::new(Kind::Unavailable, "gone").with_cause("a secret"))).await;
    let failure = Saw::Failure(Kind::Unavailable, "gone".to_owned());
    let expected = [told("x"), Saw::Gap(Some(3)), told("y"), Saw::Gap(None), failure, Saw::End];
    for stream in [&mut one, &mut two] {
        for saw in &expected {
            assert_eq!(next(stream).await, *saw);
        }
    }
    // The streams are still held, and the pattern is open to others again.
    let mut anew = subscribe(&hub, "a", 1, None).await.unwrap();
    script.say("z").await;
    assert_eq!(next(&mut anew).await, told("z"));
    script.end();
    assert_eq!(next(&mut anew).await, Saw::End);
    drop((one, two, anew));
    assert_eq!(reading(&hub, "ipc_gateway_hub_listeners"), 0);
}

#[tokio::test]
async fn an_accident_in_the_task_of_a_pattern_ends_its_streams_and_no_others() {
    let (script, hub) = Scripted::hub(Settings::default(), 3);
    let mut other = subscribe(&hub, "b", 1, None).await.unwrap();
    let mut hit = subscribe(&hub, "a", 1, None).await.unwrap();
    script.tell(Err(Error::new(Kind::Internal, PANIC))).await;
    assert!(matches!(next(&mut hit).await, Saw::Failure(Kind::Internal, _)));
    script.end();
    script.say("x").await;
    assert_eq!(next(&mut other).await, told("x"));
    assert!(subscribe(&hub, "a", 1, None).await.is_ok());
}

#[tokio::test]
async fn patterns_are_bounded_and_the_idle_give_way() {
    let bench = Bench::new(open_route(|_| ()), Settings { patterns_max: 2, ..Settings::default() });
    let kept = bench.subscribe("a").await;
    drop(bench.subscribe("b").await);
    let _third = bench.subscribe("c").await;
    let error = subscribe(&bench.hub, "d", 1000, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Overloaded);
    // What is there can be joined all the same.
    assert!(subscribe(&bench.hub, "a", 1000, None).await.is_ok());
    eventually(|| bench.subscriptions() == 2).await;
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_every_stream_even_if_the_backend_does_not() {
    let (script, hub) = Scripted::hub(Settings::default(), 1);
    let mut stream = subscribe(&hub, "a", 1, None).await.unwrap();
    let mut opening = Box::pin(subscribe(&hub, "b", 1, None));
    assert!(opening.as_mut().now_or_never().is_none());
    script.say("x").await;
    hub.close().await;
    assert_eq!(next(&mut stream).await, told("x"));
    assert!(matches!(next(&mut stream).await, Saw::Failure(Kind::Draining, _)));
    assert_eq!(opening.await.unwrap_err().kind(), Kind::Draining);
    assert_eq!(subscribe(&hub, "a", 1, None).await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!((hub.0.pumps.len(), reading(&hub, "ipc_gateway_hub_patterns")), (0, 0));
}
