//! The transport under one connection: counts its bytes, and ends it when its peer is too slow.
//!
//! Hyper knows one time for a head, which runs while a connection is idle too, and none for a peer that takes
//! nothing. So the two are kept here, where every byte passes: a read fails when a head that has begun is not
//! whole in time, a write fails when nothing could be written for too long. What hyper is told is then an
//! error of the transport, and it drops the connection with everything that belongs to it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use contract::DoorMeters;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use wire::attendant::Turn;
use wire::departure::Shared as Stream;

/// Where a connection is between requests; shared by its transport and whoever answers.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    phase: AtomicU8,
    writing: AtomicBool,
}

/// A head is being read.
const HEAD: u8 = 0;
/// A request is being answered.
const BUSY: u8 = 1;
/// The answer is given, nothing of the next request is here.
const IDLE: u8 = 2;
/// Another protocol has taken over, with times of its own.
const UPGRADED: u8 = 3;

impl Pulse {
    /// Of a connection that is new: its first head is awaited.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { phase: AtomicU8::new(HEAD), writing: AtomicBool::new(false) }))
    }

    /// A head is whole: a request is answered until the guard is dropped.
    pub(crate) fn answering(&self) -> Answering {
        self.0.phase.store(BUSY, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// Another protocol takes over.
    pub(crate) fn upgraded(&self) {
        self.0.phase.store(UPGRADED, Ordering::Relaxed);
    }

    /// Whether a request is being answered.
    pub(crate) fn is_answering(&self) -> bool {
        self.phase() == BUSY
    }

    /// Whether a request is being answered, or an answer written.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_answering() || self.0.writing.load(Ordering::Relaxed)
    }

    fn phase(&self) -> u8 {
        self.0.phase.load(Ordering::Relaxed)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Answering(Pulse);

impl Drop for Answering {
    fn drop(&mut self) {
        // Unless another protocol has taken over.
        let _ = self.0.0.phase.compare_exchange(BUSY, IDLE, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// A TCP stream with a pulse.
#[derive(Debug)]
pub(crate) struct Watched {
    stream: Stream,
    turn: Turn,
    pulse: Pulse,
    meters: Arc<DoorMeters>,
    header_timeout: Duration,
    write_timeout: Duration,
    /// When the head that has begun must be whole.
    head_due: Option<Pin<Box<Sleep>>>,
    /// When something must have been written.
    write_due: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    /// Watches `stream`; the time for its first head begins now.
    pub(crate) fn new(
        stream: Stream,
        turn: Turn,
        pulse: Pulse,
        meters: Arc<DoorMeters>,
        header_timeout: Duration,
        write_timeout: Duration,
    ) -> Self {
        let head_due = Some(Box::pin(sleep(header_timeout)));
        Self { stream, turn, pulse, meters, header_timeout, write_timeout, head_due, write_due: None }
    }

    /// Begins or checks the time for a head; `read` is whether bytes have just come.
    fn check_head(&mut self, context: &mut Context<'_>, read: bool) -> io::Result<()> {
        match self.pulse.phase() {
            HEAD => {}
            IDLE if read => {
                self.pulse.0.phase.store(HEAD, Ordering::Relaxed);
                self.head_due = Some(Box::pin(sleep_until(Instant::now() + self.header_timeout)));
            }
            _ => {
                self.head_due = None;
                return Ok(());
            }
        }
        let due = self.head_due.as_mut().is_some_and(|due| due.as_mut().poll(context).is_ready());
        if due {
            Err(io::Error::new(io::ErrorKind::TimedOut, "a request's head took too long"))
        } else {
            Ok(())
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
            self.pulse.0.writing.store(false, Ordering::Relaxed);
            if let Ok(bytes) = written {
                self.meters.sent_bytes_total.add(bytes as u64);
            }
            return Poll::Ready(written);
        }
        if self.pulse.phase() == UPGRADED {
            return Poll::Pending;
        }
        self.pulse.0.writing.store(true, Ordering::Relaxed);
        let timeout = self.write_timeout;
        let due = self.write_due.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(due.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.turn.asked(&polled);
        let bytes = buffer.filled().len() - before;
        self.meters.received_bytes_total.add(bytes as u64);
        // Also when bytes came: a byte at a time must not win more.
        self.check_head(context, bytes > 0)?;
        polled
    }
}

impl AsyncWrite for Watched {
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
