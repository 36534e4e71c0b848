//! A request that was sent and is not answered yet: dropping it says so to its responder.
//!
//! By the link that the request went by, or the one would overtake the other. Dropping cannot wait, and need not:
//! a link that takes nothing at once is in trouble of which a cancelled request is the least.

use std::sync::Arc;

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::task::unconstrained;

use super::counts::Counts;
use super::link::Link;
use crate::backend::cancel::{Cancel, Reason};
use crate::backend::replies::Responder;

/// Publishes its cancel message when it is dropped, unless it was [disarmed](Self::disarm).
pub(super) struct GivenUp {
    pub(super) link: Arc<Link>,
    pub(super) counts: Arc<Counts>,
    pub(super) cancel: Option<Cancel>,
}

impl GivenUp {
    /// The request is over: there is nothing to say.
    pub(super) fn disarm(mut self) {
        self.cancel = None;
    }
}

impl Responder for GivenUp {
    fn settle(self) {
        self.disarm();
    }

    fn give_up(mut self, reason: Option<Reason>) {
        if let (Some(cancel), Some(reason)) = (&mut self.cancel, reason) {
            cancel.because(reason);
        }
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        let Some(cancel) = self.cancel.take() else { return };
        let mut headers = HeaderMap::new();
        cancel.visit(|name, value| {
            if let Ok(value) = value.parse::<HeaderValue>() {
                headers.append(HeaderName::from_static(name), value);
            }
        });
        let subject = cancel.subject.to_bytes().try_into().expect("a subject is UTF-8");
        let message = OutboundMessage { subject, reply: None, payload: Bytes::new(), headers: Some(headers) };
        let sent = unconstrained(self.link.publish(message)).now_or_never();
        let counter = match sent {
            Some(Ok(())) => &self.counts.cancels,
            Some(Err(_)) | None => &self.counts.cancels_failed,
        };
        counter.increment();
    }
}
