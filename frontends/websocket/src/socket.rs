//! One WebSocket from its upgrade to its end, whatever is said over it: reading, writing, pings, deadlines and the
//! closing handshake (RFC 6455 sections 5 to 7).
//!
//! It is polled by its owner's one task, in parts, because the owner decides between them: answers go first,
//! reading stops while too much is in flight. Deadlines that blame the peer do not run while it is we who do not
//! read.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use contract::{ByteBudget, DoorMeters, Kind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tungstenite::protocol::frame::coding::Control;
use wire::departure::Departure;

use crate::close::{self, Ending};
use crate::outbox::Outbox;
use crate::reader::{Found, Message, Reader};

/// Bytes read at once, into the stack: an idle connection holds no buffer.
const READ_BYTES: usize = 16 * 1024;
/// How often a peer that is not being heard is looked at, where nothing else would tell that it vanished.
const WATCH_EVERY: Duration = Duration::from_millis(250);

/// The bounds of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of a message, in all its fragments together.
    pub message_bytes_max: usize,
    /// Fragments of a message.
    pub fragments_max: usize,
    /// From the first byte of a message to its last.
    pub message_timeout: Duration,
    /// Pings and pongs of the peer in one second.
    pub pings_per_second_max: u32,
    /// How often the peer is pinged; a ping not answered when the next one is due ends the connection.
    pub ping_interval: Duration,
    /// How long the peer may take nothing of what is written to it.
    pub write_timeout: Duration,
    /// How long the peer gets to answer a close.
    pub close_timeout: Duration,
}

/// Who listens to a socket.
pub trait Listener {
    /// Whether another message may be heard, with `unwritten` bytes waiting for the peer.
    fn has_room(&self, unwritten: usize) -> bool;

    /// Takes a message; what it returns ends the connection.
    fn hear(&mut self, message: Message, outbox: &mut Outbox) -> Option<Ending>;
}

/// One WebSocket over `S`.
pub struct Socket<S> {
    stream: S,
    bounds: Arc<Bounds>,
    meters: Arc<DoorMeters>,
    reader: Reader,
    /// What waits to be written.
    pub outbox: Outbox,
    /// What was read and not heard yet.
    rest: Vec<u8>,
    state: State,
    pings: Pings,
    /// Whether our last ping is unanswered.
    awaiting_pong: bool,
    keepalive: Pin<Box<Sleep>>,
    /// Of the message that has begun.
    message_due: Option<Pin<Box<Sleep>>>,
    /// Of something to be written.
    write_due: Option<Pin<Box<Sleep>>>,
    departure: Departure,
    /// Of a peer that is not heard: it left, or where that is not told, it is time to look at it.
    watch: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Of the end.
    close_due: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// We have closed; the peer's close is awaited.
    Closing,
    /// The peer cannot be understood, or does not follow; what it sends is thrown away, so that our close reaches
    /// it: closing over unread input would reset the connection under it.
    Deaf,
    /// Both have closed.
    Closed,
    /// Nothing more comes from the peer, or goes to it.
    Ended,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// A socket over a stream whose handshake is done; `departure` tells when its peer leaves.
    pub fn new(
        stream: S,
        departure: Departure,
        bounds: Arc<Bounds>,
        meters: Arc<DoorMeters>,
        budget: &ByteBudget,
    ) -> Self {
        // The first ping comes anywhere in the interval: a thousand that connect at once are not pinged at once.
        let first = bounds.ping_interval.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
        Self {
            reader: Reader::new(budget.clone(), bounds.message_bytes_max, bounds.fragments_max),
            outbox: Outbox::new(budget),
            rest: Vec::new(),
            state: State::Open,
            pings: Pings { since: Instant::now(), count: 0 },
            awaiting_pong: false,
            keepalive: Box::pin(sleep(first)),
            message_due: None,
            write_due: None,
            watch: None,
            close_due: None,
            stream,
            departure,
            bounds,
            meters,
        }
    }

    /// Whether neither side has closed.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether both have closed and all is written.
    pub fn is_over(&self) -> bool {
        self.state == State::Ended || self.state == State::Closed && self.outbox.is_empty()
    }

    /// Closes, behind what waits to be written; the first close counts.
    pub fn close(&mut self, ending: &Ending) {
        if self.is_open() {
            self.send_close(ending, State::Closing);
        }
    }

    fn send_close(&mut self, ending: &Ending, state: State) {
        self.outbox.control(Control::Close, &ending.payload());
        self.state = state;
        self.rest = Vec::new();
        self.message_due = None;
        self.close_due = Some(Box::pin(sleep(self.bounds.close_timeout)));
    }

    /// Writes what can be written; says whether anything was.
    pub fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        while !self.outbox.is_empty() {
            match self.outbox.poll_write(context, &mut self.stream) {
                Poll::Ready(Ok(written)) => {
                    self.meters.sent_bytes_total.add(written as u64);
                    self.write_due = None;
                    moved = true;
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(moved),
            }
        }
        if self.state == State::Deaf {
            // The peer reads our close, and then the end. A failure means that it has gone already.
            let _ = Pin::new(&mut self.stream).poll_shutdown(context);
        }
        Ok(moved)
    }

    /// Reads once and has `listener` hear what there is; says whether anything came.
    pub fn poll_read(&mut self, context: &mut Context<'_>, listener: &mut impl Listener) -> io::Result<bool> {
        if !self.may_read(listener) {
            return Ok(false);
        }
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.hear(&rest, listener);
            return Ok(true);
        }
        let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Poll::Ready(read) => read?,
        }
        let bytes = buffer.filled();
        if bytes.is_empty() {
            // A WebSocket has no half-closed state: whoever ends its input without a close is gone.
            let is_gone = matches!(self.state, State::Open | State::Closing);
            self.state = State::Ended;
            return if is_gone { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(true) };
        }
        self.meters.received_bytes_total.add(bytes.len() as u64);
        self.awaiting_pong = false;
        self.hear(bytes, listener);
        Ok(true)
    }

    fn may_read(&self, listener: &impl Listener) -> bool {
        match self.state {
            State::Open => listener.has_room(self.outbox.bytes()),
            State::Closing | State::Deaf => true,
            State::Closed | State::Ended => false,
        }
    }

    fn hear(&mut self, mut input: &[u8], listener: &mut impl Listener) {
        while !input.is_empty() && self.may_read(listener) {
            if self.state == State::Deaf {
                return;
            }
            let Some(found) = self.reader.take(&mut input) else { break };
            match found {
                Found::Message(_) if self.state == State::Closing => {}
                Found::Message(message) => {
                    self.message_due = None;
                    if let Some(ending) = listener.hear(message, &mut self.outbox) {
                        self.close(&ending);
                    }
                }
                Found::Ping(_) | Found::Pong if !self.pings.allow(self.bounds.pings_per_second_max) => {
                    let reason = format!("at most {} pings a second", self.bounds.pings_per_second_max);
                    self.fail(&Ending::of(Kind::Invalid, reason));
                }
                Found::Ping(payload) if self.state == State::Open => {
                    self.outbox.control(Control::Pong, &payload);
                }
                Found::Ping(_) | Found::Pong => {}
                Found::Close(payload) => {
                    let answer = close::answer(&payload);
                    if self.state == State::Open {
                        self.send_close(&answer, State::Closed);
                    }
                    self.state = State::Closed;
                    return;
                }
                Found::Broken(ending) => self.fail(&ending),
            }
        }
        if self.state == State::Open {
            self.rest = input.to_vec();
            if !self.reader.is_within() {
                self.message_due = None;
            } else if self.message_due.is_none() {
                self.message_due = Some(Box::pin(sleep(self.bounds.message_timeout)));
            }
        }
    }

    /// Closes on a peer that breaks the rules.
    fn fail(&mut self, ending: &Ending) {
        self.meters.protocol_errors_total.increment();
        tracing::debug!(door = crate::NAME, code = ending.code, reason = %ending.reason, "closing on a peer");
        if self.state == State::Open {
            self.send_close(ending, State::Deaf);
        }
        self.state = State::Deaf;
    }

    /// Notices that a peer that is not heard has gone.
    fn poll_watch(&mut self, context: &mut Context<'_>, reading: bool) -> io::Result<()> {
        if reading {
            self.watch = None;
            return Ok(());
        }
        let is_told = self.departure.is_told();
        loop {
            let watch = self.watch.get_or_insert_with(|| {
                if is_told { Box::pin(self.departure.noticed()) } else { Box::pin(sleep(WATCH_EVERY)) }
            });
            if watch.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            self.watch = None;
            if is_told {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            self.read_ahead(context)?;
        }
    }

    /// Reads what is kept until it may be heard, up to one read's worth in all: where nothing else tells that the peer has
    /// gone, reading does.
    fn read_ahead(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
        while self.rest.len() < READ_BYTES {
            let mut buffer = ReadBuf::uninit(&mut space[self.rest.len()..]);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Poll::Ready(read) => read?,
            }
            if buffer.filled().is_empty() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            self.meters.received_bytes_total.add(buffer.filled().len() as u64);
            self.awaiting_pong = false;
            self.rest.extend_from_slice(buffer.filled());
        }
        Ok(())
    }

    /// Looks at the clocks; says whether anything happened. An error is a peer that is beyond being told.
    pub fn poll_clocks(&mut self, context: &mut Context<'_>, listener: &impl Listener) -> io::Result<bool> {
        if let Some(due) = &mut self.close_due
            && due.as_mut().poll(context).is_ready()
        {
            self.close_due = None;
            self.state = State::Ended;
            return Ok(true);
        }
        if !self.outbox.is_empty() {
            let timeout = self.bounds.write_timeout;
            let due = self.write_due.get_or_insert_with(|| Box::pin(sleep(timeout)));
            if due.as_mut().poll(context).is_ready() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing"));
            }
        }
        if self.state != State::Open {
            return Ok(false);
        }
        let reading = self.may_read(listener);
        self.poll_watch(context, reading)?;
        if let Some(due) = &mut self.message_due
            && due.as_mut().poll(context).is_ready()
        {
            if reading {
                self.fail(&Ending::of(Kind::TimedOut, "the rest of a message did not come in time"));
                return Ok(true);
            }
            self.message_due = Some(Box::pin(sleep(self.bounds.message_timeout)));
            return Ok(true);
        }
        if self.keepalive.as_mut().poll(context).is_pending() {
            return Ok(false);
        }
        if self.awaiting_pong && reading {
            self.fail(&Ending::of(Kind::TimedOut, "a ping was not answered"));
            return Ok(true);
        }
        self.keepalive.as_mut().reset(Instant::now() + self.bounds.ping_interval);
        self.outbox.control(Control::Ping, b"");
        self.awaiting_pong = true;
        Ok(true)
    }
}

/// The peer's control frames within a second.
#[derive(Debug)]
struct Pings {
    since: Instant,
    count: u32,
}

impl Pings {
    /// Counts one more; says whether it is allowed.
    fn allow(&mut self, per_second_max: u32) -> bool {
        let now = Instant::now();
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self { since: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= per_second_max
    }
}
