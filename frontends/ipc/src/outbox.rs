//! What waits to be written to one peer: small pieces coalesced into pooled buffers, large payloads shared as
//! they are, all written with as few system calls as possible.
//!
//! Small pieces are copied because that is cheaper than another entry of a vectored write; a large payload is
//! never copied. Everything is charged to the byte budget while it waits.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use contract::{ByteBudget, Charge};
use tokio::net::UnixStream;
use wire::Sink;

use crate::buffers::{BufferPool, Lent};

/// Payloads up to this many bytes are copied next to their header.
const COPY_BYTES_MAX: usize = 2048;
/// Pieces written by one system call at most; the system's own limit is 1024.
const PIECES_MAX: usize = 64;

/// The queue of one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    pool: BufferPool,
    pieces: VecDeque<Piece>,
    bytes: usize,
    charge: Charge,
}

#[derive(Debug)]
enum Piece {
    /// Small things, one after the other; what is written is `from..to`.
    Copied { buffer: Lent, from: usize, to: usize },
    /// A payload as it is.
    Shared(Bytes),
}

impl Piece {
    fn rest(&self) -> &[u8] {
        match self {
            Self::Copied { buffer, from, to } => &buffer[*from..*to],
            Self::Shared(bytes) => bytes,
        }
    }

    /// What it costs the byte budget, whatever of it is written already.
    fn cost(&self) -> usize {
        match self {
            Self::Copied { buffer, .. } => buffer.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }
}

impl Outbox {
    pub(crate) fn new(pool: BufferPool, budget: &ByteBudget) -> Self {
        Self { pool, pieces: VecDeque::new(), bytes: 0, charge: budget.charge_always(0) }
    }

    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Writes what the socket takes now; the number of bytes is 0 only when nothing waits.
    /// `WouldBlock` when the socket takes nothing.
    pub(crate) fn write(&mut self, stream: &UnixStream) -> io::Result<usize> {
        if self.is_empty() {
            return Ok(0);
        }
        let written = if self.pieces.len() == 1 {
            stream.try_write(self.pieces[0].rest())?
        } else {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let count = self.pieces.len().min(PIECES_MAX);
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece.rest());
            }
            stream.try_write_vectored(&slices[..count])?
        };
        self.advance(written);
        if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while written > 0 {
            let piece = self.pieces.front_mut().expect("what is written was waiting");
            let rest = piece.rest().len();
            if written < rest {
                match piece {
                    Piece::Copied { from, .. } => *from += written,
                    Piece::Shared(bytes) => {
                        // The whole allocation lives on; only what is shown of it shrinks.
                        self.charge.shrink(written);
                        bytes.advance(written);
                    }
                }
                return;
            }
            written -= rest;
            if let Some(piece) = self.pieces.pop_front() {
                self.charge.shrink(piece.cost());
            }
        }
    }
}

/// A payload is shared if it is large, and copied if it is small.
impl Sink for Outbox {
    fn copy(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            if !matches!(self.pieces.back(), Some(Piece::Copied { buffer, to, .. }) if *to < buffer.len()) {
                let buffer = self.pool.take();
                self.charge.grow_always(buffer.len());
                self.pieces.push_back(Piece::Copied { buffer, from: 0, to: 0 });
            }
            let Some(Piece::Copied { buffer, to, .. }) = self.pieces.back_mut() else { return };
            let (now, later) = bytes.split_at(bytes.len().min(buffer.len() - *to));
            buffer[*to..*to + now.len()].copy_from_slice(now);
            *to += now.len();
            bytes = later;
        }
    }

    fn share(&mut self, payload: Bytes) {
        if payload.len() <= COPY_BYTES_MAX {
            return self.copy(&payload);
        }
        self.bytes += payload.len();
        self.charge.grow_always(payload.len());
        self.pieces.push_back(Piece::Shared(payload));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use contract::DoorMeters;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn outbox() -> (Outbox, ByteBudget, Arc<DoorMeters>) {
        let (budget, meters) = (ByteBudget::new(1 << 30), Arc::new(DoorMeters::default()));
        (Outbox::new(BufferPool::new(0, 512, meters.clone()), &budget), budget, meters)
    }

    #[tokio::test]
    async fn everything_arrives_in_order_and_everything_is_given_back() {
        let (mut outbox, budget, meters) = outbox();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut expected = Vec::new();
        for round in 0..200_u32 {
            let small = round.to_be_bytes().repeat(round as usize % 300);
            let large = Bytes::from(vec![u8::try_from(round % 251).unwrap(); 3000]);
            outbox.copy(&small);
            outbox.share(large.clone());
            expected.extend_from_slice(&small);
            expected.extend_from_slice(&large);
        }
        assert_eq!(outbox.bytes(), expected.len());
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            all
        });
        while !outbox.is_empty() {
            ours.writable().await.unwrap();
            match outbox.write(&ours) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        drop(ours);
        assert!(reader.await.unwrap() == expected);
        assert_eq!((budget.used(), meters.buffers_lent.get()), (0, 0));
    }
}
