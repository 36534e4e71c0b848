//! How many calls a connection has, and what its client owes before the first: a hello in time, and no flood of frames
//! that cost it nothing. Hyper watches neither.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;
use std::time::Duration;

use contract::{DoorMeters, Handshake};
use tokio::time::{Sleep, sleep};
use wire::watched::Watch;

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

/// What the door watches on a transport: that its client says hello in time, and how many frames it sends that cost
/// it nothing.
#[derive(Debug)]
pub(crate) struct Hello {
    meters: Arc<DoorMeters>,
    frames: Frames,
    heard_bytes: u64,
    /// When the client must have said hello.
    due: Option<Pin<Box<Sleep>>>,
    handshake: Handshake,
}

impl Hello {
    /// Of a client that has connected just now and must say hello within `timeout`.
    pub(crate) fn new(
        timeout: Duration,
        control_frames_per_second_max: u32,
        meters: Arc<DoorMeters>,
        handshake: Handshake,
    ) -> Self {
        let frames = Frames::new(control_frames_per_second_max);
        Self { meters, frames, heard_bytes: 0, due: Some(Box::pin(sleep(timeout))), handshake }
    }
}

impl Watch for Hello {
    fn heard(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        if let Err(flood) = self.frames.see(bytes) {
            self.meters.protocol_errors_total.increment();
            return Err(io::Error::new(io::ErrorKind::InvalidData, flood));
        }
        self.heard_bytes += bytes.len() as u64;
        if self.heard_bytes >= HELLO_BYTES {
            self.due = None;
            self.handshake.finish();
        } else if self.due.as_mut().is_some_and(|due| due.as_mut().poll(context).is_ready()) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client says nothing"));
        }
        Ok(())
    }
}
