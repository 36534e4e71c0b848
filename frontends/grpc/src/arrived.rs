//! The bytes of a call's messages, charged to the memory budget as they arrive.
//!
//! What a length prefix promises is not charged, what is here is; so the count is made in the body, below the
//! decoder. A message that is decoded takes its share along, and what is left is given back with the call.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use contract::{ByteBudget, Charge, Error, Kind, TraceContext};
use hyper::body::{Body, Frame, SizeHint};
use tonic::Status;

use crate::status::Telling;

/// Bytes before each message: a flag and its length (gRPC over HTTP2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;
/// Bytes of a frame beyond the message that the decoder waits for: HTTP/2 frames have 16 KiB here.
const FRAME_BYTES: usize = 16 * 1024;

/// What has arrived of a call and is not answered yet.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    charge: Arc<Mutex<Charge>>,
    /// Whether a whole message was there.
    whole: Arc<AtomicBool>,
    budget: ByteBudget,
    bytes_max: usize,
}

impl Arrived {
    /// Nothing yet of a call whose messages have at most `message_bytes_max` bytes.
    pub(crate) fn new(budget: &ByteBudget, message_bytes_max: usize) -> Self {
        let nothing = Arc::new(Mutex::new(budget.charge_always(0)));
        let bytes_max = message_bytes_max + PREFIX_BYTES + FRAME_BYTES;
        Self { charge: nothing, whole: Arc::default(), budget: budget.clone(), bytes_max }
    }

    /// The share of a message of `bytes` bytes. A message that came compressed is larger than what arrived of it,
    /// and counts as what it is.
    pub(crate) fn take(&self, bytes: usize) -> Charge {
        self.whole.store(true, Ordering::Relaxed);
        // Before it is given back, so that nobody else takes it in between.
        let share = self.budget.charge_always(bytes);
        self.charge.lock().unwrap_or_else(PoisonError::into_inner).shrink(bytes + PREFIX_BYTES);
        share
    }

    /// Whether a message was taken, so that something may have come of the call.
    pub(crate) fn was_taken(&self) -> bool {
        self.whole.load(Ordering::Relaxed)
    }

    fn grow(&self, bytes: usize) -> bool {
        let mut charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = charge.grow_arriving(bytes);
        // The decoder reads on only while it lacks a whole message, so it never holds more. What is counted beyond
        // that are fields that nobody knows, dropped when their message was decoded.
        let beyond = charge.bytes().saturating_sub(self.bytes_max);
        charge.shrink(beyond);
        fits
    }
}

pin_project_lite::pin_project! {
    /// A body whose bytes are charged.
    pub(crate) struct Arriving<B> {
        #[pin]
        body: B,
        arrived: Arrived,
        telling: Telling,
    }
}

impl<B> Arriving<B> {
    pub(crate) fn new(body: B, arrived: Arrived, telling: Telling) -> Self {
        Self { body, arrived, telling }
    }
}

impl<B: Body<Data = Bytes, Error = Status>> Body for Arriving<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !this.arrived.grow(data.len())
        {
            let error = Error::new(Kind::Overloaded, "no memory for the message; try again later");
            return Poll::Ready(Some(Err(this.telling.status(&error, &TraceContext::start()))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    fn body(bytes: &'static [u8], arrived: &Arrived) -> impl Body<Data = Bytes, Error = Status> + Unpin {
        let whole = Full::new(Bytes::from_static(bytes)).map_err(|never| match never {});
        Arriving::new(whole, arrived.clone(), Telling { body_bytes_max: 0 })
    }

    #[tokio::test]
    async fn what_arrives_is_charged_and_goes_with_its_message() {
        let budget = ByteBudget::new(15);
        let arrived = Arrived::new(&budget, 100);
        body(b"prefx12345678", &arrived).frame().await.unwrap().unwrap();
        assert_eq!(budget.used(), 13);
        let share = arrived.take(6);
        assert_eq!((budget.used(), share.bytes()), (8, 6));
        // More than what always fits.
        let status = body(&[b'x'; contract::SMALL_BYTES], &arrived).frame().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable);
        drop(share);
        assert_eq!(budget.used(), 2);
        drop(arrived);
        assert_eq!(budget.used(), 0);
    }
}
