//! Where connections come from: a TCP port or the file of a Unix socket, each with what its system knows of a peer.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;

use contract::{Address, BindError, Presented, UnixPeer};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};

use crate::socket::SocketFile;

/// Connections that the system keeps until they are accepted: a burst of clients that come back fits.
const BACKLOG: u32 = 1024;

/// A socket that listens.
pub trait Listener: Send + Sync {
    /// A connection.
    type Stream: Send;
    /// Where a connection comes from.
    type From: Send;

    /// The next connection.
    ///
    /// # Errors
    ///
    /// What accept(2) says.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::From)>> + Send;

    /// What is known of a peer, for its authentication.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    fn presented(stream: &Self::Stream, from: &Self::From) -> io::Result<Presented>;

    /// Prepares a connection that is let in.
    fn prepare(stream: &Self::Stream) {
        let _ = stream;
    }

    /// Says a few last words, in one attempt without waiting: an empty socket buffer takes them.
    fn dismiss(stream: Self::Stream, words: &[u8]);
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type From = SocketAddr;

    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        self.accept()
    }

    fn presented(_: &TcpStream, from: &SocketAddr) -> io::Result<Presented> {
        Ok(Presented::Anonymous(*from))
    }

    fn prepare(stream: &TcpStream) {
        // Answers are written whole: nothing is gained by waiting for more. A failure only costs time.
        let _ = stream.set_nodelay(true);
    }

    fn dismiss(stream: TcpStream, words: &[u8]) {
        // Not by way of the runtime, which has not yet heard that the socket can be written to.
        if let Ok(mut stream) = stream.into_std() {
            let _ = stream.write(words);
        }
    }
}

impl Listener for SocketFile {
    type Stream = UnixStream;
    type From = ();

    async fn accept(&self) -> io::Result<(UnixStream, ())> {
        self.listener().accept().await.map(|(stream, _)| (stream, ()))
    }

    fn presented(stream: &UnixStream, (): &()) -> io::Result<Presented> {
        let peer = stream.peer_cred()?;
        Ok(Presented::Unix(UnixPeer { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() }))
    }

    fn dismiss(stream: UnixStream, words: &[u8]) {
        // As for TCP.
        if let Ok(mut stream) = stream.into_std() {
            let _ = stream.write(words);
        }
    }
}

/// Listens on `address` for the door whose settings are in the section `section`; returns the address with the port
/// that the system chose, where 0 was asked for. `holder` says who listens on a port that is taken, as far as can be
/// known. Must be called within a tokio runtime that has I/O enabled.
///
/// # Errors
///
/// With what to set instead.
pub fn bind_tcp(
    section: &str,
    address: SocketAddr,
    holder: fn(SocketAddr) -> Option<String>,
) -> Result<(TcpListener, SocketAddr), BindError> {
    listen(address).map_err(|source| {
        let variable = format!("IPC_GATEWAY__{}__", section.to_ascii_uppercase());
        let reason = match source.kind() {
            io::ErrorKind::AddrInUse => {
                let by = holder(address).map_or_else(String::new, |by| format!(" by {by}"));
                format!("the port is taken{by}; choose another with --set {section}.port=N ({variable}PORT)")
            }
            _ => format!(
                "{source}; choose another with --set {section}.port=N ({variable}PORT) or --set \
                 {section}.address=IP ({variable}ADDRESS)"
            ),
        };
        BindError { address: Address::Tcp(address), reason, source: Some(source) }
    })
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart finds its port free although old connections linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_refused_with_what_to_set() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (taken, address) = bind_tcp("doors", any, |_| None).unwrap();
        assert_eq!(taken.local_addr().unwrap(), address);
        let error = bind_tcp("doors", address, |_| Some("somebody".to_owned())).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {address}: the port is taken by somebody; choose another with --set doors.port=N \
                 (IPC_GATEWAY__DOORS__PORT)"
            )
        );
    }
}
