//! The reading half of a session: from bytes to questions asked, and the deadlines of a peer that stops
//! within a message.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BufMut;
use contract::{Error, Kind, Outcome, Pipeline, Target};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::time::{Instant, sleep};

use wire::Outbound;
use wire::conversation::Conversation;

use super::{Session, Speech, WATCH_EVERY};
use crate::exchange::{Answer, Said};
use crate::frame::{self, Partial};
use crate::framed::Framed;
use crate::raw::RawJson;

impl<P: Pipeline> Session<P> {
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.hear(&rest);
            return Poll::Ready(Ok(()));
        }
        loop {
            std::task::ready!(self.stream.poll_read_ready(context))?;
            match self.read(context) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn read(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        // A large body is read straight into its own buffer.
        if let Speech::Framed(dialect) = &mut self.speech
            && let Some((body, most)) = dialect.decoder().body(self.pool.bytes())
        {
            let read = self.stream.try_read_buf(&mut body.limit(most))?;
            if read == 0 {
                return self.end_of_input();
            }
            self.gate.meters.received_bytes_total.add(read as u64);
            if let Some(decoded) = dialect.decoder().finish() {
                let said = Framed::meaning(decoded);
                self.take(said, Instant::now());
                self.restart_read_deadline(true);
            }
            return Ok(());
        }
        // The buffer is held for this call only: an idle connection has none.
        let mut buffer = self.pool.take();
        let mut bytes = ReadBuf::new(&mut buffer);
        // Unlike `try_read`, this knows after a short read that the socket is empty, without asking the system.
        let Poll::Ready(outcome) = Pin::new(&mut self.stream).poll_read(context, &mut bytes) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        outcome?;
        let read = bytes.filled().len();
        if read == 0 {
            return self.end_of_input();
        }
        self.gate.meters.received_bytes_total.add(read as u64);
        self.hear(&buffer[..read]);
        Ok(())
    }

    pub(super) fn end_of_input(&mut self) -> io::Result<()> {
        if self.has_vanished() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.ended = true;
        self.read_deadline = None;
        if let Speech::RawJson(raw) = &mut self.speech
            && let Some(said) = raw.end()
        {
            self.take(said, Instant::now());
        }
        Ok(())
    }

    /// Hears what is in `input`, as far as there is room; the rest is kept.
    fn hear(&mut self, mut input: &[u8]) {
        let received = Instant::now();
        let mut heard = false;
        if matches!(self.speech, Speech::Unknown) {
            self.begin(input[0]);
        }
        while !input.is_empty() && self.has_room() && !self.ending {
            let Some(dialect) = self.speech.dialect() else { break };
            let Some(said) = dialect.hear(&mut input) else { continue };
            heard = true;
            self.take(said, received);
        }
        if !self.ending {
            self.rest = input.to_vec();
        }
        self.restart_read_deadline(heard);
    }

    /// The first byte tells what is spoken: 0 begins every frame, `{` or white space every JSON document, and
    /// nothing else begins either (a length of 16 MiB or more does not start with 0).
    fn begin(&mut self, first: u8) {
        let budget = self.gate.budget.clone();
        let framed = || Framed::new(frame::decoder(budget.clone()), self.bounds.failed_as_error);
        self.speech = match first {
            0 => Speech::Framed(framed()),
            b'{' | b' ' | b'\t' | b'\r' | b'\n' => Speech::RawJson(RawJson::new(budget.clone())),
            _ => {
                self.speech = Speech::Framed(framed());
                let text = "Frame too large: the first byte is neither that of a frame nor of a JSON object";
                return self
                    .take(Said::Last(Answer::Error(Error::new(Kind::TooLarge, text))), Instant::now());
            }
        };
    }

    fn take(&mut self, said: Said, received: Instant) {
        match said {
            Said::Task { kind, payload, charge } => {
                self.ordered.ask(Target::Task(kind), payload, received, charge, None);
            }
            Said::Subscribe { pattern, stream } => self.ordered.subscribe(pattern, stream, received),
            Said::Question(inbound, charge) => {
                let Some(dialect) = self.speech.dialect() else { return };
                let conversation = self.conversation.get_or_insert_with(|| {
                    let limits = Arc::clone(&self.bounds.limits);
                    Box::new(Conversation::new(self.gate.clone(), Arc::clone(&self.origin), limits))
                });
                conversation.hear(inbound, received, charge, &mut |told| {
                    dialect.tell(&told, &mut self.outbox);
                });
            }
            Said::Misspoken(refusal) => {
                self.gate.meters.protocol_errors_total.increment();
                if let Some(dialect) = self.speech.dialect() {
                    let told = Outbound::Error { id: refusal.id.as_ref(), error: &refusal.error };
                    dialect.tell(&told, &mut self.outbox);
                }
            }
            Said::Plain(answer) => self.ordered.ready(answer),
            Said::Last(answer) => {
                self.ending = true;
                self.ordered.ready(answer);
            }
        }
    }

    /// After bytes were heard: a new message, or a new part of one, has its own deadline.
    fn restart_read_deadline(&mut self, heard: bool) {
        let partial = match self.speech.dialect() {
            Some(dialect) if self.rest.is_empty() => dialect.partial(),
            _ => Partial::Nothing,
        };
        if !heard && partial == self.partial {
            return;
        }
        self.partial = partial;
        self.read_deadline = None;
    }

    pub(super) fn poll_read_deadline(&mut self, context: &mut Context<'_>) -> bool {
        let wait = match self.partial {
            Partial::Nothing => return false,
            Partial::Header => self.bounds.header_timeout,
            Partial::Body => self.bounds.body_timeout,
        };
        if !self.may_read() {
            // It is we who do not read.
            self.read_deadline = None;
            return false;
        }
        let deadline = self.read_deadline.get_or_insert_with(|| Box::pin(sleep(wait)));
        if deadline.as_mut().poll(context).is_pending() {
            return false;
        }
        self.read_deadline = None;
        self.partial = Partial::Nothing;
        let error = Error::new(Kind::TimedOut, "the rest of the message did not come in time");
        self.take(Said::Last(Answer::Error(error.with_outcome(Outcome::NotSent))), Instant::now());
        true
    }

    /// Looks from time to time whether a peer that is not being read from is still there.
    pub(super) fn poll_watch(&mut self, context: &mut Context<'_>) -> bool {
        if self.may_read() && !self.ended {
            self.watch = None;
            return false;
        }
        loop {
            let watch = self.watch.get_or_insert_with(|| Box::pin(sleep(WATCH_EVERY)));
            if watch.as_mut().poll(context).is_pending() {
                return false;
            }
            self.watch = None;
            if self.has_vanished() {
                return true;
            }
        }
    }

    /// Whether something is there that was not read; it is read and thrown away.
    pub(super) fn has_input(&self) -> bool {
        !self.ended && self.stream.try_read(&mut self.pool.take()).is_ok_and(|read| read > 0)
    }

    /// Whether the peer has closed both directions. On a Unix socket the system tells that apart from a peer
    /// that has only ended its input.
    fn has_vanished(&self) -> bool {
        let ready = self.stream.ready(Interest::READABLE | Interest::WRITABLE).now_or_never();
        matches!(ready, Some(Ok(ready)) if ready.is_write_closed())
    }
}
