//! A transport that counts its bytes and watches what hyper does not: how long a client may say nothing at the
//! start, how long it may take nothing, and how many frames it sends that cost it nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use contract::{DoorMeters, Handshake};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::frames::{Frames, HELLO_BYTES};

/// How many calls a connection has; shared by its transport and whoever answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulse(Arc<Calls>);

#[derive(Debug, Default)]
struct Calls {
    open: AtomicUsize,
    total: AtomicUsize,
    undecided: AtomicUsize,
}

impl Pulse {
    /// A call is being answered until the guard is dropped.
    pub(crate) fn answering(&self) -> Answering {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.0.total.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// Of a call it is not known yet what comes of it, until the guard is dropped.
    pub(crate) fn deciding(&self) -> Deciding {
        self.0.undecided.fetch_add(1, Ordering::Relaxed);
        Deciding(self.clone())
    }

    /// Whether there is a call of which that is not known yet.
    pub(crate) fn is_deciding(&self) -> bool {
        self.0.undecided.load(Ordering::Relaxed) > 0
    }

    /// Whether a call is being answered.
    pub(crate) fn is_busy(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) > 0
    }

    /// Calls so far.
    pub(crate) fn total(&self) -> usize {
        self.0.total.load(Ordering::Relaxed)
    }
}

/// A call that is being answered.
#[derive(Debug)]
pub(crate) struct Answering(Pulse);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call whose answer has not begun.
#[derive(Debug)]
pub(crate) struct Deciding(Pulse);

impl Drop for Deciding {
    fn drop(&mut self) {
        self.0.0.undecided.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a transport allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) handshake_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) control_frames_per_second_max: u32,
}

/// A stream of bytes that is watched.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    meters: Arc<DoorMeters>,
    frames: Frames,
    heard_bytes: u64,
    /// When the client must have said hello.
    hello_due: Option<Pin<Box<Sleep>>>,
    handshake: Handshake,
    write_timeout: Duration,
    /// When something must have been written.
    write_due: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// Watches `stream`; the time for its hello begins now.
    pub(crate) fn new(stream: S, patience: Patience, meters: Arc<DoorMeters>, handshake: Handshake) -> Self {
        Self {
            stream,
            meters,
            frames: Frames::new(patience.control_frames_per_second_max),
            heard_bytes: 0,
            hello_due: Some(Box::pin(sleep(patience.handshake_timeout))),
            handshake,
            write_timeout: patience.write_timeout,
            write_due: None,
        }
    }

    /// Counts what was written, or looks how long nothing could be.
    fn settle_write(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            self.write_due = None;
            if let Ok(bytes) = written {
                self.meters.sent_bytes_total.add(bytes as u64);
            }
            return Poll::Ready(written);
        }
        let timeout = self.write_timeout;
        let due = self.write_due.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(due.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        self.meters.received_bytes_total.add(bytes as u64);
        if let Err(flood) = self.frames.see(&buffer.filled()[before..]) {
            self.meters.protocol_errors_total.increment();
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, flood)));
        }
        self.heard_bytes += bytes as u64;
        // Also when bytes came: a byte at a time must not win more.
        if self.heard_bytes >= HELLO_BYTES {
            self.hello_due = None;
            self.handshake.finish();
        } else if self.hello_due.as_mut().is_some_and(|due| due.as_mut().poll(context).is_ready()) {
            let late = io::Error::new(io::ErrorKind::TimedOut, "the client says nothing");
            return Poll::Ready(Err(late));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.settle_write(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.settle_write(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
