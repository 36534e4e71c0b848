//! The cases of the conformance suite, in the order of its table. None sleeps for luck: that nothing more
//! comes is seen by a marker that is sent afterwards and comes next.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use contract::{
    DeliveryStream, Error, Event, Headers, Identity, Kind, Message, Method, Origin, Outcome, Pattern,
    PeerAddress, Reply, Request, Subject, Target, TraceContext,
};
use futures_util::StreamExt;
use futures_util::future::join_all;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::cancel::Manner;
use tokio::time::Instant;

pub(crate) use crate::streamed::*;
use crate::suite::{Behaviour, Listener, Rig};

/// The time a request may take here: longer than any case.
const TIMEOUT: Duration = Duration::from_secs(90);

fn request_for(target: Target, payload: impl Into<Bytes>) -> Request {
    let mut identity = Identity::new("uid:1000", Method::Local);
    identity.tenant = Some("acme".into());
    let received = Instant::now();
    Request {
        target,
        headers: Headers::new(),
        payload: payload.into(),
        received,
        deadline: received + TIMEOUT,
        idempotent: false,
        ordered: false,
        parts: true,
        queue: None,
        trace: TraceContext::start(),
        origin: Arc::new(Origin { door: "suite", identity, address: PeerAddress::Unix, connection: 7 }),
    }
}

pub(crate) fn request(subject: &str, payload: impl Into<Bytes>) -> Request {
    request_for(Target::Request(Subject::parse(subject).unwrap()), payload)
}

async fn message(rig: &impl Rig, request: Request) -> Result<Message, Error> {
    match rig.backend().call(request).await? {
        Reply::Message(message) => Ok(message),
        other => panic!("a request is answered by a message, not by {other:?}"),
    }
}

async fn ask(rig: &impl Rig, subject: &str, payload: impl Into<Bytes>) -> Result<Message, Error> {
    message(rig, request(subject, payload)).await
}

async fn publish(rig: &impl Rig, subject: &str, payload: impl Into<Bytes>) {
    let request = request_for(Target::Publish(Subject::parse(subject).unwrap()), payload);
    assert!(matches!(rig.backend().call(request).await, Ok(Reply::Accepted)));
}

async fn subscribe(rig: &impl Rig, pattern: &str) -> DeliveryStream {
    let target = Target::Subscribe(Pattern::parse(pattern).unwrap());
    match rig.backend().call(request_for(target, "")).await {
        Ok(Reply::Stream(stream)) => stream,
        other => panic!("a subscription is answered by a stream, not by {other:?}"),
    }
}

/// The next delivery as subject and payload; a gap or an end is a failure.
async fn delivery(stream: &mut DeliveryStream) -> (String, Bytes) {
    match stream.next().await {
        Some(Ok(Event::Delivery(delivery))) => (delivery.subject.to_string(), delivery.payload.clone()),
        other => panic!("a delivery was expected, and came {other:?}"),
    }
}

/// Waits until `reached`: for what a backend does in a task of its own. The case's time limit ends it.
pub(crate) async fn eventually(reached: impl Fn() -> bool) {
    while !reached() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Bytes of every value, in an order that shows a swap or a cut.
#[expect(clippy::cast_possible_truncation, reason = "a remainder of 256 is a byte")]
fn pattern_bytes(length: usize) -> Bytes {
    (0..length).map(|index| ((index * 31 + index / 256) % 256) as u8).collect()
}

async fn echoes(rig: &impl Rig, payload: Bytes) {
    let _responder = rig.respond("suite.echo", None, Behaviour::echo()).await;
    let answer = ask(rig, "suite.echo", payload.clone()).await.unwrap();
    assert!(answer.payload == payload, "{} bytes came back of {}", answer.payload.len(), payload.len());
}

pub(crate) async fn empty_payload<R: Rig>(rig: &R) {
    echoes(rig, Bytes::new()).await;
}

pub(crate) async fn binary_payload<R: Rig>(rig: &R) {
    echoes(rig, pattern_bytes(1000)).await;
}

pub(crate) async fn four_mebibytes<R: Rig>(rig: &R) {
    echoes(rig, pattern_bytes((4 << 20).min(rig.payload_bytes_fits()))).await;
}

pub(crate) async fn largest_payload_passes<R: Rig>(rig: &R) {
    echoes(rig, pattern_bytes(rig.payload_bytes_fits())).await;
}

pub(crate) async fn too_large_is_refused_unsent<R: Rig>(rig: &R) {
    let mut listener = rig.listen("suite.large", None).await;
    let large = pattern_bytes(rig.payload_bytes_refused());
    for target in [Target::Request, Target::Publish] {
        let refused = request_for(target(Subject::from_static("suite.large")), large.clone());
        let error = rig.backend().call(refused).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::TooLarge, Outcome::NotSent));
    }
    publish(rig, "suite.large", "marker").await;
    assert_eq!(listener.hear().await.payload, "marker");
}

pub(crate) async fn headers_to_the_responder<R: Rig>(rig: &R) {
    let mut listener = rig.listen("suite.headers", None).await;
    let _responder = rig.respond("suite.headers", None, Behaviour::echo()).await;
    let mut asked = request("suite.headers", "x");
    let state = "vendor=1".into();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    asked.trace = TraceContext::parse(parent, Some(&state)).unwrap();
    asked.headers.append("X-Color", "red").unwrap();
    asked.headers.append("X-Color", "blue").unwrap();
    let before = unix_ms();
    message(rig, asked).await.unwrap();
    let heard = listener.hear().await;
    let expected: [(&str, &[&str]); 6] = [
        ("traceparent", &[parent]),
        ("tracestate", &["vendor=1"]),
        ("Ipc-Gateway-Identity", &["uid:1000"]),
        ("Ipc-Gateway-Tenant", &["acme"]),
        ("Ipc-Gateway-Door", &["suite"]),
        ("X-Color", &["red", "blue"]),
    ];
    for (name, values) in expected {
        assert_eq!(heard.values(name), values, "{name}");
    }
    let number = |name| heard.values(name)[0].parse::<u128>().unwrap();
    let (due, left) = (number("Ipc-Gateway-Deadline"), number("Ipc-Gateway-Timeout-Ms"));
    // A millisecond either way for what is rounded down twice.
    assert!((before + TIMEOUT.as_millis() - 1..=unix_ms() + TIMEOUT.as_millis() + 1).contains(&due), "{due}");
    assert!((1..=TIMEOUT.as_millis()).contains(&left), "{left}");
    assert!(!heard.values("Ipc-Gateway-Request-Id")[0].is_empty());
}

fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

pub(crate) async fn headers_of_the_answer<R: Rig>(rig: &R) {
    let headers = vec![("X-Flavour", "sour"), ("X-Flavour", "sweet")];
    let _responder = rig.respond("suite.back", None, Behaviour { headers, ..Behaviour::echo() }).await;
    let answer = ask(rig, "suite.back", "x").await.unwrap();
    let flavours: Vec<&str> = answer
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-flavour"))
        .map(|(_, value)| &**value)
        .collect();
    assert_eq!(flavours, ["sour", "sweet"]);
}

pub(crate) async fn reserved_headers_of_a_peer_never_pass<R: Rig>(rig: &R) {
    let mut listener = rig.listen("suite.reserved", None).await;
    let mut evil = request_for(Target::Publish(Subject::from_static("suite.reserved")), "x");
    let names =
        ["Nats-Msg-Id", "nats-expected-stream", "IPC-Gateway-Tenant", "Ipc-Gateway-Admin", "TraceParent"];
    for name in names {
        evil.headers.append(name, "evil").unwrap();
    }
    rig.backend().call(evil).await.unwrap();
    let heard = listener.hear().await;
    assert!(!heard.headers.is_empty());
    assert!(heard.headers.iter().all(|(_, value)| value != "evil"), "{heard:?}");
}

pub(crate) async fn no_responders_at_once<R: Rig>(rig: &R) {
    let error = ask(rig, "suite.nobody", "x").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::NoResponders, Outcome::NotSent));
    assert_eq!(rig.waiting(), 0);
}

pub(crate) async fn two_responders_one_answer<R: Rig>(rig: &R) {
    let _one = rig.respond("suite.two", None, Behaviour::echo()).await;
    let _other = rig.respond("suite.two", None, Behaviour::echo()).await;
    for round in 0..50 {
        let payload = round.to_string();
        assert_eq!(ask(rig, "suite.two", payload.clone()).await.unwrap().payload, payload);
    }
    assert_eq!(rig.waiting(), 0);
}

pub(crate) async fn queue_group_shares_requests<R: Rig>(rig: &R) {
    let _one = rig.respond("suite.shared", Some("workers"), Behaviour::fixed("one")).await;
    let _two = rig.respond("suite.shared", Some("workers"), Behaviour::fixed("two")).await;
    let mut shares: HashMap<Bytes, usize> = HashMap::new();
    // That one of two gets none of 200 by chance, has a probability of 2^-199.
    for _ in 0..200 {
        *shares.entry(ask(rig, "suite.shared", "x").await.unwrap().payload).or_default() += 1;
    }
    assert_eq!(shares.len(), 2, "{shares:?}");
}

pub(crate) async fn thousand_concurrent_requests_do_not_mix<R: Rig>(rig: &R) {
    let _one = rig.respond("suite.many.>", Some("workers"), Behaviour::echo()).await;
    let _two = rig.respond("suite.many.>", Some("workers"), Behaviour::echo()).await;
    let calls = (0..1000).map(|number| async move {
        let answer = ask(rig, &format!("suite.many.{number}"), number.to_string()).await.unwrap();
        assert_eq!(answer.payload, number.to_string());
    });
    join_all(calls).await;
    assert_eq!(rig.waiting(), 0);
}

pub(crate) async fn double_replies_are_ignored<R: Rig>(rig: &R) {
    let _responder = rig.respond("suite.double", None, Behaviour { more: 2, ..Behaviour::echo() }).await;
    for round in 0..100 {
        let payload = round.to_string();
        assert_eq!(ask(rig, "suite.double", payload.clone()).await.unwrap().payload, payload);
    }
    assert_eq!(rig.waiting(), 0);
}

pub(crate) async fn late_replies_are_ignored<R: Rig>(rig: &R) {
    let mut listener = rig.listen("suite.late", None).await;
    let behaviour = Behaviour { delay: Duration::from_millis(30), ..Behaviour::echo() };
    let _responder = rig.respond("suite.late", None, behaviour).await;
    let mut given_up = Box::pin(ask(rig, "suite.late", "given up"));
    tokio::select! {
        biased;
        _ = &mut given_up => panic!("the answer came before its delay"),
        _ = listener.hear() => {}
    }
    drop(given_up);
    // The responder answers one after another: the late answer is out before this one.
    assert_eq!(ask(rig, "suite.late", "next").await.unwrap().payload, "next");
    assert_eq!(rig.waiting(), 0);
}

pub(crate) async fn acknowledgements_of_streams_are_skipped_where_asked<R: Rig>(rig: &R) {
    const ACKNOWLEDGEMENT: &str = r#"{"stream":"S", "seq":1}"#;
    let stored = Behaviour { before: Some(ACKNOWLEDGEMENT), ..Behaviour::fixed("the answer") };
    let _responder = rig.respond("suite.stored", None, stored).await;
    for (skips_acknowledgements, answer) in [(true, "the answer"), (false, ACKNOWLEDGEMENT)] {
        let manner = Manner { skips_acknowledgements, ..Manner::default() };
        let reply = rig.backend().call_as(request("suite.stored", "x"), manner).await.unwrap();
        let Reply::Message(message) = reply else { panic!("{reply:?}") };
        assert_eq!(message.payload, answer);
    }
    eventually(|| rig.waiting() == 0).await;
}

pub(crate) async fn error_headers_make_failed<R: Rig>(rig: &R) {
    let cases: [(&str, Vec<_>, &str, u16, bool); 3] = [
        ("suite.own", vec![("Ipc-Gateway-Error", "policy_not_found")], "policy_not_found", 502, false),
        (
            "suite.micro.peer",
            vec![("Nats-Service-Error-Code", "404"), ("Nats-Service-Error", "none")],
            "404",
            404,
            false,
        ),
        ("suite.micro.ill", vec![("Nats-Service-Error-Code", "503")], "503", 503, true),
    ];
    for (subject, headers, code, http, counts) in cases {
        let behaviour = Behaviour { headers, ..Behaviour::fixed("{\"ok\":false}") };
        let _responder = rig.respond(subject, None, behaviour).await;
        let error = ask(rig, subject, "x").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Failed, Outcome::Done), "{subject}");
        let failed = error.as_failed().unwrap();
        assert_eq!((&*failed.code, failed.http, failed.counts), (code, http, counts), "{subject}");
        assert_eq!(failed.body, "{\"ok\":false}");
    }
}

pub(crate) async fn dropping_a_request_frees_its_slot<R: Rig>(rig: &R) {
    let mut listener = rig.listen("suite.silent", None).await;
    let _responder = rig.respond("suite.silent", None, Behaviour::silent()).await;
    let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(ask(rig, "suite.silent", "x"))).collect();
    for call in &mut waiting {
        tokio::select! {
            biased;
            _ = call => panic!("nobody answers"),
            _ = listener.hear() => {}
        }
    }
    assert_eq!(rig.waiting(), 100);
    drop(waiting);
    eventually(|| rig.waiting() == 0).await;
}

pub(crate) async fn giving_a_request_up_tells_its_responder<R: Rig>(rig: &R) {
    let (mut listener, mut told) =
        (rig.listen("suite.long", None).await, rig.listen("suite.told", None).await);
    let _responder = rig.respond("suite.long", None, Behaviour::silent()).await;
    let manner = Manner { cancel_subject: Some(Subject::from_static("suite.told")), ..Manner::default() };
    let mut call = Box::pin(rig.backend().call_as(request("suite.long", "x"), manner));
    let asked = tokio::select! {
        biased;
        _ = &mut call => panic!("nobody answers"),
        asked = listener.hear() => asked,
    };
    drop(call);
    let cancel = told.hear().await;
    for name in ["Ipc-Gateway-Request-Id", "traceparent"] {
        assert_eq!(cancel.values(name), asked.values(name), "{name}");
    }
    assert_eq!((cancel.values("Ipc-Gateway-Cancel"), cancel.payload.len()), (vec!["cancelled"], 0));
}

pub(crate) async fn every_plain_listener_hears<R: Rig>(rig: &R) {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(rig.listen("suite.all", None).await);
    }
    let mut stream = subscribe(rig, "suite.all").await;
    publish(rig, "suite.all", "news").await;
    for listener in &mut listeners {
        assert_eq!(listener.hear().await.payload, "news");
    }
    assert_eq!(delivery(&mut stream).await.1, "news");
}

pub(crate) async fn queue_group_hears_once<R: Rig>(rig: &R) {
    let mut one = rig.listen("suite.group", Some("readers")).await;
    let mut two = rig.listen("suite.group", Some("readers")).await;
    let mut plain = rig.listen("suite.group", None).await;
    for number in 0..200 {
        publish(rig, "suite.group", number.to_string()).await;
    }
    let (mut heard, mut shares) = (Vec::new(), [0; 2]);
    for _ in 0..200 {
        let (index, next) = tokio::select! {
            next = one.hear() => (0, next),
            next = two.hear() => (1, next),
        };
        shares[index] += 1;
        heard.push(String::from_utf8(next.payload.to_vec()).unwrap().parse::<usize>().unwrap());
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..200).collect::<Vec<_>>());
    assert!(shares[0] > 0 && shares[1] > 0, "{shares:?}");
    for number in 0..200 {
        assert_eq!(plain.hear().await.payload, number.to_string());
    }
}

pub(crate) async fn publish_carries_headers<R: Rig>(rig: &R) {
    let mut listener = rig.listen("suite.published", None).await;
    let mut posted = request_for(Target::Publish(Subject::from_static("suite.published")), "x");
    posted.headers.append("X-Color", "green").unwrap();
    let trace = posted.trace.traceparent();
    rig.backend().call(posted).await.unwrap();
    let heard = listener.hear().await;
    assert_eq!(heard.subject, "suite.published");
    assert_eq!(heard.values("X-Color"), ["green"]);
    assert_eq!(heard.values("traceparent"), [&*trace]);
    assert_eq!(heard.values("Ipc-Gateway-Identity"), ["uid:1000"]);
}

pub(crate) async fn publishes_keep_their_order<R: Rig>(rig: &R) {
    let mut listener = rig.listen("suite.ordered", None).await;
    // In parts that a listener's queue surely holds.
    for part in 0..100 {
        let numbers = || part * 100..(part + 1) * 100;
        let calls = numbers().map(|number: u32| {
            let target = Target::Publish(Subject::from_static("suite.ordered"));
            rig.backend().call(request_for(target, number.to_string()))
        });
        // Called one after another, awaited together: the order of the calls counts.
        let calls: Vec<_> = calls.collect();
        for accepted in join_all(calls).await {
            assert!(matches!(accepted, Ok(Reply::Accepted)), "{accepted:?}");
        }
        for number in numbers() {
            assert_eq!(listener.hear().await.payload, number.to_string());
        }
    }
}

pub(crate) async fn publish_to_nobody_is_accepted<R: Rig>(rig: &R) {
    publish(rig, "suite.void", "x").await;
}

pub(crate) async fn stream_tells_subject_and_headers<R: Rig>(rig: &R) {
    let mut stream = subscribe(rig, "suite.told").await;
    rig.publish("suite.told", &[("X-Color", "red")], Bytes::from_static(b"x")).await;
    let Some(Ok(Event::Delivery(delivery))) = stream.next().await else { panic!("a delivery was expected") };
    assert_eq!((delivery.subject.as_str(), &delivery.payload[..]), ("suite.told", &b"x"[..]));
    assert_eq!(delivery.headers.get("x-color").unwrap(), "red");
}

pub(crate) async fn star_matches_one_token<R: Rig>(rig: &R) {
    let mut stream = subscribe(rig, "suite.*.leaf").await;
    for subject in ["suite.leaf", "suite.a.b.leaf", "suite.a.leafy", "suite.a.leaf", "suite.b.leaf"] {
        rig.publish(subject, &[], Bytes::new()).await;
    }
    assert_eq!(delivery(&mut stream).await.0, "suite.a.leaf");
    assert_eq!(delivery(&mut stream).await.0, "suite.b.leaf");
}

pub(crate) async fn tail_matches_the_rest<R: Rig>(rig: &R) {
    let mut stream = subscribe(rig, "suite.tail.>").await;
    for subject in ["suite.tail", "suite.tails.a", "suite.tail.a", "suite.tail.a.b.c"] {
        rig.publish(subject, &[], Bytes::new()).await;
    }
    assert_eq!(delivery(&mut stream).await.0, "suite.tail.a");
    assert_eq!(delivery(&mut stream).await.0, "suite.tail.a.b.c");
}

pub(crate) async fn slow_reader_is_told_the_gap<R: Rig>(rig: &R) {
    let mut slow = subscribe(rig, "suite.slow").await;
    let mut witness = subscribe(rig, "suite.slow").await;
    let (capacity, more) = (rig.subscription_capacity(), 57);
    // The witness shows that the backend has each message, so that the slow one's queue is truly full.
    for number in 0..capacity + more {
        rig.publish("suite.slow", &[], number.to_string().into()).await;
        assert_eq!(delivery(&mut witness).await.1, number.to_string());
    }
    let (mut read, mut lost, mut due) = (0, 0, 0);
    let mut take = |event: Option<Result<Event, Error>>| match event {
        Some(Ok(Event::Gap { lost: Some(gap) })) => {
            due += gap.get();
            lost += gap.get();
            None
        }
        Some(Ok(Event::Delivery(delivery))) => {
            let number = String::from_utf8(delivery.payload.to_vec()).unwrap().parse::<u64>().unwrap();
            assert_eq!(number, due, "each gap tells exactly what is missing");
            due += 1;
            Some(number)
        }
        other => panic!("a delivery or a counted gap was expected, and came {other:?}"),
    };
    while read < capacity {
        read += usize::from(take(slow.next().await).is_some());
    }
    let marker = (capacity + more) as u64;
    rig.publish("suite.slow", &[], marker.to_string().into()).await;
    while take(slow.next().await) != Some(marker) {}
    assert!((1..=more as u64).contains(&lost), "{lost}");
}

pub(crate) async fn dropping_a_stream_ends_the_subscription<R: Rig>(rig: &R) {
    let before = rig.subscriptions();
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(subscribe(rig, "suite.dropped").await);
    }
    assert_eq!(rig.subscriptions(), before + 10);
    drop(streams);
    eventually(|| rig.subscriptions() == before).await;
    // Nobody listens any more, which the other side may learn a moment later: what is asked before is lost.
    let error = loop {
        let asked = tokio::time::timeout(Duration::from_secs(1), ask(rig, "suite.dropped", "x"));
        if let Ok(answer) = asked.await {
            break answer.unwrap_err();
        }
    };
    assert_eq!(error.kind(), Kind::NoResponders);
}

pub(crate) async fn reserved_subjects_are_not_delivered<R: Rig>(rig: &R) {
    let mut stream = subscribe(rig, ">").await;
    for subject in ["_INBOX.suite.x", "_R_.suite", "suite.marker"] {
        rig.publish(subject, &[], Bytes::new()).await;
    }
    assert_eq!(delivery(&mut stream).await.0, "suite.marker");
}

pub(crate) async fn health_says_reachable<R: Rig>(rig: &R) {
    let health = rig.backend().health();
    assert!(health.reachable, "{health:?}");
    assert!(matches!(health.kind, "embedded" | "nats"), "{health:?}");
    let readings = rig.backend().readings();
    assert!(!readings.is_empty());
    for reading in readings {
        assert!(reading.name.starts_with("ipc_gateway_") && !reading.help.is_empty(), "{reading:?}");
        assert_eq!(reading.counter, reading.name.ends_with("_total"), "{reading:?}");
        assert!(reading.value.is_finite() && reading.value >= 0.0, "{reading:?}");
    }
}

pub(crate) async fn close_ends_streams<R: Rig>(rig: &R) {
    let mut stream = subscribe(rig, "suite.closing").await;
    rig.backend().close().await;
    // That messages may have been missed while the connection closed is told before the end.
    let mut last = stream.next().await;
    while matches!(last, Some(Ok(Event::Gap { .. }))) {
        last = stream.next().await;
    }
    assert!(!matches!(last, Some(Ok(_))), "a stream ends with its backend");
    let error = ask(rig, "suite.closing", "x").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::NotSent));
    assert!(!rig.backend().health().reachable);
}
