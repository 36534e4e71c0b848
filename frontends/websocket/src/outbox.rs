//! What waits to be written to one peer: frames back to back, large payloads shared as they are, all written with
//! as few system calls as possible.
//!
//! Nothing is kept while nothing waits. Everything is charged to the byte budget while it does.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use contract::{ByteBudget, Charge};
use tokio::io::AsyncWrite;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use wire::Sink;

/// Payloads up to this many bytes are copied next to their header: cheaper than another piece to write.
const COPY_BYTES_MAX: usize = 2048;
/// Pieces written by one system call at most; the system's own limit is 1024.
const PIECES_MAX: usize = 64;
/// Bytes of the longest header of a server's frame, which has no mask.
const HEADER_BYTES_MAX: usize = 10;

/// The queue of one connection.
#[derive(Debug)]
pub struct Outbox {
    /// To be written first.
    pieces: VecDeque<Bytes>,
    /// Small things behind them.
    tail: BytesMut,
    bytes: usize,
    charge: Charge,
}

impl Outbox {
    pub(crate) fn new(budget: &ByteBudget) -> Self {
        Self { pieces: VecDeque::new(), tail: BytesMut::new(), bytes: 0, charge: budget.charge_always(0) }
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Queues one message: what `encode` writes.
    pub fn message(&mut self, text: bool, encode: impl FnOnce(&mut Draft<'_>)) {
        let data = if text { Data::Text } else { Data::Binary };
        let mut draft = Draft { start: self.tail.len(), tail: &mut self.tail, later: Vec::new(), bytes: 0 };
        encode(&mut draft);
        let Draft { start, later, bytes, .. } = draft;
        self.put_header(OpCode::Data(data), start, bytes);
        if !later.is_empty() {
            self.freeze();
            for piece in later {
                match piece {
                    Piece::Shared(bytes) => {
                        self.freeze();
                        self.pieces.push_back(bytes);
                    }
                    Piece::Copied(bytes) => self.tail = bytes,
                }
            }
        }
    }

    /// Queues a control frame; `payload` has at most 125 bytes.
    pub(crate) fn control(&mut self, control: Control, payload: &[u8]) {
        let start = self.tail.len();
        self.tail.extend_from_slice(payload);
        self.put_header(OpCode::Control(control), start, payload.len());
    }

    /// Puts the header before the payload of `bytes` that begins at `start` of the tail: its length, and with it
    /// the header's, is known only now. What moves is small.
    fn put_header(&mut self, opcode: OpCode, start: usize, bytes: usize) {
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        let (length, end) = (header.len(bytes as u64), self.tail.len());
        let mut space = [0; HEADER_BYTES_MAX];
        header.format(bytes as u64, &mut &mut space[..]).expect("there is room for the longest header");
        self.tail.resize(end + length, 0);
        self.tail.copy_within(start..end, start + length);
        self.tail[start..start + length].copy_from_slice(&space[..length]);
        self.bytes += length + bytes;
        self.charge.grow_always(length + bytes);
    }

    fn freeze(&mut self) {
        if !self.tail.is_empty() {
            let piece = std::mem::take(&mut self.tail).freeze();
            self.pieces.push_back(piece);
        }
    }

    /// Writes what the stream takes now; the number of bytes is 0 only when nothing waits.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.freeze();
        let mut stream = Pin::new(stream);
        let written = if self.pieces.len() == 1 {
            ready!(stream.as_mut().poll_write(context, &self.pieces[0]))?
        } else {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let count = self.pieces.len().min(PIECES_MAX);
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
            }
            ready!(stream.as_mut().poll_write_vectored(context, &slices[..count]))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        if self.is_empty() {
            self.pieces = VecDeque::new();
            // Behind TLS the last record waits for this; a plain socket has nothing to do.
            if let Poll::Ready(flushed) = stream.poll_flush(context) {
                flushed?;
            }
        }
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        self.charge.shrink(written);
        while written > 0 {
            let piece = self.pieces.front_mut().expect("what is written was waiting");
            let rest = piece.len();
            if written < rest {
                return piece.advance(written);
            }
            written -= rest;
            self.pieces.pop_front();
        }
    }
}

/// A message that is being encoded.
#[derive(Debug)]
pub struct Draft<'a> {
    tail: &'a mut BytesMut,
    start: usize,
    /// What comes behind the first large payload.
    later: Vec<Piece>,
    bytes: usize,
}

#[derive(Debug)]
enum Piece {
    Copied(BytesMut),
    Shared(Bytes),
}

/// A payload is shared if it is large, and copied if it is small.
impl Sink for Draft<'_> {
    fn copy(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        match self.later.last_mut() {
            None => self.tail.extend_from_slice(bytes),
            Some(Piece::Copied(piece)) => piece.extend_from_slice(bytes),
            Some(Piece::Shared(_)) => self.later.push(Piece::Copied(BytesMut::from(bytes))),
        }
    }

    fn share(&mut self, payload: Bytes) {
        if payload.len() <= COPY_BYTES_MAX {
            return self.copy(&payload);
        }
        self.bytes += payload.len();
        self.later.push(Piece::Shared(payload));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    /// Reads a server's frames back: first byte and payload.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let (at, length) = match bytes[1] {
                126 => (4, usize::from(u16::from_be_bytes(bytes[2..4].try_into().unwrap()))),
                127 => (10, usize::try_from(u64::from_be_bytes(bytes[2..10].try_into().unwrap())).unwrap()),
                small => (2, usize::from(small)),
            };
            frames.push((bytes[0], bytes[at..at + length].to_vec()));
            bytes = &bytes[at + length..];
        }
        frames
    }

    #[tokio::test]
    async fn everything_arrives_in_order_and_everything_is_given_back() {
        let budget = ByteBudget::new(1 << 30);
        let mut outbox = Outbox::new(&budget);
        // Smaller than a large payload, so that writes stop anywhere.
        let (mut ours, mut theirs) = tokio::io::duplex(1000);
        let mut expected = Vec::new();
        for round in 0..300_usize {
            let byte = u8::try_from(round % 251).unwrap();
            let (small, large) = (vec![byte; round], Bytes::from(vec![byte; 2000 + round * 300]));
            outbox.message(round % 2 == 0, |draft| {
                draft.copy(&small);
                draft.share(large.clone());
                draft.copy(b"between");
                draft.share(large.clone());
                draft.copy(b"!");
            });
            let first = if round % 2 == 0 { 0x81 } else { 0x82 };
            expected.push((first, [&small[..], &large, b"between", &large, b"!"].concat()));
            outbox.message(true, |draft| draft.copy(&small));
            expected.push((0x81, small.clone()));
            outbox.control(Control::Pong, &small[..round.min(125)]);
            expected.push((0x8A, small[..round.min(125)].to_vec()));
        }
        let waiting = outbox.bytes();
        assert_eq!(budget.used(), waiting);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            all
        });
        while !outbox.is_empty() {
            poll_fn(|context| outbox.poll_write(context, &mut ours)).await.unwrap();
        }
        drop(ours);
        let all = reader.await.unwrap();
        assert_eq!((all.len(), budget.used()), (waiting, 0));
        assert!(frames(&all) == expected);
    }
}
