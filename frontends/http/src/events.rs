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

use crate::payload::Payload;
use crate::problem;
use wire::charged::charged;

/// The media type.
pub(crate) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
/// Events that are ready are written together up to this many bytes.
const BATCH_BYTES: usize = 16 * 1024;

/// The body of an answer that is a stream.
pub(crate) struct Events {
    stream: Option<DeliveryStream>,
    leave: Pin<Box<dyn Future<Output = ()> + Send>>,
    drain: Drain,
    keep_alive: Duration,
    quiet: Pin<Box<Sleep>>,
    opening: Option<Bytes>,
    trace: TraceContext,
    budget: ByteBudget,
    meters: Arc<DoorMeters>,
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
    /// The answer over `stream`. Its head goes out at once, with a comment, so that a client knows that it is
    /// subscribed. `resumed` is whether the client has been here before: what it missed nobody knows.
    pub(crate) fn respond(
        stream: DeliveryStream,
        resumed: bool,
        trace: &TraceContext,
        hall: &Hall<'_>,
    ) -> Response {
        let mut opening = String::from(": open\n\n");
        if resumed {
            gap(&mut opening, None);
        }
        hall.meters.streams.add(1);
        let events = Self {
            stream: Some(stream),
            leave: Box::pin(hall.drain.leave()),
            drain: hall.drain.clone(),
            keep_alive: hall.keep_alive,
            quiet: Box::pin(sleep(hall.keep_alive)),
            opening: Some(opening.into()),
            trace: trace.clone(),
            budget: hall.budget.clone(),
            meters: Arc::clone(hall.meters),
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
        while text.len() < self.budget.room(BATCH_BYTES) {
            let Some(stream) = &mut self.stream else { return };
            match Pin::new(stream).poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(Event::Delivery(delivery)))) => message(text, &delivery),
                Poll::Ready(Some(Ok(Event::Gap { lost }))) => gap(text, lost.map(u64::from)),
                Poll::Ready(Some(Err(error))) => {
                    self.end();
                    failure(text, &error, &self.trace);
                }
                Poll::Ready(None) => {
                    self.end();
                    text.push_str("event: end\ndata: {}\n\n");
                }
            }
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
        if self.leave.as_mut().poll(context).is_ready() {
            self.end();
            let wait = self.drain.retry_after();
            let _ = write!(text, "retry: {}\n\n", wait.as_millis());
            let error = Error::new(Kind::Draining, "the gateway is stopping; connect again");
            failure(&mut text, &error.with_retry_after(wait), &self.trace);
        } else {
            self.take(context, &mut text);
        }
        if text.is_empty() {
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
    if let Some(position) = &delivery.position {
        text.push_str("id: ");
        URL_SAFE_NO_PAD.encode_string(position, text);
        text.push('\n');
    }
    text.push_str("data: {\"subject\":");
    quote(text, delivery.subject.as_str());
    if !delivery.headers.is_empty() {
        text.push_str(",\"headers\":");
        headers(text, &delivery.headers);
    }
    Payload::of(&delivery.payload).append(text);
    text.push_str("}\n\n");
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
            Events::respond(stream, resumed, &TraceContext::start(), &hall).into_body()
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
