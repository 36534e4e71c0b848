//! Turns of a connection that does what it is told, and a peer that really leaves.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::{Attendant, Turn};
use crate::departure::Shared;

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

#[cfg(target_os = "linux")]
#[tokio::test]
async fn only_a_connection_that_has_work_and_does_not_read_is_cut() {
    let (peer, shared) = connected().await;
    let departure = shared.departure();
    drop(peer);
    within(departure.noticed()).await;

    // It reads three times, what came before the end; then it has no more use for bytes.
    let turn = Turn::default();
    let mut attendant = Attendant::new(turn.clone(), &departure);
    let mut turns = 0;
    let mut connection = pin!(poll_fn(|_| {
        turns += 1;
        if turns <= 3 {
            turn.asked(&Poll::Ready(()));
        }
        Poll::<()>::Pending
    }));
    assert_eq!(within(poll_fn(|context| attendant.poll(context, connection.as_mut(), || true))).await, None);
    assert_eq!(turns, 4, "it is asked again as long as it reads");

    // It waits for bytes: it will find the end itself. Without work there is nothing to give up.
    for (waits, has_work) in [(true, true), (false, false)] {
        let turn = Turn::default();
        let mut attendant = Attendant::new(turn.clone(), &departure);
        let mut turns = 0;
        let mut connection = pin!(poll_fn(|context| {
            turns += 1;
            if waits {
                turn.asked(&Poll::<()>::Pending);
            }
            if turns < 3 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        }));
        let ended = poll_fn(|context| attendant.poll(context, connection.as_mut(), || has_work));
        assert_eq!(within(ended).await, Some(()), "waits: {waits}, has work: {has_work}");
    }
}

#[tokio::test]
async fn a_peer_that_stays_is_served() {
    let (peer, shared) = connected().await;
    let turn = Turn::default();
    let mut attendant = Attendant::new(turn.clone(), &shared.departure());
    let mut turns = 0;
    let mut connection = pin!(poll_fn(|context| {
        turns += 1;
        if turns < 100 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }));
    let ended = poll_fn(|context| attendant.poll(context, connection.as_mut(), || true));
    assert_eq!(within(ended).await, Some(()));
    drop(peer);
}
