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

use super::given_up::GivenUp;
use super::inbox::{Fault, INDEX_BITS, Inbox, Phase, Purpose, lock};
use super::reply_id::{self, ID_LEN};
use crate::backend::replies::Replies;

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

    /// Has every reply brought to `replies`, from before the request is sent; the ticket is only held from then on.
    pub(super) fn bring_to(&self, replies: &Arc<Replies<GivenUp>>) {
        let mut held = lock(&self.inbox.slot(self.index).0);
        match held.phase {
            Phase::Waiting(_) => held.phase = Phase::Many(Arc::clone(replies)),
            // The connection ended in this moment.
            _ => replies.lose(),
        }
    }

    /// Why no reply can come any more.
    pub(super) fn fault(&self) -> Fault {
        match lock(&self.inbox.slot(self.index).0).phase {
            Phase::Failed(fault) => fault,
            _ => Fault::Lost,
        }
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
            Phase::Answered(kept) => Poll::Ready(Ok(kept.0)),
            Phase::Failed(fault) => Poll::Ready(Err(fault)),
            Phase::Told | Phase::Free | Phase::Many(_) => {
                unreachable!("a ticket is polled until it resolves, and not for many replies")
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // The queue of many replies is dropped when no lock is held any more.
        let _phase = {
            let mut held = lock(&self.inbox.slot(self.index).0);
            held.generation = (held.generation + 1) & (u64::MAX >> INDEX_BITS);
            held.subject = Bytes::new();
            held.skips_acknowledgements = false;
            std::mem::take(&mut held.phase)
        };
        lock(&self.inbox.free).given_back.push(self.index);
        self.inbox.used_for(self.purpose).fetch_sub(1, Ordering::Relaxed);
    }
}
