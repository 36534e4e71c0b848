//! Events as they are written: shapes, gaps, ends, keep-alives and readers that are slow.

use contract::Subject;
use futures_util::stream;
use http_body_util::BodyExt as _;

use super::*;

struct Room {
    drain: Drain,
    budget: ByteBudget,
    meters: Arc<DoorMeters>,
}

impl Room {
    fn new() -> Self {
        Self { drain: Drain::new(), budget: ByteBudget::new(1 << 20), meters: Arc::default() }
    }

    fn body(
        &self,
        events: impl futures_util::Stream<Item = Result<Event, Error>> + Send + 'static,
        resumed: bool,
    ) -> Body {
        let hall = Hall {
            drain: &self.drain,
            keep_alive: Duration::from_secs(15),
            budget: &self.budget,
            meters: &self.meters,
        };
        let stream = DeliveryStream::new(events);
        let of = if resumed { Of::Resumed } else { Of::Subscription };
        Events::respond(stream, of, &TraceContext::start(), &hall, None).into_body()
    }
}

async fn next(body: &mut Body) -> Option<String> {
    let frame = body.frame().await?.unwrap();
    Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
}

fn delivery(payload: &'static str, position: Option<&'static str>) -> Event {
    let mut headers = Headers::new();
    for (name, value) in [("A", "1"), ("B", "2"), ("a", "3\"")] {
        headers.append(name, value).unwrap();
    }
    let mut delivery = Delivery::new(Subject::from_static("a.b"), headers, payload.into());
    delivery.position = position.map(Into::into);
    Event::Delivery(Arc::new(delivery))
}

#[tokio::test]
async fn what_is_ready_is_written_together_and_the_end_is_told() {
    let room = Room::new();
    let events = [
        Ok(delivery("{\"x\":\r\n1}", Some("p\n1"))),
        Ok(Event::Gap { lost: std::num::NonZeroU64::new(3) }),
        Ok(delivery("text", None)),
    ];
    let mut body = room.body(stream::iter(events), false);
    assert_eq!(room.meters.streams.get(), 1);
    assert_eq!(next(&mut body).await.unwrap(), ": open\n\n");
    let headers = r#""headers":{"A":["1","3\""],"B":"2"}"#;
    let expected = format!(
        "event: message\nid: cAox\ndata: {{\"subject\":\"a.b\",{headers},\"payload\":{{\"x\":  1}}}}\n\n\
         event: gap\ndata: {{\"lost\":3}}\n\n\
         event: message\ndata: {{\"subject\":\"a.b\",{headers},\"payload_base64\":\"dGV4dA==\"}}\n\n\
         event: end\ndata: {{}}\n\n"
    );
    assert_eq!(next(&mut body).await.unwrap(), expected);
    assert_eq!((next(&mut body).await, room.meters.streams.get()), (None, 0));
}

/// A stream of a configured route that is filtered by `/t`.
fn filtered(
    room: &Room,
    events: impl futures_util::Stream<Item = Result<Event, Error>> + Send + 'static,
) -> Body {
    use crate::rest::table::{Found, Table};
    use crate::rest::{FormSettings, RouteSettings};

    let route = RouteSettings {
        name: "r".into(),
        method: "GET".into(),
        path: "/e".into(),
        summary: None,
        operation: Some(contract::Operation::Subscribe),
        subject: Some("a.>".into()),
        body: "passed".into(),
        headers: Vec::new(),
        tenant_from: Vec::new(),
        tenant_required: false,
        answer: "whole".into(),
        status: None,
        errors: Some("f".into()),
        filter: vec!["/t".into()],
        filter_value: Some("query:t".into()),
        event_name: Some("/type".into()),
        event_data: Some("/data".into()),
    };
    let form = FormSettings {
        name: "f".into(),
        body: "{\"error\":\n\"{code}\",\"t\":{query:t}}".into(),
        headers: Vec::new(),
        codes: Vec::new(),
    };
    let table = Arc::new(Table::new(&[route], &[form], "t", &[]).unwrap());
    let Ok(Found::Route(route, _)) = table.find(&hyper::Method::GET, "/e") else { panic!("it is there") };
    let manner = Manner { route, filter: Some("x".into()), sent: Sent::example(table, "t=x") };
    let hall = Hall {
        drain: &room.drain,
        keep_alive: Duration::from_secs(15),
        budget: &room.budget,
        meters: &room.meters,
    };
    let stream = DeliveryStream::new(events);
    let manner = Some(Box::new(manner));
    Events::respond(stream, Of::Subscription, &TraceContext::start(), &hall, manner).into_body()
}

#[tokio::test]
async fn what_is_held_back_leaves_no_trace_and_what_passes_has_its_shape() {
    let room = Room::new();
    let held = |payload| Ok(delivery(payload, None));
    let mut events = vec![
        held(r#"{"t":"y","type":"secret"}"#),
        held("no JSON"),
        Ok(Event::Gap { lost: std::num::NonZeroU64::new(3) }),
        held("{\"t\":\"x\",\"type\":\"made\",\"data\":{\"a\":\n1}}"),
        held(r#"{"t":"x","type":"two\nlines"}"#),
    ];
    // More than are looked at in one turn.
    events.extend((0..1000).map(|_| held(r#"{"t":"y"}"#)));
    events.push(held(r#"{"t":"x","type":"last","data":null}"#));
    events.push(Err(Error::new(Kind::SlowConsumer, "too slow")));
    let mut body = filtered(&room, stream::iter(events));
    let mut text = String::new();
    while let Some(more) = next(&mut body).await {
        text.push_str(&more);
    }
    let expected = ": open\n\nevent: gap\ndata: {\"lost\":null}\n\n\
         event: made\ndata: {\"a\": 1}\n\nevent: message\ndata: null\n\nevent: last\ndata: null\n\n\
         event: error\ndata: {\"error\": \"slow_consumer\",\"t\":\"x\"}\n\n";
    assert_eq!(text, expected);
    assert_eq!(room.meters.streams.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_is_no_sign_of_life() {
    let room = Room::new();
    let held = stream::unfold((), async |()| {
        sleep(Duration::from_secs(1)).await;
        Some((Ok(delivery(r#"{"t":"y"}"#, None)), ()))
    });
    let mut body = filtered(&room, held);
    next(&mut body).await;
    let began = Instant::now();
    assert_eq!(next(&mut body).await.unwrap(), ": keep-alive\n\n");
    assert_eq!(began.elapsed().as_secs(), 15);
}

#[tokio::test]
async fn who_comes_back_is_told_of_a_gap_first() {
    let room = Room::new();
    let mut body = room.body(stream::pending(), true);
    assert_eq!(next(&mut body).await.unwrap(), ": open\n\nevent: gap\ndata: {\"lost\":null}\n\n");
    drop(body);
    assert_eq!(room.meters.streams.get(), 0);
}

#[tokio::test]
async fn a_failure_is_the_last_event() {
    let room = Room::new();
    let failed =
        contract::Failed { body: "{\n}".into(), code: "x".into(), http: 418, grpc: 2, counts: false };
    let mut body = room.body(stream::iter([Err(Error::failed(failed, "no"))]), false);
    next(&mut body).await;
    let event = next(&mut body).await.unwrap();
    let data = event.strip_prefix("event: error\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
    assert!(!data.contains('\n'), "{data}");
    let document: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!((&document["kind"], &document["status"]), (&"failed".into(), &418.into()));
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_comments() {
    let room = Room::new();
    let mut body = room.body(stream::pending(), false);
    next(&mut body).await;
    let began = Instant::now();
    for _ in 0..2 {
        assert_eq!(next(&mut body).await.unwrap(), ": keep-alive\n\n");
    }
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn a_stopping_gateway_says_goodbye_and_when_to_come_back() {
    let room = Room::new();
    let mut body = room.body(stream::pending(), false);
    next(&mut body).await;
    room.drain.begin();
    let goodbye = next(&mut body).await.unwrap();
    assert!(goodbye.starts_with("retry: ") && goodbye.contains("\"kind\":\"draining\""), "{goodbye}");
    assert_eq!((next(&mut body).await, room.meters.streams.get()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn streams_are_told_goodbye_one_after_another() {
    let room = Room { drain: Drain::spread_over(Duration::from_secs(2)), ..Room::new() };
    // So many that the drain takes all of its time.
    (0..1000).for_each(|_| room.drain.track(room.drain.leave()));
    let mut bodies: Vec<Body> = (0..20).map(|_| room.body(stream::pending(), false)).collect();
    for body in &mut bodies {
        next(body).await;
    }
    let began = Instant::now();
    room.drain.begin();
    let told = bodies.iter_mut().map(async |body| {
        assert!(next(body).await.unwrap().starts_with("retry: "));
        began.elapsed()
    });
    let mut told: Vec<Duration> = futures_util::future::join_all(told).await;
    told.sort();
    assert!(told[0] < told[19] && told[19] <= Duration::from_millis(2001), "{told:?}");
}

#[tokio::test]
async fn while_memory_is_short_messages_are_written_one_by_one() {
    let room = Room::new();
    room.budget.set_marks(contract::Marks { short: 50, low: 70, high: 85 });
    let mut body = room.body(stream::iter([(); 6].map(|()| Ok(delivery("text", None)))), false);
    assert_eq!(next(&mut body).await.unwrap(), ": open\n\n");
    let charge = room.budget.charge_always(room.budget.short_bytes());
    let messages = |text: String| text.matches("event: message\n").count();
    for _ in 0..2 {
        assert_eq!(messages(next(&mut body).await.unwrap()), 1);
    }
    drop(charge);
    assert_eq!(messages(next(&mut body).await.unwrap()), 4);
}
