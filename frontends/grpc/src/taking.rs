//! An answer on its way to a client, given out piece by piece, and who among them waits too long for its client.
//!
//! HTTP/2 lets a client keep the window of a stream shut for as long as it likes (RFC 9113, section 5.2), with an
//! answer waiting behind it while the connection itself is alive and answers pings. hyper asks a body for more only
//! when there is room, so what waits cannot look at a clock: the connection does it for all of them, by counting
//! since which turn of its clock they wait. Two counters for what may wait and one for what must be empty cost an
//! answer a few atomic steps, and neither a timer nor a lock.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use contract::ByteBudget;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;
use tonic::body::Body;
use wire::charged::charged;

use crate::pulse::Answering;

/// Bytes of a piece: the least that a client must take in the time for it. A larger one would end slow clients that
/// do take something.
const PIECE_BYTES: usize = 64 * 1024;
/// What has waited since this turn and the one before may wait; what began earlier may not.
const TURNS: usize = 3;

/// The answers of one connection that wait for their client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Takings(Arc<Turns>);

#[derive(Debug, Default)]
struct Turns {
    now: AtomicUsize,
    waiting: [AtomicUsize; TURNS],
}

/// Something that waits for its client, until it is dropped.
#[derive(Debug)]
struct Waits {
    turns: Arc<Turns>,
    since: usize,
}

impl Takings {
    fn wait(&self) -> Waits {
        let since = self.0.now.load(Ordering::Relaxed) % TURNS;
        self.0.waiting[since].fetch_add(1, Ordering::Relaxed);
        Waits { turns: Arc::clone(&self.0), since }
    }

    /// Resolves when something has waited for `timeout`; after twice that at the latest.
    pub(crate) async fn stalled(&self, timeout: Duration) {
        loop {
            tokio::time::sleep(timeout).await;
            let next = self.0.now.load(Ordering::Relaxed) + 1;
            if self.0.waiting[next % TURNS].load(Ordering::Relaxed) > 0
                || self.0.waiting[(next + 1) % TURNS].load(Ordering::Relaxed) > 0
            {
                break;
            }
            self.0.now.store(next, Ordering::Relaxed);
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.turns.waiting[self.since].fetch_sub(1, Ordering::Relaxed);
    }
}

/// A piece that hyper holds until it is written.
struct Piece {
    bytes: Bytes,
    _waits: Waits,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

pin_project! {
    /// A body that keeps its connection busy until it is written, and whose bytes are counted until they are gone.
    pub(crate) struct Taking {
        #[pin]
        body: Body,
        // Of the last thing that the body gave, what was not given on.
        rest: Bytes,
        budget: ByteBudget,
        takings: Takings,
        // While hyper has no room for more. From the start: it asks once there is.
        waits: Option<Waits>,
        _answering: Answering,
    }
}

impl Taking {
    pub(crate) fn new(body: Body, budget: ByteBudget, takings: Takings, answering: Answering) -> Self {
        let waits = Some(takings.wait());
        Self { body, rest: Bytes::new(), budget, takings, waits, _answering: answering }
    }
}

impl HttpBody for Taking {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        *this.waits = None;
        if this.rest.is_empty() {
            let frame = match std::task::ready!(this.body.poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => *this.rest = charged(data, this.budget),
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        let bytes = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        let piece = Piece { bytes, _waits: this.takings.wait() };
        *this.waits = Some(this.takings.wait());
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() { self.body.size_hint() } else { SizeHint::new() }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_noticed_within_twice_the_time() {
        for late in [0, 1, 500, 999] {
            let (takings, start) = (Takings::default(), Instant::now());
            let waiting = async {
                tokio::time::sleep(Duration::from_millis(3000 + late)).await;
                let waits = takings.wait();
                tokio::time::sleep(Duration::from_mins(1)).await;
                drop(waits);
            };
            tokio::select! {
                () = takings.stalled(SECOND) => {}
                () = waiting => panic!("it was not noticed"),
            }
            let waited = start.elapsed().saturating_sub(Duration::from_millis(3000 + late));
            assert!((SECOND..=2 * SECOND).contains(&waited), "after {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_in_time_is_left_alone() {
        let takings = Takings::default();
        let taking = async {
            for _ in 0..100 {
                let waits = takings.wait();
                tokio::time::sleep(Duration::from_millis(900)).await;
                drop(waits);
            }
        };
        tokio::select! {
            () = takings.stalled(SECOND) => panic!("each was taken in time"),
            () = taking => {}
        }
    }
}
