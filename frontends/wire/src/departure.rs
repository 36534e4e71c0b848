//! A socket that tells when its peer has ended its side, also while nobody reads from it.
//!
//! Reading comes to an end only behind everything that was sent before it, and a door that has enough to do does not
//! read. Linux tells of the end beside the bytes (`EPOLLRDHUP`, `epoll_ctl(2)`), and tokio hands that on to whoever
//! waits for priority data alone. For this the socket is shared: one half is read and written as ever, the other
//! only waits. What the peer sent and is not read must fit the system's buffers: behind more than that the system
//! itself does not hear of an end, and what bounds a silent peer bounds this one.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A socket that can be used by reference; the methods are tokio's.
pub trait Socket: AsFd + fmt::Debug + Send + Sync + 'static {
    /// Ready when it may be read from.
    ///
    /// # Errors
    ///
    /// When the runtime ends.
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready when it may be written to.
    ///
    /// # Errors
    ///
    /// When the runtime ends.
    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads once, without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is there, and what recv(2) says.
    fn try_read(&self, buffer: &mut ReadBuf<'_>) -> io::Result<usize>;

    /// Writes once, without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is no room, and what send(2) says.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Runs `work`; a `WouldBlock` of it means that the socket is no longer ready for `interest`.
    ///
    /// # Errors
    ///
    /// Those of `work`, and `WouldBlock` when the socket was not ready.
    fn try_io(&self, interest: Interest, work: impl FnOnce() -> io::Result<usize>) -> io::Result<usize>;

    /// Resolves when the peer has ended its side, whatever is unread before that.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn ended(&self) -> impl Future<Output = ()> + Send;
}

macro_rules! sockets {
    ($($socket:ty),*) => {$(
        impl Socket for $socket {
            fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(context)
            }

            fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(context)
            }

            fn try_read(&self, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
                self.try_read_buf(buffer)
            }

            fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                self.try_write_vectored(slices)
            }

            fn try_io(
                &self,
                interest: Interest,
                work: impl FnOnce() -> io::Result<usize>,
            ) -> io::Result<usize> {
                self.try_io(interest, work)
            }

            #[cfg(any(target_os = "linux", target_os = "android"))]
            async fn ended(&self) {
                // Priority data itself is not asked for, as tokio registers sockets for reading and writing: what comes
                // is the end, or a reset. An error is the end of the runtime.
                let _ = self.ready(Interest::PRIORITY).await;
            }
        }
    )*};
}

sockets!(TcpStream, UnixStream);

/// A socket to be read and written, of which a [`Departure`] is known.
#[derive(Debug)]
pub struct Shared<S = TcpStream>(Arc<S>);

/// The other half of a [`Shared`]: it waits for the peer to leave. Cloning shares it; the descriptor stays open until
/// the last clone is dropped.
#[derive(Debug)]
pub struct Departure<S = TcpStream>(Option<Arc<S>>);

impl<S> Clone for Departure<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Socket> Departure<S> {
    /// Of a peer of whose end only reading tells.
    pub const fn untold() -> Self {
        Self(None)
    }

    /// Whether [`Self::noticed`] will ever resolve.
    pub fn is_told(&self) -> bool {
        cfg!(any(target_os = "linux", target_os = "android")) && self.0.is_some()
    }

    /// Resolves when the peer has ended its side or is gone, whatever it sent before that and is not read. Never where
    /// the system does not tell.
    pub fn noticed(&self) -> impl Future<Output = ()> + Send + 'static {
        let socket = self.0.clone();
        async move {
            match socket {
                #[cfg(any(target_os = "linux", target_os = "android"))]
                Some(socket) => socket.ended().await,
                _ => std::future::pending().await,
            }
        }
    }
}

impl<S: Socket> Shared<S> {
    /// Shares a socket.
    pub fn new(socket: S) -> Self {
        Self(Arc::new(socket))
    }

    /// Tells when its peer leaves.
    pub fn departure(&self) -> Departure<S> {
        Departure(Some(Arc::clone(&self.0)))
    }

    fn poll_write_some(&self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl<S: Socket> AsyncRead for Shared<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            let room = buffer.remaining();
            let mut read = None;
            let tried = self.0.try_io(Interest::READABLE, || {
                let bytes = self.0.try_read(buffer)?;
                read = Some(bytes);
                // Less than there was room for is all that there was: as tokio's own reading does, this saves the call
                // that would say so.
                if 0 < bytes && bytes < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(bytes) }
            });
            match (read, tried) {
                (Some(_), _) => return Poll::Ready(Ok(())),
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, tried) => return Poll::Ready(tried.map(drop)),
            }
        }
    }
}

impl<S: Socket> AsyncWrite for Shared<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_some(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_some(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match SockRef::from(&*self.0).shutdown(Shutdown::Write) {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

#[cfg(test)]
mod tests;
