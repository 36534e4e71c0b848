//! A stream as Server-Sent Events (WHATWG HTML, section 9.2).
//!
//! | event | data |
//! |---|---|
//! | `message` | `{"subject":…,"headers":{…},"payload":…}`; `id:` is the position, where there is one |
//! | `gap` | `{"lost":n}`, or `null` when nobody can know how many |
//! | `end` | `{}`: the stream is complete |
//! | `error` | a problem document: the stream is over |
//!
//! Nothing is queued here: an event is taken from the stream only when hyper has room for it, so a slow reader
//! fills its own bounded queue behind the stream and no other.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::{
    ByteBudget, Delivery, DeliveryStream, DoorMeters, Drain, Error, Event, Headers, Kind, TraceContext,
};
use futures_util::Stream as _;
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::time::{Instant, Sleep, sleep};

use crate::payload::{Payload, one_line};
use crate::problem;
use crate::rest::exchange::Sent;
use crate::rest::table::Route;
use wire::charged::charged;

/// The media type.
pub(crate) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
/// Events that are ready are written together up to this many bytes.
const BATCH_BYTES: usize = 16 * 1024;
/// Messages that are looked at before others get their turn: one that is held back adds no bytes.
const BATCH_MESSAGES: usize = 256;

/// The body of an answer that is a stream.
pub(crate) struct Events {
    stream: Option<DeliveryStream>,
    of: Of,
    leave: Pin<Box<dyn Future<Output = ()> + Send>>,
    drain: Drain,
    keep_alive: Duration,
    quiet: Pin<Box<Sleep>>,
    opening: Option<Bytes>,
    trace: TraceContext,
    budget: ByteBudget,
    meters: Arc<DoorMeters>,
    manner: Option<Box<Manner>>,
}

/// How a configured route wants its events.
pub(crate) struct Manner {
    pub(crate) route: Arc<Route>,
    /// The text that messages must have to pass.
    pub(crate) filter: Option<String>,
    /// The request, for the form of an error.
    pub(crate) sent: Sent,
}

/// What a stream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// A subscription.
    Subscription,
    /// A subscription whose client has been here before: what it missed nobody knows.
    Resumed,
    /// A request, whose answer is finished when the gateway stops.
    Request,
}

/// What a stream of events needs of its door.
#[derive(Debug)]
pub(crate) struct Hall<'a> {
    pub(crate) drain: &'a Drain,
    pub(crate) keep_alive: Duration,
    pub(crate) budget: &'a ByteBudget,
    pub(crate) meters: &'a Arc<DoorMeters>,
}

impl Events {
    /// The answer over `stream`. Its head goes out at once, with a comment, so that a client knows that it is there.
    pub(crate) fn respond(
        stream: DeliveryStream,
        of: Of,
        trace: &TraceContext,
        hall: &Hall<'_>,
        manner: Option<Box<Manner>>,
    ) -> Response {
        let mut opening = String::from(": open\n\n");
        if of == Of::Resumed {
            gap(&mut opening, None);
        }
        hall.meters.streams.add(1);
        let events = Self {
            stream: Some(stream),
            of,
            leave: Box::pin(hall.drain.leave()),
            drain: hall.drain.clone(),
            keep_alive: hall.keep_alive,
            quiet: Box::pin(sleep(hall.keep_alive)),
            opening: Some(opening.into()),
            trace: trace.clone(),
            budget: hall.budget.clone(),
            meters: Arc::clone(hall.meters),
            manner,
        };
        let mut response = Response::new(Body::new(events));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, EVENT_STREAM);
        problem::plain(headers);
        // Nginx and those who learned from it hold answers back otherwise.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        response
    }

    /// Ends the stream: all it holds is given back now, not when the peer has read the last event.
    fn end(&mut self) {
        if self.stream.take().is_some() {
            self.meters.streams.add(-1);
        }
    }

    /// Writes what is ready, at most a batch.
    fn take(&mut self, context: &mut Context<'_>, text: &mut String) {
        for _ in 0..BATCH_MESSAGES {
            if text.len() >= self.budget.room(BATCH_BYTES) {
                return;
            }
            let Some(stream) = &mut self.stream else { return };
            match Pin::new(stream).poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(Event::Delivery(delivery)))) => match &self.manner {
                    Some(manner) => manner.message(text, &delivery),
                    None => message(text, &delivery),
                },
                Poll::Ready(Some(Ok(Event::Gap { lost }))) => {
                    // How many of those lost would have passed nobody can know.
                    let known = self.manner.as_ref().is_none_or(|manner| manner.filter.is_none());
                    gap(text, lost.filter(|_| known).map(u64::from));
                }
                Poll::Ready(Some(Err(error))) => {
                    self.end();
                    self.fail(text, &error);
                }
                Poll::Ready(None) => {
                    self.end();
                    text.push_str("event: end\ndata: {}\n\n");
                }
            }
        }
        // There may be more, which nobody else would wake us for.
        context.waker().wake_by_ref();
    }

    /// Tells an error in the form that the route wants.
    fn fail(&self, text: &mut String, error: &Error) {
        let formed = self.manner.as_ref().and_then(|manner| {
            let form = manner.route.form.as_ref()?;
            Some(form.line(error, &self.trace, &manner.route.endpoint, &manner.sent))
        });
        match formed {
            Some(document) => {
                let _ = write!(text, "event: error\ndata: {document}\n\n");
            }
            None => failure(text, error, &self.trace),
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.end();
    }
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(Ok(Frame::data(opening))));
        }
        if self.stream.is_none() {
            return Poll::Ready(None);
        }
        let mut text = String::new();
        if self.of != Of::Request && self.leave.as_mut().poll(context).is_ready() {
            self.end();
            let wait = self.drain.retry_after();
            let _ = write!(text, "retry: {}\n\n", wait.as_millis());
            let error = Error::new(Kind::Draining, "the gateway is stopping; connect again");
            self.fail(&mut text, &error.with_retry_after(wait));
        } else {
            self.take(context, &mut text);
        }
        if text.is_empty() {
            // What was held back is no sign of life to the reader.
            ready!(self.quiet.as_mut().poll(context));
            text.push_str(": keep-alive\n\n");
        }
        let next = Instant::now() + self.keep_alive;
        self.quiet.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(charged(text.into(), &self.budget)))))
    }
}

fn message(text: &mut String, delivery: &Delivery) {
    text.push_str("event: message\n");
    identify(text, delivery);
    data(text, delivery);
}

fn identify(text: &mut String, delivery: &Delivery) {
    if let Some(position) = &delivery.position {
        text.push_str("id: ");
        URL_SAFE_NO_PAD.encode_string(position, text);
        text.push('\n');
    }
}

fn data(text: &mut String, delivery: &Delivery) {
    text.push_str("data: {\"subject\":");
    quote(text, delivery.subject.as_str());
    if !delivery.headers.is_empty() {
        text.push_str(",\"headers\":");
        headers(text, &delivery.headers);
    }
    Payload::of(&delivery.payload).append(text);
    text.push_str("}\n\n");
}

impl Manner {
    /// Writes a message that passes, in the route's shape.
    fn message(&self, text: &mut String, delivery: &Delivery) {
        let Some(shape) = &self.route.shape else { return message(text, delivery) };
        if !shape.passes(delivery, self.filter.as_deref()) {
            return;
        }
        let _ = writeln!(text, "event: {}", shape.name(delivery));
        identify(text, delivery);
        match shape.data(delivery) {
            Some(data) => {
                text.push_str("data: ");
                one_line(text, data);
                text.push_str("\n\n");
            }
            None => data(text, delivery),
        }
    }
}

/// An object: each name once, its value a text, or a list of texts where it stands more than once.
fn headers(text: &mut String, headers: &Headers) {
    let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    let mut before = "{";
    for (at, (name, _)) in headers.iter().enumerate() {
        if headers.iter().take(at).any(|(earlier, _)| same(earlier, name)) {
            continue;
        }
        text.push_str(before);
        before = ",";
        quote(text, name);
        text.push(':');
        let values: Vec<&str> =
            headers.iter().filter(|(other, _)| same(other, name)).map(|(_, value)| &**value).collect();
        match values[..] {
            [value] => quote(text, value),
            _ => text.push_str(&serde_json::to_string(&values).expect("a list of texts can be written")),
        }
    }
    text.push('}');
}

fn gap(text: &mut String, lost: Option<u64>) {
    let lost = lost.map_or_else(|| "null".to_owned(), |lost| lost.to_string());
    let _ = write!(text, "event: gap\ndata: {{\"lost\":{lost}}}\n\n");
}

fn failure(text: &mut String, error: &Error, trace: &TraceContext) {
    let document = problem::document(error, problem::status(error), Some(trace));
    // A backend's JSON body stands in the document as it came.
    let document = document.replace(['\r', '\n'], " ");
    let _ = write!(text, "event: error\ndata: {document}\n\n");
}

fn quote(text: &mut String, what: &str) {
    text.push_str(&serde_json::to_string(what).expect("a text can be written"));
}

#[cfg(test)]
mod tests {
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
}
