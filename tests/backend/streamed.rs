//! The cases of the conformance suite about answers of many messages.

use std::time::Duration;

use contract::{DeliveryStream, Error, Event, Kind, Outcome, Reply, Subject};
use futures_util::StreamExt;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::cancel::Manner;
use ipc_gateway::backend::replies::ReplyBounds;

use crate::cases::{eventually, request};
use crate::suite::{Behaviour, Listener, Rig};

/// More than any case here comes near to.
const BOUNDS: ReplyBounds = ReplyBounds {
    messages_max: 10_000,
    bytes_max: 1 << 30,
    gap: Duration::from_secs(30),
    total: Duration::from_mins(1),
    queue_messages_max: 2000,
    queue_bytes_max: 1 << 20,
};

async fn ask(rig: &impl Rig, subject: &str, replies: Option<ReplyBounds>) -> Result<Reply, Error> {
    let manner =
        Manner { cancel_subject: Some(Subject::from_static("suite.told")), replies, ..Manner::default() };
    rig.backend().call_as(request(subject, "x"), manner).await
}

async fn stream(rig: &impl Rig, subject: &str, replies: ReplyBounds) -> DeliveryStream {
    match ask(rig, subject, Some(replies)).await {
        Ok(Reply::Stream(stream)) => stream,
        other => panic!("a stream was expected, and came {other:?}"),
    }
}

/// The numbers of the parts that came, and how it ended.
async fn read(stream: &mut DeliveryStream) -> (Vec<usize>, Option<Error>) {
    let mut numbers = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Delivery(part)) => {
                assert!(part.headers.get("Ipc-Gateway-More").is_none(), "{:?}", part.headers);
                numbers.push(std::str::from_utf8(&part.payload).unwrap().parse().unwrap());
            }
            Ok(gap) => panic!("an answer has no gaps: {gap:?}"),
            Err(error) => return (numbers, Some(error)),
        }
    }
    (numbers, None)
}

fn open(rig: &impl Rig) -> bool {
    let readings = rig.backend().readings();
    let open = readings.iter().find(|reading| reading.name == "ipc_gateway_streamed_replies");
    open.expect("the reading exists").value > 0.0
}

async fn nothing_is_held(rig: &impl Rig) {
    eventually(|| rig.waiting() == 0 && !open(rig)).await;
}

pub(crate) async fn a_streamed_answer_is_whole_and_in_order<R: Rig>(rig: &R) {
    let _responder = rig.respond("suite.parts", None, Behaviour::parts(1000)).await;
    let mut stream = stream(rig, "suite.parts", BOUNDS).await;
    assert!(open(rig) && rig.waiting() == 1);
    let (numbers, error) = read(&mut stream).await;
    assert_eq!((numbers, error.is_none()), ((0..1000).collect(), true));
    drop(stream);
    nothing_is_held(rig).await;
}

pub(crate) async fn an_answer_of_one_is_a_message_where_many_may_come<R: Rig>(rig: &R) {
    let _responder = rig.respond("suite.single", None, Behaviour::fixed("only")).await;
    let Ok(Reply::Message(message)) = ask(rig, "suite.single", Some(BOUNDS)).await else {
        panic!("a message was expected")
    };
    assert_eq!(message.payload, "only");
    let error = ask(rig, "suite.nobody", Some(BOUNDS)).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::NoResponders, Outcome::NotSent));
    nothing_is_held(rig).await;
}

pub(crate) async fn many_answers_where_one_may_come_are_failed<R: Rig>(rig: &R) {
    let mut told = rig.listen("suite.told", None).await;
    let _responder = rig.respond("suite.parts", None, Behaviour::parts(2)).await;
    let error = ask(rig, "suite.parts", None).await.unwrap_err();
    assert_eq!(&*error.as_failed().unwrap().code, "more_than_one_reply");
    assert_eq!(told.hear().await.values("Ipc-Gateway-Cancel"), ["over_limit"]);
    nothing_is_held(rig).await;
}

pub(crate) async fn a_streamed_answer_over_its_count_is_cut_off<R: Rig>(rig: &R) {
    let mut told = rig.listen("suite.told", None).await;
    let _responder = rig.respond("suite.parts", None, Behaviour::parts(20)).await;
    let mut stream = stream(rig, "suite.parts", ReplyBounds { messages_max: 10, ..BOUNDS }).await;
    let (numbers, error) = read(&mut stream).await;
    let error = error.unwrap();
    assert_eq!((numbers.len(), error.kind(), error.outcome()), (10, Kind::TooLarge, Outcome::Unknown));
    assert_eq!(told.hear().await.values("Ipc-Gateway-Cancel"), ["over_limit"]);
    drop(stream);
    nothing_is_held(rig).await;
}

pub(crate) async fn a_streamed_answer_that_falls_silent_is_over<R: Rig>(rig: &R) {
    let mut told = rig.listen("suite.told", None).await;
    let unfinished = Behaviour { unfinished: true, ..Behaviour::parts(3) };
    let _responder = rig.respond("suite.parts", None, unfinished).await;
    let gap = Duration::from_millis(200);
    let mut stream = stream(rig, "suite.parts", ReplyBounds { gap, ..BOUNDS }).await;
    let (numbers, error) = read(&mut stream).await;
    let error = error.unwrap();
    assert_eq!((numbers.len(), error.kind(), error.outcome()), (3, Kind::TimedOut, Outcome::Unknown));
    assert_eq!(told.hear().await.values("Ipc-Gateway-Cancel"), ["timed_out"]);
    drop(stream);
    nothing_is_held(rig).await;
}

pub(crate) async fn a_streamed_answer_that_is_not_read_is_over<R: Rig>(rig: &R) {
    let mut told = rig.listen("suite.told", None).await;
    let _responder = rig.respond("suite.parts", None, Behaviour::parts(20)).await;
    let mut stream = stream(rig, "suite.parts", ReplyBounds { queue_messages_max: 10, ..BOUNDS }).await;
    assert_eq!(told.hear().await.values("Ipc-Gateway-Cancel"), ["slow_consumer"]);
    let (numbers, error) = read(&mut stream).await;
    assert_eq!((numbers, error.unwrap().kind()), ((0..10).collect(), Kind::SlowConsumer));
    drop(stream);
    nothing_is_held(rig).await;
}

pub(crate) async fn dropping_a_streamed_answer_tells_its_responder<R: Rig>(rig: &R) {
    let (mut asked, mut told) = (rig.listen("suite.parts", None).await, rig.listen("suite.told", None).await);
    let unfinished = Behaviour { unfinished: true, ..Behaviour::parts(3) };
    let _responder = rig.respond("suite.parts", None, unfinished).await;
    drop(stream(rig, "suite.parts", BOUNDS).await);
    let (asked, cancel) = (asked.hear().await, told.hear().await);
    for name in ["Ipc-Gateway-Request-Id", "traceparent"] {
        assert_eq!(cancel.values(name), asked.values(name), "{name}");
    }
    assert_eq!((cancel.values("Ipc-Gateway-Cancel"), cancel.payload.len()), (vec!["cancelled"], 0));
    nothing_is_held(rig).await;
}
