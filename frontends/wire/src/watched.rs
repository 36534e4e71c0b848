//! The transport under a connection that another library speaks on: it counts the bytes and keeps the times that the
//! library does not know.
//!
//! hyper has no bound on a peer that takes nothing, and knows one time for a head, which runs while a connection is
//! idle too. So these are kept where every byte passes. Writing is bounded here; what may be read and when is known
//! to a door alone, and said by its [`Watch`]. What the library is told is an error of the transport, and it drops
//! the connection with everything that belongs to it.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use contract::DoorMeters;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::attendant::Turn;

/// What a door watches on a transport.
pub trait Watch {
    /// Looks at what a read brought, which may be nothing; a clock of its own wakes `context`.
    ///
    /// # Errors
    ///
    /// What ends the connection, although the read went well.
    fn heard(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> io::Result<()>;

    /// Whether the peer must take something within a time now.
    fn bounds_writing(&self) -> bool {
        true
    }

    /// Something waits for the peer to take it, or does no longer.
    fn wrote(&mut self, waits: bool) {
        let _ = waits;
    }
}

/// A stream of bytes that is watched.
#[derive(Debug)]
pub struct Watched<S, W> {
    stream: S,
    watch: W,
    turn: Turn,
    meters: Arc<DoorMeters>,
    write_timeout: Duration,
    /// When something must have been written.
    write_due: Option<Pin<Box<Sleep>>>,
}

impl<S, W: Watch> Watched<S, W> {
    /// Watches `stream`, of which nothing may wait to be written for longer than `write_timeout`; reads are told to
    /// `turn`.
    pub fn new(stream: S, watch: W, turn: Turn, meters: Arc<DoorMeters>, write_timeout: Duration) -> Self {
        Self { stream, watch, turn, meters, write_timeout, write_due: None }
    }

    /// Counts what was written, or looks how long nothing could be.
    fn settle_write(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            self.write_due = None;
            self.watch.wrote(false);
            if let Ok(bytes) = written {
                self.meters.sent_bytes_total.add(bytes as u64);
            }
            return Poll::Ready(written);
        }
        if !self.watch.bounds_writing() {
            return Poll::Pending;
        }
        self.watch.wrote(true);
        let timeout = self.write_timeout;
        let due = self.write_due.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(due.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<S: AsyncRead + Unpin, W: Watch + Unpin> AsyncRead for Watched<S, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.turn.asked(&polled);
        let bytes = &buffer.filled()[before..];
        self.meters.received_bytes_total.add(bytes.len() as u64);
        // Also when bytes came: a byte at a time must not win more.
        self.watch.heard(context, bytes)?;
        polled
    }
}

impl<S: AsyncWrite + Unpin, W: Watch + Unpin> AsyncWrite for Watched<S, W> {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Hears at most so many bytes; counts what it is told of writing.
    #[derive(Debug)]
    struct Most {
        bytes: usize,
        is_bounded: bool,
        waits: bool,
    }

    impl Watch for Most {
        fn heard(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
            self.bytes = self.bytes.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("too much"))?;
            Ok(())
        }

        fn bounds_writing(&self) -> bool {
            self.is_bounded
        }

        fn wrote(&mut self, waits: bool) {
            self.waits = waits;
        }
    }

    const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

    fn watched<S>(stream: S, is_bounded: bool) -> (Watched<S, Most>, Arc<DoorMeters>) {
        let meters = Arc::<DoorMeters>::default();
        let watch = Most { bytes: 10, is_bounded, waits: false };
        (Watched::new(stream, watch, Turn::default(), Arc::clone(&meters), WRITE_TIMEOUT), meters)
    }

    #[tokio::test]
    async fn bytes_are_counted_and_the_watch_ends_what_goes_too_far() {
        let (mut peer, stream) = duplex(100);
        let (mut watched, meters) = watched(stream, true);
        peer.write_all(b"1234567").await.unwrap();
        watched.read_exact(&mut [0; 7]).await.unwrap();
        watched.write_all(b"answer").await.unwrap();
        assert_eq!((meters.received_bytes_total.get(), meters.sent_bytes_total.get()), (7, 6));
        peer.write_all(b"8901").await.unwrap();
        assert_eq!(watched.read(&mut [0; 4]).await.unwrap_err().to_string(), "too much");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_one_that_takes_a_little_is_not() {
        let (mut peer, stream) = duplex(4);
        let (mut watched, _) = watched(stream, true);
        let slow = tokio::spawn(async move {
            for _ in 0..4 {
                sleep(WRITE_TIMEOUT * 2 / 3).await;
                peer.read_exact(&mut [0; 4]).await.unwrap();
            }
            peer
        });
        watched.write_all(&[7; 16]).await.unwrap();
        let peer = slow.await.unwrap();
        watched.write_all(&[7; 4]).await.unwrap();
        let began = tokio::time::Instant::now();
        let error = watched.write_all(&[7; 4]).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::TimedOut, "the peer takes nothing".into())
        );
        assert!(began.elapsed() >= WRITE_TIMEOUT && watched.watch.waits);
        drop(peer);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_bound_writing_waits() {
        let (_peer, stream) = duplex(4);
        let (mut watched, _) = watched(stream, false);
        let written = tokio::time::timeout(WRITE_TIMEOUT * 10, watched.write_all(&[7; 5])).await;
        assert!(written.is_err() && !watched.watch.waits);
    }
}
