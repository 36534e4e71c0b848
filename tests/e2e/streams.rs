//! The streams of version 1, against the demo's ticking subject and against what other clients send.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::{Client, Frame, frame, kind};
use crate::gateway::{Gateway, Start};

fn ticking() -> Start {
    Gateway::with().set("embedded.tick_ms=20")
}

/// Subscribes and sees that it is accepted.
fn subscribe(client: &mut Client, subject: &str, stream: &str) {
    let accepted =
        client.ask(kind::STREAM_SUBSCRIBE, json!({"subject": subject, "stream": stream}).to_string());
    assert_eq!(accepted.kind, kind::RESPONSE_OK, "{accepted:?}");
    assert_eq!(accepted.json(), json!({"ok": true, "stream": stream}));
}

/// The next frame that is no delivery, and the deliveries before it.
fn past_deliveries(client: &mut Client) -> (Vec<Value>, Frame) {
    let mut deliveries = Vec::new();
    loop {
        let frame = client.receive();
        if frame.kind != kind::STREAM_DATA {
            return (deliveries, frame);
        }
        deliveries.push(frame.json());
    }
}

#[test]
fn a_subscription_is_accepted_in_its_place_in_the_order() {
    let gateway = ticking().tasks_to("demo.slow").gateway();
    let mut client = gateway.client();
    let subscription = frame(kind::STREAM_SUBSCRIBE, r#"{"subject":"demo.tick","stream":"a"}"#);
    client.write(&[frame(kind::TASK_SUBMIT, "200"), subscription, frame(kind::PING, "")].concat());
    assert_eq!(client.receive().json()["waited_ms"], 200);
    assert_eq!(client.receive().json(), json!({"ok": true, "stream": "a"}));
    assert_eq!(past_deliveries(&mut client).1.kind, kind::PONG);
    gateway.stop();
}

#[test]
fn deliveries_say_their_stream_and_subject_and_come_in_order() {
    let gateway = ticking().gateway();
    let mut client = gateway.client();
    subscribe(&mut client, "demo.tick", "mine");
    let first = client.receive();
    assert_eq!(first.kind, kind::STREAM_DATA);
    let mut last = 0;
    for body in [first.json(), client.receive().json(), client.receive().json()] {
        assert_eq!((&body["stream"], &body["subject"]), (&json!("mine"), &json!("demo.tick")));
        assert_eq!(body["payload"]["demo"], true);
        let tick = body["payload"]["tick"].as_u64().unwrap();
        assert!(last == 0 || tick == last + 1, "{last}, then {tick}");
        last = tick;
    }
    gateway.stop();
}

#[test]
fn a_stream_without_a_name_is_given_one() {
    let gateway = ticking().gateway();
    let mut client = gateway.client();
    let accepted = client.ask(kind::STREAM_SUBSCRIBE, r#"{"subject":"demo.tick"}"#).json();
    let name = accepted["stream"].as_str().expect("it has a name").to_owned();
    assert!(!name.is_empty());
    assert_eq!(client.receive().json()["stream"], name.as_str());
    gateway.stop();
}

#[test]
fn deliveries_come_between_whole_frames() {
    let gateway = Gateway::with().set("embedded.tick_ms=10").tasks_to("demo.echo").gateway();
    let mut client = gateway.client();
    for stream in ["a", "b", "c"] {
        let reply =
            client.ask(kind::STREAM_SUBSCRIBE, json!({"subject": "demo.tick", "stream": stream}).to_string());
        assert!(matches!(reply.kind, kind::RESPONSE_OK | kind::STREAM_DATA), "{reply:?}");
    }
    // Enough work that ticks fall into it, however fast the machine is: it goes on until they have.
    let (mut ticks, mut asked) = (0, 0_u32);
    while ticks < 30 || asked < 50 {
        asked += 1;
        let task = format!("{{\"n\":{asked},\"pad\":\"{}\"}}", "x".repeat(100_000));
        std::thread::scope(|scope| {
            client.write_aside(scope, frame(kind::TASK_SUBMIT, &task));
            loop {
                let reply = client.receive();
                match reply.kind {
                    kind::STREAM_DATA => {
                        assert_eq!(reply.json()["payload"]["demo"], true);
                        ticks += 1;
                    }
                    // What is left of the three acceptances.
                    _ if reply.json().get("stream").is_some() => {}
                    _ => break assert!(reply.payload == task.as_bytes(), "{reply:?}"),
                }
            }
        });
    }
    gateway.stop();
}

#[test]
fn a_task_cancel_with_the_stream_ends_it_and_no_other() {
    let gateway = ticking().gateway();
    let mut client = gateway.client();
    subscribe(&mut client, "demo.tick", "a");
    client.send(kind::STREAM_SUBSCRIBE, r#"{"subject":"demo.tick","stream":"b"}"#);
    assert_eq!(past_deliveries(&mut client).1.json()["stream"], "b");
    client.send(kind::TASK_CANCEL, r#"{"stream":"a"}"#);
    let complete = past_deliveries(&mut client).1;
    assert_eq!((complete.kind, complete.json()["stream"].clone()), (kind::STREAM_COMPLETE, json!("a")));
    let (_, accepted) = past_deliveries(&mut client);
    assert_eq!((accepted.kind, accepted.json()), (kind::RESPONSE_OK, json!({"ok": true, "stream": "a"})));
    for _ in 0..5 {
        assert_eq!(client.receive().json()["stream"], "b");
    }
    assert_eq!(gateway.metrics().door("streams"), 1.0);
    // The name is free again.
    client.send(kind::STREAM_SUBSCRIBE, r#"{"subject":"demo.tick","stream":"a"}"#);
    assert_eq!(past_deliveries(&mut client).1.kind, kind::RESPONSE_OK);
    gateway.stop();
}

#[test]
fn a_cancel_of_a_stream_that_is_not_open_is_error_4() {
    let gateway = ticking().gateway();
    let (code, _, word) = gateway.client().ask(kind::TASK_CANCEL, r#"{"stream":"x"}"#).error();
    assert_eq!((code, word.as_str()), (4, "not_found"));
    gateway.stop();
}

#[test]
fn a_name_in_use_is_a_conflict_for_the_second_and_the_first_is_unaffected() {
    let gateway = ticking().gateway();
    let mut client = gateway.client();
    subscribe(&mut client, "demo.tick", "a");
    client.send(kind::STREAM_SUBSCRIBE, r#"{"subject":"demo.other","stream":"a"}"#);
    let (code, _, word) = past_deliveries(&mut client).1.error();
    assert_eq!((code, word.as_str()), (4, "conflict"));
    assert_eq!(client.receive().json()["subject"], "demo.tick");
    assert_eq!(gateway.metrics().door("streams"), 1.0);
    // Another connection has names of its own.
    subscribe(&mut gateway.client(), "demo.tick", "a");
    gateway.stop();
}

#[test]
fn what_a_slow_reader_loses_is_told_as_a_gap_with_its_count() {
    const TASKS: u64 = 400;
    let gateway = Gateway::with().tasks_to("demo.echo").set("hub.queue_messages_max=16").gateway();
    let mut slow = gateway.client();
    subscribe(&mut slow, "demo.echo", "all");
    // What goes to the responder goes to who listens there, too. The listener does not read meanwhile.
    let mut busy = gateway.client();
    for number in 0..TASKS {
        let task = format!("{{\"n\":{number},\"pad\":\"{}\"}}", "x".repeat(20_000));
        assert_eq!(busy.ask(kind::TASK_SUBMIT, &task).payload, task.as_bytes());
    }
    let (mut next, mut gaps) = (0, 0);
    while next < TASKS {
        let frame = slow.receive();
        let body = frame.json();
        assert_eq!((frame.kind, &body["stream"]), (kind::STREAM_DATA, &json!("all")));
        if let Some(lost) = body.get("gap") {
            assert_eq!(body, json!({"stream": "all", "gap": lost}));
            next += lost.as_u64().unwrap();
            gaps += 1;
        } else {
            assert_eq!(body["payload"]["n"], next, "what is lost is told before what follows it");
            next += 1;
        }
    }
    assert!(next == TASKS && gaps > 0, "{next} of {TASKS}, {gaps} gaps");
    gateway.stop();
}

#[test]
fn bad_subscriptions_are_refused_and_the_connection_stays_open() {
    let gateway = ticking().set("ipc.streams_max=1").gateway();
    let mut client = gateway.client();
    let long = json!({"subject": "a", "stream": "x".repeat(65)}).to_string();
    let cases = BTreeMap::from([
        ("", (4, "malformed")),
        ("{}", (4, "malformed")),
        ("[1]", (4, "malformed")),
        (r#"{"subject":7}"#, (4, "malformed")),
        (r#"{"subject":"a..b"}"#, (4, "invalid")),
        (r#"{"subject":"a b"}"#, (4, "invalid")),
        (r#"{"subject":"a.>.b"}"#, (4, "invalid")),
        (r#"{"subject":""}"#, (4, "invalid")),
        (r#"{"subject":"a","stream":""}"#, (4, "invalid")),
        (long.as_str(), (4, "invalid")),
        (r#"{"subject":"$SYS.>"}"#, (99, "denied")),
        (r#"{"subject":"_INBOX.>"}"#, (99, "denied")),
    ]);
    for (payload, (code, word)) in cases {
        let error = client.ask(kind::STREAM_SUBSCRIBE, payload).error();
        assert_eq!((error.0, error.2.as_str()), (code, word), "{payload}: {error:?}");
    }
    subscribe(&mut client, "nobody.publishes", "one");
    let error = client.ask(kind::STREAM_SUBSCRIBE, r#"{"subject":"a"}"#).error();
    assert_eq!((error.0, error.2.as_str()), (99, "overloaded"));
    client.ping();
    gateway.stop();
}

#[test]
fn streams_end_with_their_connection() {
    let gateway = ticking().gateway();
    let before = gateway.metrics().held();
    for _ in 0..3 {
        let mut client = gateway.client();
        subscribe(&mut client, "demo.tick", "a");
        assert_eq!(client.receive().kind, kind::STREAM_DATA);
    }
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn a_gateway_that_stops_tells_its_streams() {
    let gateway = ticking().gateway();
    let mut client = gateway.client();
    subscribe(&mut client, "nobody.publishes", "a");
    let printed = std::thread::scope(|scope| {
        let stopped = scope.spawn(|| gateway.stop());
        let end = client.receive();
        assert_eq!((end.kind, end.json()["stream"].clone()), (kind::STREAM_ERROR, json!("a")));
        assert_eq!(end.json()["error"]["kind"], "draining");
        client.expect_closed();
        stopped.join().unwrap()
    });
    assert!(printed.contains("Try:"));
}
