//! Subjects and headers: what arrives at the router, and what comes back of it.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::Message;
use ipc_gateway::demo_router::{BACKPRESSURE, intake};
use serde_json::{Value, json};

use crate::ground::{Ground, task, told};
use crate::outside::{DECIDE, Listening, Outside};
use crate::peer::Answer;
use crate::ways::Way;

/// Everything that may go to a router.
const ROUTERS: &str = "beamline.router.>";

/// The next message that is no question for the router's pressure, which the gateway asks for by itself.
fn next_of(tap: &mut Listening<'_>) -> Message {
    loop {
        let message = tap.next();
        if message.subject.as_str() != BACKPRESSURE {
            return message;
        }
    }
}

pub(crate) fn subjects_1_the_subject_is_decides(way: &'static Way) -> String {
    let ground = Ground::open(way, &[]);
    let outside = Outside::of(&ground.server);
    let mut tap = outside.listen(ROUTERS);
    let mut peer = ground.peer();
    // What the second one finds is the next message: the first was one and no more.
    for id in ["first", "second"] {
        peer.ask(&task(id)).decision();
        let seen = next_of(&mut tap);
        assert_eq!(seen.subject.as_str(), DECIDE);
        let decide = intake::check(&seen.payload).expect("the router takes it");
        assert_eq!((&*decide.request_id, &*decide.tenant_id), (id, "default_tenant"));
    }
    ground.close();
    format!("each task is one message on `{DECIDE}`, which the router's own check takes")
}

pub(crate) fn subjects_2_headers_of_the_request_reach_the_router(way: &'static Way) -> String {
    let ground = Ground::open(way, &[]);
    let outside = Outside::of(&ground.server);
    let mut tap = outside.listen(DECIDE);
    let mut peer = ground.peer();
    peer.say_with(&task("headers"), |call| {
        call.headers.append("X-Case", "one").unwrap();
        call.headers.append("X-Case", "two").unwrap();
        call.headers.append("X-Other", "three").unwrap();
    });
    peer.hears().1.decision();
    let headers = tap.next().headers.unwrap();
    let values = |name: &str| -> Vec<String> {
        let found = headers.iter().filter(|(known, _)| known.to_string().eq_ignore_ascii_case(name));
        found.flat_map(|(_, values)| values).map(ToString::to_string).collect()
    };
    assert_eq!(
        (values("X-Case"), values("X-Other")),
        (vec!["one".into(), "two".into()], vec!["three".into()])
    );
    ground.close();
    "two headers, one of them with two values, are in the router's message in their order".to_owned()
}

pub(crate) fn subjects_3_headers_of_the_reply_reach_the_client(way: &'static Way) -> String {
    let ground = Ground::open(way, &[]);
    let mut peer = ground.peer();
    peer.say_with(&task("headers"), |call| call.headers.append("X-Case", "given back").unwrap());
    let Answer::Decision { headers, .. } = peer.hears().1 else { panic!("a decision was expected") };
    let value = |name: &str| {
        let found = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_string())
    };
    assert_eq!(value("Demo-Router").as_deref(), Some("true"), "{headers:?}");
    assert_eq!(value("X-Case").as_deref(), Some("given back"), "{headers:?}");
    ground.close();
    "the router's own header, and one that it gave back".to_owned()
}

pub(crate) fn subjects_4_each_reply_goes_where_it_was_asked(way: &'static Way) -> String {
    const TASKS: u64 = 20;
    let ground = Ground::open(way, &[]);
    let outside = Outside::of(&ground.server);
    let mut tap = outside.listen(DECIDE);
    let (mut one, mut other) = (ground.peer(), ground.peer());
    let mut due = [BTreeMap::new(), BTreeMap::new()];
    for number in 0..TASKS {
        // The last is answered first.
        let slow = json!({"mode": "slow", "wait_ms": (TASKS - number) * 10});
        for (index, peer) in [&mut one, &mut other].into_iter().enumerate() {
            let id = format!("{index}-{number}");
            due[index].insert(peer.say(&told(&id, slow.clone())), id);
        }
    }
    let inboxes: BTreeSet<_> = (0..TASKS * 2).map(|_| tap.next().reply.unwrap().to_string()).collect();
    assert_eq!(inboxes.len() as u64, TASKS * 2, "no two requests have one address for their replies");
    for (index, peer) in [&mut one, &mut other].into_iter().enumerate() {
        for _ in 0..TASKS {
            let (id, answer) = peer.hears();
            let expected = due[index].remove(&id).expect("each is answered once");
            assert_eq!(answer.decision()["context"]["request_id"], *expected);
        }
        peer.expect_nothing_more();
    }
    ground.close();
    format!("{} requests of two clients, answered in reverse: each got its own answer", TASKS * 2)
}

pub(crate) fn subjects_5_the_trace_is_one_from_end_to_end(way: &'static Way) -> String {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let ground = Ground::open(way, &[]);
    let outside = Outside::of(&ground.server);
    let mut tap = outside.listen(DECIDE);
    let mut peer = ground.peer();
    peer.say_with(&task("trace"), |call| {
        call.traceparent = (!way.is_version_1).then(|| format!("00-{TRACE}-00f067aa0ba902b7-01"));
    });
    let decision = peer.hears().1.decision();
    let seen = tap.next();
    let parent = seen.headers.as_ref().unwrap().iter().find_map(|(name, values)| {
        name.to_string().eq_ignore_ascii_case("traceparent").then(|| values[0].to_string())
    });
    let parent = parent.expect("the router's message has a trace");
    let trace = parent.split('-').nth(1).unwrap();
    let body: Value = serde_json::from_slice(&seen.payload).unwrap();
    assert_eq!((&body["trace_id"], &decision["context"]["trace_id"]), (&trace.into(), &trace.into()));
    let seen = if way.is_version_1 {
        assert_ne!(trace, "0".repeat(32));
        "begun by the gateway, which version 1 cannot do"
    } else {
        assert_eq!(trace, TRACE);
        "the client's"
    };
    ground.close();
    format!("one trace id in header, body and answer: {seen}")
}

pub(crate) fn subjects_6_tenants_are_kept_apart(way: &'static Way) -> String {
    let mut ground = Ground::open(way, &["identity.default_tenant=red"]);
    ground.start_router(&["red", "blue"]);
    let blue = ground.another(&["identity.default_tenant=blue"]);
    let unknown = ground.another(&["identity.default_tenant=green"]);
    let mut peers = [("red", ground.peer()), ("blue", ground.peer_of(&blue))];
    for round in 0..10 {
        for (tenant, peer) in &mut peers {
            // What the client says of its tenant counts for nothing.
            let mut task = task(&format!("{tenant}-{round}"));
            task["tenant_id"] = "blue".into();
            task["task"] = json!({"type": "chat", "payload": {"text": "what to do"}});
            task["request_id"] = task["task_id"].clone();
            let decision = peer.ask(&task).decision();
            assert_eq!(decision["decision"]["metadata"]["tenant_id"], **tenant);
            assert_eq!(decision["context"]["request_id"], format!("{tenant}-{round}"));
        }
    }
    let (code, ..) = ground.peer_of(&unknown).ask(&json!({"tenant_id": "red"})).refusal();
    assert_eq!(code, "policy_not_found", "what the tenant green has not got");
    drop(peers);
    blue.stop();
    unknown.stop();
    ground.close();
    "two tenants at one router by turns: each decision is its own tenant's, whatever the body says; a third has none"
        .to_owned()
}
