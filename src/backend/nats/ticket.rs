//! A ticket: one slot of an inbox, from the request to its reply or its end.
//!
//! Whoever waits holds it, and dropping it is all there is to giving the slot back, so that no way of ending a
//! request can forget to.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use async_nats::Message;
use bytes::Bytes;

use super::inbox::{Fault, INDEX_BITS, Inbox, Phase, Purpose, lock};
use super::reply_id::{self, ID_LEN};

/// A slot taken: resolves to the reply, and gives the slot back when dropped.
pub(super) struct Ticket {
    pub(super) inbox: Arc<Inbox>,
    pub(super) purpose: Purpose,
    pub(super) index: u32,
    pub(super) generation: u64,
}

impl Ticket {
    /// From now on the acknowledgement of a stream is no reply.
    pub(super) fn skip_acknowledgements(&self) {
        lock(&self.inbox.slot(self.index).0).skips_acknowledgements = true;
    }

    /// The subject to reply to: one allocation of its exact size.
    pub(super) fn reply_subject(&self) -> Bytes {
        let mut subject = Vec::with_capacity(self.inbox.stem.len() + ID_LEN);
        subject.extend_from_slice(&self.inbox.stem);
        subject.extend_from_slice(&reply_id::encode(self.generation << INDEX_BITS | u64::from(self.index)));
        subject.into()
    }
}

impl Future for Ticket {
    type Output = Result<Message, Fault>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut held = lock(&self.inbox.slot(self.index).0);
        match std::mem::replace(&mut held.phase, Phase::Told) {
            Phase::Waiting(waker) => {
                let waker = waker
                    .filter(|waker| waker.will_wake(context.waker()))
                    .unwrap_or_else(|| context.waker().clone());
                held.phase = Phase::Waiting(Some(waker));
                Poll::Pending
            }
            Phase::Answered(message) => Poll::Ready(Ok(*message)),
            Phase::Failed(fault) => Poll::Ready(Err(fault)),
            Phase::Told | Phase::Free => unreachable!("a ticket is not polled after it resolved"),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        {
            let mut held = lock(&self.inbox.slot(self.index).0);
            held.generation = (held.generation + 1) & (u64::MAX >> INDEX_BITS);
            held.subject = Bytes::new();
            held.skips_acknowledgements = false;
            held.phase = Phase::Free;
        }
        lock(&self.inbox.free).given_back.push(self.index);
        self.inbox.used_for(self.purpose).fetch_sub(1, Ordering::Relaxed);
    }
}
