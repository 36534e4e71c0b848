//! A line over a byte stream: buffers both ways, and a dialect that turns them into words.
//!
//! Whatever was read is decoded before anything is written, and whatever was said meanwhile is written at
//! once: many answers cost one read, and the questions they free cost one write.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_util::io::poll_read_buf;

use super::{Failure, Heard, Line, Lost, Say};

/// Room made in the read buffer before each read: a few dozen small answers.
const READ_BYTES: usize = 32 * 1024;

/// A protocol as bytes; knows nothing of sockets.
pub(crate) trait Dialect: Send + fmt::Debug {
    /// Writes something said.
    fn encode(&mut self, id: u64, say: &Say, out: &mut BytesMut) -> Result<(), Failure>;

    /// Takes one thing heard from the front of `input`, if it is whole.
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Heard>, Lost>;

    /// Writes what the protocol itself owes the other side for what was decoded.
    fn owed(&mut self, _out: &mut BytesMut) {}
}

/// The line.
#[derive(Debug)]
pub(super) struct Stream<S, D> {
    socket: S,
    dialect: D,
    input: BytesMut,
    output: BytesMut,
}

/// Connects to a Unix socket.
pub(super) async fn unix<D: Dialect + 'static>(path: &Path, dialect: D) -> Result<Box<dyn Line>, Lost> {
    match UnixStream::connect(path).await {
        Ok(socket) => Ok(Box::new(Stream::new(socket, dialect))),
        Err(source) => Err(Lost::Connect { address: path.display().to_string(), source }),
    }
}

impl<S, D> Stream<S, D> {
    pub(super) fn new(socket: S, dialect: D) -> Self {
        Self::with_input(socket, dialect, BytesMut::new())
    }

    /// With bytes that were read from the socket already.
    pub(super) fn with_input(socket: S, dialect: D, input: BytesMut) -> Self {
        Self { socket, dialect, input, output: BytesMut::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, D> Stream<S, D> {
    /// Writes what is queued, as far as the other side takes it.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once; 0 is the end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(READ_BYTES);
        poll_read_buf(Pin::new(&mut self.socket), context, &mut self.input)
    }
}

impl<S, D> Line for Stream<S, D>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug,
    D: Dialect,
{
    fn say(&mut self, id: u64, say: &Say) -> Result<(), Failure> {
        self.dialect.encode(id, say, &mut self.output)
    }

    fn poll_heard(&mut self, context: &mut Context<'_>) -> Poll<Result<Heard, Lost>> {
        loop {
            if let Some(heard) = self.dialect.decode(&mut self.input)? {
                return Poll::Ready(Ok(heard));
            }
            self.dialect.owed(&mut self.output);
            // A write that fails does not end the line: what the gateway said before it closed is still to
            // be read, and says why.
            let writing = self.poll_write(context);
            match (ready!(self.poll_read(context)), writing) {
                (Ok(0), Poll::Ready(Err(error))) | (Err(error), _) => {
                    return Poll::Ready(Err(error.into()));
                }
                (Ok(0), _) => return Poll::Ready(Err(Lost::Closed)),
                (Ok(_), _) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::client::What;

    /// A byte a word: `say` writes the id, hearing gives it back.
    #[derive(Debug)]
    struct Bytewise;

    impl Dialect for Bytewise {
        fn encode(&mut self, id: u64, _: &Say, out: &mut BytesMut) -> Result<(), Failure> {
            out.extend_from_slice(&[u8::try_from(id).unwrap()]);
            Ok(())
        }

        fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Heard>, Lost> {
            let id = (!input.is_empty()).then(|| input.get_u8().into());
            Ok(id.map(|id| Heard { id: Some(id), what: What::Pong }))
        }
    }

    fn pair() -> (Box<dyn Line>, DuplexStream) {
        let (near, far) = duplex(4);
        (Box::new(Stream::new(near, Bytewise)), far)
    }

    #[tokio::test]
    async fn more_than_the_other_side_takes_is_written_while_answers_are_read() {
        let (mut line, far) = pair();
        let (mut read, mut write) = tokio::io::split(far);
        let echo = tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
        for id in 0..100 {
            line.say(id, &Say::Ping).unwrap();
        }
        for id in 0..100 {
            assert_eq!(line.heard().await.unwrap().id, Some(id));
        }
        echo.abort();
    }

    #[tokio::test]
    async fn the_last_words_before_a_close_are_heard() {
        let (mut line, mut far) = pair();
        far.write_all(&[7]).await.unwrap();
        drop(far);
        line.say(1, &Say::Ping).unwrap();
        assert_eq!(line.heard().await.unwrap().id, Some(7));
        assert!(matches!(line.heard().await, Err(Lost::Closed | Lost::Broken(_))));
    }

    #[tokio::test]
    async fn nothing_is_sent_before_it_is_polled_and_nothing_is_lost_when_a_wait_is_given_up() {
        let (mut line, mut far) = pair();
        line.say(1, &Say::Ping).unwrap();
        tokio::select! {
            biased;
            _ = line.heard() => panic!("nobody answered"),
            () = std::future::ready(()) => {}
        }
        let mut byte = [0];
        far.read_exact(&mut byte).await.unwrap();
        far.write_all(&byte).await.unwrap();
        assert_eq!(line.heard().await.unwrap().id, Some(1));
    }
}
