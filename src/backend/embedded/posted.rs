//! A message on its way through the broker. Its headers, and the shared delivery, are made when somebody
//! first looks: an echo that looks at neither costs neither.

use std::cell::OnceCell;
use std::sync::Arc;

use bytes::Bytes;
use contract::{Delivery, Headers, Request, Subject};

use super::broker::Meters;
use super::slot::{ReplyHandle, Terms};
use crate::backend::outgoing::{self, RequestId};

/// A payload up to here is copied when it goes into a queue: it is a slice of a door's read buffer, and would
/// keep all of it (some 64 KiB) as long as it is unread.
const SMALL_PAYLOAD_BYTES: usize = 4096;

/// A message as a responder sees it that runs in the task of whoever sends.
#[derive(Debug)]
pub struct Posted<'a> {
    subject: &'a Subject,
    payload: &'a Bytes,
    source: Source<'a>,
    id: OnceCell<RequestId>,
    headers: OnceCell<Headers>,
    delivery: OnceCell<Arc<Delivery>>,
    answer: Option<Answerable<'a>>,
}

#[derive(Debug)]
enum Source<'a> {
    Request(&'a Request),
    Ready(&'a Headers),
}

#[derive(Debug)]
struct Answerable<'a> {
    meters: &'a Arc<Meters>,
    terms: Terms,
    handle: OnceCell<ReplyHandle>,
}

impl<'a> Posted<'a> {
    /// A publish of a peer.
    pub(super) fn of(subject: &'a Subject, request: &'a Request) -> Self {
        Self::new(subject, &request.payload, Source::Request(request))
    }

    /// A publish from inside the process.
    pub(super) fn ready(subject: &'a Subject, headers: &'a Headers, payload: &'a Bytes) -> Self {
        Self::new(subject, payload, Source::Ready(headers))
    }

    fn new(subject: &'a Subject, payload: &'a Bytes, source: Source<'a>) -> Self {
        let (headers, delivery) = (OnceCell::new(), OnceCell::new());
        Self { subject, payload, source, id: OnceCell::new(), headers, delivery, answer: None }
    }

    /// Makes it a request: answers on these terms are awaited.
    pub(super) fn answerable(self, meters: &'a Arc<Meters>, terms: Terms) -> Self {
        Self { answer: Some(Answerable { meters, terms, handle: OnceCell::new() }), ..self }
    }

    /// The concrete subject.
    pub fn subject(&self) -> &Subject {
        self.subject
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        self.payload
    }

    /// The headers, the same that go out to NATS.
    pub fn headers(&self) -> &Headers {
        match self.source {
            Source::Ready(headers) => headers,
            Source::Request(request) => self.headers.get_or_init(|| {
                outgoing::list(request, &self.id()).unwrap_or_else(|reason| {
                    tracing::error!(%reason, "a message goes out without headers: one of them is none");
                    Headers::new()
                })
            }),
        }
    }

    /// The name of the message, drawn when it is first looked at.
    pub(super) fn id(&self) -> RequestId {
        *self.id.get_or_init(RequestId::random)
    }

    /// The right to answer later, if an answer is awaited.
    pub fn reply(&self) -> Option<ReplyHandle> {
        let answer = self.answer.as_ref()?;
        let make = || ReplyHandle::new(answer.meters, answer.terms.clone());
        Some(answer.handle.get_or_init(make).clone())
    }

    /// The right to answer, if somebody has taken it.
    pub(super) fn reply_if_taken(&self) -> Option<&ReplyHandle> {
        self.answer.as_ref()?.handle.get()
    }

    /// The message as a subscription keeps it, made once and shared.
    pub(super) fn delivery(&self) -> Arc<Delivery> {
        let make = || {
            let (subject, headers) = (self.subject.clone(), self.headers().clone());
            let payload = match self.payload.len() {
                0..=SMALL_PAYLOAD_BYTES => Bytes::copy_from_slice(self.payload),
                _ => self.payload.clone(),
            };
            Arc::new(Delivery::new(subject, headers, payload))
        };
        Arc::clone(self.delivery.get_or_init(make))
    }
}
