//! Where a connection is between its requests, and the time that each head has.
//!
//! Hyper knows one time for a head, which runs while a connection is idle too. So it is kept where every byte passes,
//! by what the transport is watched with: a read fails when a head that has begun is not whole in time.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::Context;
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use wire::watched::Watch;

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

/// What the door watches on a transport: the time of a request's head.
#[derive(Debug)]
pub(crate) struct Heads {
    pulse: Pulse,
    timeout: Duration,
    /// When the head that has begun must be whole.
    due: Option<Pin<Box<Sleep>>>,
}

impl Heads {
    /// Of a connection that is new; the time for its first head, at most `timeout`, begins now.
    pub(crate) fn new(pulse: Pulse, timeout: Duration) -> Self {
        Self { pulse, timeout, due: Some(Box::pin(sleep(timeout))) }
    }
}

impl Watch for Heads {
    /// Begins or checks the time for a head.
    fn heard(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        match self.pulse.phase() {
            HEAD => {}
            IDLE if !bytes.is_empty() => {
                self.pulse.0.phase.store(HEAD, Ordering::Relaxed);
                self.due = Some(Box::pin(sleep(self.timeout)));
            }
            _ => {
                self.due = None;
                return Ok(());
            }
        }
        let is_late = self.due.as_mut().is_some_and(|due| due.as_mut().poll(context).is_ready());
        if is_late {
            Err(io::Error::new(io::ErrorKind::TimedOut, "a request's head took too long"))
        } else {
            Ok(())
        }
    }

    fn bounds_writing(&self) -> bool {
        self.pulse.phase() != UPGRADED
    }

    fn wrote(&mut self, waits: bool) {
        self.pulse.0.writing.store(waits, Ordering::Relaxed);
    }
}
