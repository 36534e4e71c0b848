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
mod tests;
