//! The embedded backend: a broker inside this process, for the first five minutes and for tests.
//!
//! It is a real one: patterns, queue groups, request-reply, bounded queues and payloads, and it passes the
//! same conformance suite as NATS. What it does not have is anybody outside the process, so responders
//! attach in process ([`Embedded::respond`], [`Embedded::listen`]), and a demo may answer ([`demo`]).
//!
//! | file | holds |
//! |---|---|
//! | `broker` | who listens where, and the way of a message to them |
//! | `interest` | the table of patterns, and the choice among a queue group |
//! | `posted` | a message on its way, its headers built only when somebody looks |
//! | `mailbox` | the bounded queue of a subscription, which counts what it loses |
//! | `slot` | where the answer to a request arrives, or the many that are one |
//! | `subscription` | the receiving ends |
//! | `demo` | the responders and the ticker of the demo |

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use contract::{
    ByteBudget, DeliveryStream, Error, Headers, Kind, Message, Pattern, Reply, Request, Subject, Target,
};
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::broker::{Asked, Broker};
use self::slot::Waiting;
use crate::backend::cancel::Manner;
use crate::backend::{Backend, Health, Reading};

mod broker;
pub mod demo;
mod interest;
mod mailbox;
mod posted;
mod slot;
mod subscription;

pub use self::posted::Posted;
pub use self::slot::{NotTaken, ReplyHandle};
pub use self::subscription::{Attached, Incoming, Subscription};

/// The limits of the broker, and whether the demo answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest payload of a message or an answer, in bytes.
    pub payload_bytes_max: usize,
    /// How many unread messages a subscription keeps; at least 1.
    pub subscription_messages_max: usize,
    /// How many bytes of unread messages a subscription keeps. The newest message is kept whatever its size.
    pub subscription_bytes_max: usize,
    /// Whether the demo's responders and ticker are there.
    pub demo: bool,
    /// The time between two messages of the demo's ticker; at least a millisecond.
    pub tick: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            payload_bytes_max: 8 * 1024 * 1024,
            subscription_messages_max: 1024,
            // Eight of the largest messages.
            subscription_bytes_max: 64 * 1024 * 1024,
            demo: true,
            tick: Duration::from_secs(1),
        }
    }
}

/// The embedded backend. Cloning shares it; when the last clone is dropped, the demo stops.
#[derive(Clone, Debug)]
pub struct Embedded(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    broker: Broker,
    settings: Settings,
    stop: CancellationToken,
    /// The demo's responders stay as long as the backend.
    _demo: Vec<Attached>,
    _stop_when_dropped: DropGuard,
}

impl Embedded {
    /// Opens a broker.
    ///
    /// # Panics
    /// Outside a Tokio runtime, if the demo is asked for: its ticker is a task.
    pub fn open(settings: Settings) -> Self {
        let broker = Broker::new(settings);
        let stop = CancellationToken::new();
        let demo = if settings.demo { demo::attach(&broker, settings.tick, &stop) } else { Vec::new() };
        let guard = stop.clone().drop_guard();
        Self(Arc::new(Opened { broker, settings, stop, _demo: demo, _stop_when_dropped: guard }))
    }

    /// Listens on `pattern`, reserved subjects included. Of the members of a `queue` one gets a message. Ends
    /// when dropped.
    pub fn listen(&self, pattern: Pattern, queue: Option<&str>) -> Subscription {
        self.0.broker.listen(pattern, queue)
    }

    /// Answers what comes on `pattern` with `answer`, run in the task of whoever asks: it must not block. With
    /// `None` it leaves the request unanswered, or to whom it gave [`Posted::reply`]. A panic in it is
    /// that request's `internal`. Ends when what is returned is dropped.
    pub fn respond<F>(&self, pattern: Pattern, queue: Option<&str>, answer: F) -> Attached
    where
        F: Fn(&Posted<'_>) -> Option<Message> + Send + Sync + 'static,
    {
        self.0.broker.respond(pattern, queue, answer)
    }

    /// Publishes as a party inside the process: on any subject, with these headers as they are. `too_large`
    /// if the payload is, `unavailable` after [`Backend::close`].
    pub fn publish(&self, subject: &Subject, headers: &Headers, payload: &Bytes) -> Result<(), Error> {
        self.0.broker.publish(&Posted::ready(subject, headers, payload))
    }
}

impl Backend for Embedded {
    type Answer = Answer;

    /// The message is handed on within the call, so that the order of calls is the order of messages; only
    /// the wait for an answer is the future's.
    fn call_as(&self, request: Request, manner: Manner) -> Answer {
        let broker = &self.0.broker;
        Answer(match &request.target {
            Target::Publish(subject) => {
                let accepted = broker.publish(&Posted::of(subject, &request));
                State::Ready(Some(accepted.map(|()| Reply::Accepted)))
            }
            Target::Request(subject) => match broker.request(subject, &request, manner) {
                Asked::Answered(answer) => State::Ready(Some(answer.map(Reply::Message))),
                Asked::Waiting(waiting) => State::Waiting(waiting),
                Asked::Many(reader) => State::Many(Box::pin(reader.answer())),
            },
            Target::Subscribe(pattern) => {
                let deliveries = broker.deliveries(pattern.clone());
                State::Ready(Some(deliveries.map(|events| Reply::Stream(DeliveryStream::new(events)))))
            }
            Target::Task(_) => {
                let error = Error::new(Kind::Internal, "a task reached the backend without a subject");
                State::Ready(Some(Err(error.with_outcome(contract::Outcome::NotSent))))
            }
        })
    }

    fn charge_to(&self, memory: &ByteBudget) {
        self.0.broker.memory().charge_to(memory);
    }

    fn health(&self) -> Health {
        let open = self.0.broker.is_open();
        let settings = &self.0.settings;
        let reason = match (open, settings.demo) {
            (false, _) => "the embedded broker is closed",
            (true, true) => {
                "no NATS is configured: the demo broker in this process answers; set NATS_URL for real services"
            }
            (true, false) => {
                "no NATS is configured: the broker in this process has only responders of this process"
            }
        };
        let meters = self.0.broker.meters();
        Health {
            kind: "embedded",
            reachable: open,
            reasons: vec![reason.to_owned()],
            facts: json!({
                "demo": settings.demo,
                "payload_bytes_max": settings.payload_bytes_max,
                "subscriptions": meters.subscriptions.get(),
                "requests_waiting": meters.waiting.get(),
            }),
        }
    }

    fn readings(&self) -> Vec<Reading> {
        let mut readings = self.0.broker.readings();
        readings.push(Reading {
            name: "ipc_gateway_embedded_demo",
            help: "1 if the demo answers because no NATS is configured",
            counter: false,
            labels: Vec::new(),
            value: f64::from(u8::from(self.0.settings.demo)),
        });
        readings
    }

    /// Refuses what comes from now on, and ends every subscription after what it has unread.
    async fn close(&self) {
        self.0.stop.cancel();
        self.0.broker.close();
    }
}

/// The future of an answer.
pub struct Answer(State);

enum State {
    Ready(Option<Result<Reply, Error>>),
    Waiting(Waiting),
    Many(Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>),
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match &self.0 {
            State::Ready(_) => "Ready",
            State::Waiting(_) => "Waiting",
            State::Many(_) => "Many",
        })
    }
}

impl Future for Answer {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(answer) => Poll::Ready(answer.take().expect("a future is not polled after its end")),
            State::Waiting(waiting) => Pin::new(waiting).poll(context).map(|answer| {
                let Message { headers, payload } = answer?;
                super::incoming::reply(headers, payload).map(Reply::Message)
            }),
            State::Many(answer) => answer.as_mut().poll(context),
        }
    }
}
