//! The broker: who listens, and the way of a message to them.
//!
//! A message is handed on in the task of its sender, within the call: so a sender's messages keep their
//! order in every queue, and an answer given in line needs no task at all.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use contract::{Counter, Error, Gauge, Headers, Kind, Message, Outcome, Pattern, Request, Subject};
use tokio::sync::Notify;

use super::Settings;
use super::interest::Interests;
use super::mailbox::{Letter, Mailbox};
use super::posted::Posted;
use super::slot::{Asker, Streamed, Terms, Waiting};
use super::subscription::{Attached, Deliveries, Subscription};
use crate::backend::cancel::{Cancel, Manner};
use crate::backend::memory::{Memory, no_room};
use crate::backend::replies::{Reader, Replies, ReplyBounds, ReplyMeters};
use crate::backend::{Reading, incoming};

/// The broker; cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Broker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    /// Read for a moment by each message, written by each subscription that comes or goes.
    interests: RwLock<Interests>,
    closed: AtomicBool,
    /// Told of every subscription that comes; for one waiter.
    subscribed: Notify,
    meters: Arc<Meters>,
    /// Answers of many messages.
    replies: Arc<ReplyMeters>,
    memory: Memory,
}

/// What became of a request.
pub(super) enum Asked {
    /// Answered within the call, or refused.
    Answered(Result<Message, Error>),
    /// The answer will arrive here.
    Waiting(Waiting),
    /// One or many will arrive here.
    Many(Reader<Streamed>),
}

impl Broker {
    pub(super) fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            settings,
            interests: RwLock::default(),
            closed: AtomicBool::new(false),
            subscribed: Notify::new(),
            meters: Arc::default(),
            replies: Arc::default(),
            memory: Memory::default(),
        }))
    }

    pub(super) fn is_open(&self) -> bool {
        !self.0.closed.load(Ordering::Acquire)
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.0.memory
    }

    pub(super) fn meters(&self) -> &Arc<Meters> {
        &self.0.meters
    }

    pub(super) fn readings(&self) -> Vec<Reading> {
        let mut readings = self.0.meters.readings();
        readings.extend(self.0.replies.readings());
        readings
    }

    pub(super) fn listen(&self, pattern: Pattern, queue: Option<&str>) -> Subscription {
        let mailbox = self.mailbox();
        let seat = self.seat(pattern, queue, Sink::Mailbox(Arc::clone(&mailbox)));
        Subscription::new(seat, mailbox)
    }

    pub(super) fn respond<F>(&self, pattern: Pattern, queue: Option<&str>, answer: F) -> Attached
    where
        F: Fn(&Posted<'_>) -> Option<Message> + Send + Sync + 'static,
    {
        Attached(self.seat(pattern, queue, Sink::Inline(Box::new(answer))))
    }

    /// A door's subscription; see [`Backend::call`](crate::backend::Backend::call).
    pub(super) fn deliveries(&self, pattern: Pattern) -> Result<Deliveries, Error> {
        self.check_open()?;
        if pattern.is_reserved() {
            return Err(Error::new(Kind::Denied, "the subject is reserved"));
        }
        let mailbox = self.mailbox();
        let seat = self.seat(pattern, None, Sink::Door(Arc::clone(&mailbox)));
        Ok(Deliveries::new(seat, mailbox))
    }

    fn mailbox(&self) -> Arc<Mailbox> {
        let Settings { subscription_messages_max, subscription_bytes_max, .. } = self.0.settings;
        Arc::new(Mailbox::new(subscription_messages_max, subscription_bytes_max))
    }

    fn seat(&self, pattern: Pattern, queue: Option<&str>, sink: Sink) -> Seat {
        let member = Arc::new(Member { queue: queue.map(Arc::from), sink });
        let mut interests = self.0.interests.write().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock, so that close() misses nobody.
        if self.is_open() {
            interests.add(&pattern, Arc::clone(&member));
        } else {
            member.close();
        }
        drop(interests);
        self.0.meters.subscriptions.add(1);
        self.0.subscribed.notify_one();
        Seat { broker: self.clone(), pattern, member: Some(member) }
    }

    /// Hands a message to all who listen; that nobody does is no error.
    pub(super) fn publish(&self, posted: &Posted<'_>) -> Result<(), Error> {
        self.check(posted)?;
        self.hand_out(posted, |answer| {
            if let Err(panic) = answer {
                tracing::error!(subject = %posted.subject(), panic = panic.text(), "a responder panicked");
            }
        });
        Ok(())
    }

    /// Tells that a request was given up.
    pub(super) fn tell(&self, cancel: &Cancel) {
        let mut headers = Headers::new();
        cancel.visit(|name, value| {
            headers.append_past_limits(name, value).expect("an id, a trace and a word are header values");
        });
        let told = self.publish(&Posted::ready(&cancel.subject, &headers, &Bytes::new()));
        let counter = if told.is_ok() { &self.0.meters.cancels } else { &self.0.meters.cancels_failed };
        counter.increment();
    }

    /// Hands a request to all who listen, and takes the first answer.
    pub(super) fn request(&self, subject: &Subject, request: &Request, manner: Manner) -> Asked {
        if let Some(bounds) = manner.replies {
            return self.request_many(subject, request, manner, bounds);
        }
        let (meters, skips) = (&self.0.meters, manner.skips_acknowledgements);
        let posted = Posted::of(subject, request).answerable(meters, self.terms(&manner, None));
        if let Err(refusal) = self.check(&posted) {
            return Asked::Answered(Err(refusal));
        }
        let mut first = None;
        let heard = self.hand_out(&posted, |answer| match answer {
            Ok(None) => {}
            Ok(Some(message)) if skips && incoming::is_acknowledgement(&message.payload) => {}
            _ if first.is_some() => meters.late_replies.increment(),
            Ok(Some(message)) => first = Some(self.accept(message)),
            Err(panic) => {
                first = Some(Err(panicked(&panic)));
            }
        });
        if let Some(answer) = first {
            // Whoever has taken the right to answer later, comes late.
            if let Some(handle) = posted.reply_if_taken() {
                handle.release();
            }
            return Asked::Answered(answer);
        }
        match posted.reply() {
            Some(handle) if heard => Asked::Waiting(handle.wait(self.asker(request, &posted, manner))),
            _ => Asked::Answered(Err(no_responders())),
        }
    }

    /// Hands a request to all who listen, and takes all that they answer, in line or later.
    fn request_many(
        &self,
        subject: &Subject,
        request: &Request,
        manner: Manner,
        bounds: ReplyBounds,
    ) -> Asked {
        let replies = Replies::new(bounds, manner.memory.clone());
        let payload_bytes_max = self.0.settings.payload_bytes_max;
        let skips = manner.skips_acknowledgements;
        let terms = self.terms(&manner, Some(Arc::clone(&replies)));
        let posted = Posted::of(subject, request).answerable(&self.0.meters, terms);
        if let Err(refusal) = self.check(&posted) {
            return Asked::Answered(Err(refusal));
        }
        let heard = self.hand_out(&posted, |answer| match answer {
            Ok(None) => {}
            Ok(Some(message)) if skips && incoming::is_acknowledgement(&message.payload) => {}
            Ok(Some(message)) if message.payload.len() > payload_bytes_max => replies.fail(too_large()),
            Ok(Some(message)) => {
                if !replies.push(message.headers, message.payload) {
                    self.0.meters.late_replies.increment();
                }
            }
            Err(panic) => replies.fail(panicked(&panic)),
        });
        match posted.reply() {
            Some(handle) if heard => {
                if let Some(asker) = self.asker(request, &posted, manner) {
                    replies.arm(asker);
                }
                let meters = Arc::clone(&self.0.replies);
                Asked::Many(Reader::new(replies, meters, subject.clone(), handle.read()))
            }
            _ => Asked::Answered(Err(no_responders())),
        }
    }

    fn terms(&self, manner: &Manner, replies: Option<Arc<Replies<Asker>>>) -> Terms {
        Terms {
            payload_bytes_max: self.0.settings.payload_bytes_max,
            memory: self.0.memory.clone(),
            skips_acknowledgements: manner.skips_acknowledgements,
            replies,
        }
    }

    fn asker(&self, request: &Request, posted: &Posted<'_>, manner: Manner) -> Option<Asker> {
        let cancel = Cancel::of(request, posted.id(), manner)?;
        Some(Asker { broker: self.clone(), cancel })
    }

    fn accept(&self, message: Message) -> Result<Message, Error> {
        if message.payload.len() > self.0.settings.payload_bytes_max {
            return Err(too_large());
        }
        if !self.0.memory.fits(message.payload.len()) {
            return Err(no_room());
        }
        incoming::reply(message.headers, message.payload)
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.is_open() { Ok(()) } else { Err(Error::new(Kind::Unavailable, "the broker is closed")) }
    }

    fn check(&self, posted: &Posted<'_>) -> Result<(), Error> {
        self.check_open()?;
        let (bytes, limit) = (posted.payload().len(), self.0.settings.payload_bytes_max);
        if bytes > limit {
            let text = format!("the payload has {bytes} bytes, and the broker takes {limit}");
            return Err(Error::new(Kind::TooLarge, text));
        }
        Ok(())
    }

    /// Whether anybody got the message. `answered` is told what each responder in line says to it.
    fn hand_out(
        &self,
        posted: &Posted<'_>,
        mut answered: impl FnMut(Result<Option<Message>, Panicked>),
    ) -> bool {
        self.0.meters.published.increment();
        let interests = self.0.interests.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = interests.snapshot(posted.subject());
        drop(interests);
        let put = |mailbox: &Mailbox, reply| {
            let delivery = posted.delivery();
            if let Some(budget) = self.0.memory.budget() {
                delivery.charge_to(budget);
            }
            let gone = mailbox.put(Letter { delivery, reply });
            self.0.meters.dropped.add(gone.unwrap_or(0));
            gone.is_some()
        };
        snapshot.hand_out(posted.subject(), |member| match &member.sink {
            Sink::Inline(answer) => {
                answered(catch_unwind(AssertUnwindSafe(|| answer(posted))).map_err(Panicked));
                true
            }
            Sink::Mailbox(mailbox) => put(mailbox, posted.reply()),
            Sink::Door(_) if posted.subject().is_reserved() => false,
            Sink::Door(mailbox) => put(mailbox, None),
        })
    }

    /// Whether anybody listens on `subject`.
    pub(super) fn is_heard(&self, subject: &Subject) -> bool {
        let interests = self.0.interests.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = interests.snapshot(subject);
        drop(interests);
        snapshot.hand_out(subject, |_| true)
    }

    /// Resolves when somebody has subscribed since the last time. For one waiter.
    pub(super) async fn subscribed(&self) {
        self.0.subscribed.notified().await;
    }

    pub(super) fn close(&self) {
        let mut interests = self.0.interests.write().unwrap_or_else(PoisonError::into_inner);
        self.0.closed.store(true, Ordering::Release);
        let members = interests.drain();
        drop(interests);
        for member in members {
            member.close();
        }
    }
}

fn no_responders() -> Error {
    Error::new(Kind::NoResponders, "nobody listens on the subject")
}

fn too_large() -> Error {
    let error = Error::new(Kind::Internal, "the answer is larger than the broker takes");
    error.with_outcome(Outcome::Done)
}

fn panicked(panic: &Panicked) -> Error {
    Error::new(Kind::Internal, "the responder in this process failed").with_cause(panic.text())
}

type Inline = Box<dyn Fn(&Posted<'_>) -> Option<Message> + Send + Sync>;

enum Sink {
    /// Answers in the task of who asks.
    Inline(Inline),
    /// Listens inside the process, and may answer.
    Mailbox(Arc<Mailbox>),
    /// A peer's stream: it cannot answer, and no reserved subject reaches it.
    Door(Arc<Mailbox>),
}

/// One who listens.
pub(super) struct Member {
    pub(super) queue: Option<Arc<str>>,
    sink: Sink,
}

impl Member {
    fn close(&self) {
        match &self.sink {
            Sink::Inline(_) => {}
            Sink::Mailbox(mailbox) | Sink::Door(mailbox) => mailbox.close(),
        }
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Member").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// A member's place among the listeners, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    broker: Broker,
    pattern: Pattern,
    member: Option<Arc<Member>>,
}

impl Seat {
    /// Gives the place back now.
    pub(super) fn leave(&mut self) {
        let Some(member) = self.member.take() else { return };
        let shared = &self.broker.0;
        let mut interests = shared.interests.write().unwrap_or_else(PoisonError::into_inner);
        interests.remove(&self.pattern, &member);
        drop(interests);
        shared.meters.subscriptions.add(-1);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What a responder panicked with.
struct Panicked(Box<dyn Any + Send>);

impl Panicked {
    fn text(&self) -> &str {
        let text = self.0.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| self.0.downcast_ref::<&'static str>().copied()).unwrap_or("a panic without a text")
    }
}

/// What the broker counts.
#[derive(Debug, Default)]
pub(super) struct Meters {
    /// Subscriptions and responders now.
    pub(super) subscriptions: Gauge,
    /// Requests that wait for an answer now.
    pub(super) waiting: Gauge,
    /// Messages and requests taken.
    pub(super) published: Counter,
    /// Messages lost because a subscription's queue was full.
    pub(super) dropped: Counter,
    /// Answers to requests that were answered or given up.
    pub(super) late_replies: Counter,
    /// Cancel messages handed on.
    pub(super) cancels: Counter,
    /// Cancel messages that came after the end.
    pub(super) cancels_failed: Counter,
}

impl Meters {
    fn readings(&self) -> Vec<Reading> {
        // Exact up to 2^53.
        #[expect(clippy::cast_precision_loss, reason = "a metric's value is a double by its format")]
        let gauge = |name, help, gauge: &Gauge| Reading {
            name,
            help,
            counter: false,
            labels: Vec::new(),
            value: gauge.get() as f64,
        };
        #[expect(clippy::cast_precision_loss, reason = "a metric's value is a double by its format")]
        let counter = |name, help, counter: &Counter| Reading {
            name,
            help,
            counter: true,
            labels: Vec::new(),
            value: counter.get() as f64,
        };
        vec![
            gauge(
                "ipc_gateway_embedded_subscriptions",
                "Subscriptions and responders of the embedded broker now",
                &self.subscriptions,
            ),
            gauge(
                "ipc_gateway_embedded_requests_waiting",
                "Requests that wait for an answer of the embedded broker's responders now",
                &self.waiting,
            ),
            counter(
                "ipc_gateway_embedded_messages_published_total",
                "Messages and requests that the embedded broker took",
                &self.published,
            ),
            counter(
                "ipc_gateway_embedded_messages_dropped_total",
                "Messages that a full subscription of the embedded broker lost",
                &self.dropped,
            ),
            counter(
                "ipc_gateway_embedded_late_replies_total",
                "Answers that came after the first one, or after the request was given up",
                &self.late_replies,
            ),
            counter(
                "ipc_gateway_embedded_cancels_total",
                "Cancel messages that the embedded broker took",
                &self.cancels,
            ),
            counter(
                "ipc_gateway_embedded_cancels_failed_total",
                "Cancel messages that came when the embedded broker was closed",
                &self.cancels_failed,
            ),
        ]
    }
}
