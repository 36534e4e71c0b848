//! Over real sockets: what tells of a peer's end, and what does not.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::{Departure, Shared, Socket};

/// Far more than anything here takes; what is waited for this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes in time")
}

async fn connected() -> (TcpStream, Shared) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (peer, Shared::new(listener.accept().await.unwrap().0))
}

/// Sees that `count` bytes have come, without reading one.
async fn until_here(shared: &Shared, count: usize) {
    let mut seen = vec![0; count];
    within(async { while shared.0.peek(&mut seen).await.unwrap() < count {} }).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_end_is_noticed_before_what_is_unread() {
    for is_reset in [false, true] {
        let (mut peer, shared) = connected().await;
        let mut noticed = pin!(shared.departure().noticed());
        peer.write_all(&[7; 3000]).await.unwrap();
        until_here(&shared, 3000).await;
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(noticed.as_mut().poll(&mut context), Poll::Pending, "bytes are no end");
        if is_reset {
            peer.set_zero_linger().unwrap();
        }
        drop(peer);
        within(noticed).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_unix_socket_tells_too_and_of_half_an_end_as_well() {
    let (mut peer, end) = UnixStream::pair().unwrap();
    let mut shared = Shared::new(end);
    peer.write_all(b"unread").await.unwrap();
    peer.shutdown().await.unwrap();
    within(shared.departure().noticed()).await;
    // What came before is there, and the way back is open.
    let mut read = String::new();
    within(shared.read_to_string(&mut read)).await.unwrap();
    within(shared.write_all(b"heard")).await.unwrap();
    within(shared.shutdown()).await.unwrap();
    let mut heard = String::new();
    within(peer.read_to_string(&mut heard)).await.unwrap();
    assert_eq!((&*read, &*heard), ("unread", "heard"));
}

#[tokio::test]
async fn where_nothing_tells_nothing_is_noticed() {
    let untold = Departure::<TcpStream>::untold();
    assert!(!untold.is_told());
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(pin!(untold.noticed()).poll(&mut context), Poll::Pending);
}

/// Sends more than any buffer holds, in pieces of this size, and reads it in pieces of that.
async fn carries<S: Socket + Unpin>(shared: Shared<S>, mut peer: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    const BYTES: usize = 8 << 20;
    let sent: Vec<u8> = (0..BYTES).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let mut shared = shared;
    let there = async {
        for piece in sent.chunks(70_001) {
            shared.write_all(piece).await.unwrap();
        }
        let mut back = vec![0; BYTES];
        for piece in back.chunks_mut(3001) {
            shared.read_exact(piece).await.unwrap();
        }
        shared.shutdown().await.unwrap();
        assert_eq!(shared.read(&mut [0]).await.unwrap(), 0, "the end");
        back
    };
    let echo = async {
        let mut heard = vec![0; BYTES];
        peer.read_exact(&mut heard).await.unwrap();
        for piece in heard.chunks(4099) {
            peer.write_all(piece).await.unwrap();
        }
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0, "the end");
        drop(peer);
    };
    let (back, ()) = within(async { tokio::join!(there, echo) }).await;
    assert!(back == sent, "every byte in its order");
}

#[tokio::test]
async fn bytes_pass_both_ways_whatever_the_pieces() {
    let (peer, shared) = connected().await;
    carries(shared, peer).await;
    let (peer, end) = UnixStream::pair().unwrap();
    carries(Shared::new(end), peer).await;
}
