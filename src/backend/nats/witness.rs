//! A responder that is the soak's witness: it tells of every request before it deals with it, so that what was
//! answered has been told, and what was told may have been answered.
//!
//! It lives here because only this folder names the client library. Nothing of the pool is used.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use bytes::Bytes;
use contract::Subject;
use futures_util::{FutureExt as _, StreamExt, stream::FuturesUnordered};
use tokio::time::{sleep, timeout};

use super::direct::connect;
use crate::backend::incoming::ERROR;

/// Answers that wait for their time at once; above it they are given at once.
const WAITING_MAX: usize = 65_536;
/// How long it takes to stop, at most: the server may be gone.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What is done about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deed {
    /// How long it takes.
    pub wait: Duration,
    /// Whether the answer is a no.
    pub is_no: bool,
}

/// Answers requests on `subject` with their payload, until `stop` is over; then it answers what has come and
/// ends. `note` is given each payload before anything else is done about it. Fails with a line for a person.
pub async fn serve(
    servers: &str,
    subject: &Subject,
    mut note: impl FnMut(&[u8]) -> Result<Deed, String>,
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let client = connect(servers).await?;
    let failed = |error: &dyn std::fmt::Display| format!("cannot answer on {subject}: {error}");
    let mut requests = client.subscribe(subject.as_str().to_owned()).await.map_err(|error| failed(&error))?;
    let mut waiting = FuturesUnordered::new();
    let mut stop = pin!(stop.fuse());
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(answer) = waiting.next() => send(&client, answer).await?,
            request = requests.next() => {
                let Some(request) = request else { break };
                if let Some((wait, answer)) = deal(request, &mut note)? {
                    if wait.is_zero() || waiting.len() >= WAITING_MAX {
                        send(&client, answer).await?;
                    } else {
                        waiting.push(sleep(wait).map(move |()| answer));
                    }
                }
            }
        }
    }
    let stopping = async {
        requests.drain().await.map_err(|error| failed(&error))?;
        while let Some(request) = requests.next().await {
            if let Some((_, answer)) = deal(request, &mut note)? {
                send(&client, answer).await?;
            }
        }
        client.flush().await.map_err(|error| failed(&error))
    };
    // Who does not hear of the end in time is gone: what it would have asked was not taken.
    timeout(STOP_LIMIT, stopping).await.unwrap_or(Ok(()))
}

/// An answer, and where it goes.
struct Answer {
    to: async_nats::Subject,
    is_no: bool,
    payload: Bytes,
}

fn deal(
    request: Message,
    note: &mut impl FnMut(&[u8]) -> Result<Deed, String>,
) -> Result<Option<(Duration, Answer)>, String> {
    let Deed { wait, is_no } = note(&request.payload)?;
    let Message { reply, payload, .. } = request;
    Ok(reply.map(|to| (wait, Answer { to, is_no, payload })))
}

async fn send(client: &Client, answer: Answer) -> Result<(), String> {
    let Answer { to, is_no, payload } = answer;
    let sent = if is_no {
        let mut headers = HeaderMap::new();
        headers.insert(ERROR, "soak_no");
        client.publish_with_headers(to, headers, payload).await
    } else {
        client.publish(to, payload).await
    };
    sent.map_err(|error| format!("cannot answer: {error}"))
}
