//! A service on NATS made of the demo router: messages in, its answers out.
//!
//! It lives here because only this folder names the client library. Nothing of the pool is used here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use futures_util::StreamExt;
use futures_util::stream::select_all;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::backend::outgoing;
use crate::demo_router::{Act, DemoRouter, RESULT};

/// The header of every answer; its value is `true`.
pub const HEADER: &str = "Demo-Router";
/// Requests that may wait for their time at once; more of them wait in the subscription's queue.
const WAITING_MAX: usize = 16_384;
/// Between two attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// On what a router listens.
#[derive(Clone, Debug)]
pub struct Subjects {
    /// The name of the group that shares the requests.
    pub group: String,
    /// What the group shares.
    pub shared: Vec<String>,
    /// What each member hears.
    pub own: Vec<String>,
}

/// Answers until the connection ends for good or the router crashes; either is an error, a line for a person. A
/// server that is not there is tried again for so long as `connect_timeout`: it may have been started just before.
/// `ready` is called once the server has every subscription.
pub async fn serve(
    servers: &str,
    connect_timeout: Duration,
    subjects: Subjects,
    router: Arc<DemoRouter>,
    ready: impl FnOnce(),
) -> Result<(), String> {
    let until = Instant::now() + connect_timeout;
    let client = loop {
        match super::direct::connect(servers).await {
            Ok(client) => break client,
            Err(problem) if Instant::now() >= until => return Err(problem),
            Err(_) => sleep(CONNECT_PAUSE).await,
        }
    };
    let failed = |error: &dyn fmt::Display| format!("cannot listen: {error}");
    let mut subscribers = Vec::new();
    for subject in subjects.shared {
        let subscriber = client.queue_subscribe(subject, subjects.group.clone()).await;
        subscribers.push(subscriber.map_err(|error| failed(&error))?);
    }
    for subject in subjects.own {
        subscribers.push(client.subscribe(subject).await.map_err(|error| failed(&error))?);
    }
    // A message to oneself comes back when the server has read everything before it.
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
    client.publish(inbox, "".into()).await.map_err(|error| failed(&error))?;
    back.next().await.ok_or_else(|| failed(&"the connection ended"))?;
    ready();
    let mut messages = select_all(subscribers);
    let waiting = Arc::new(Semaphore::new(WAITING_MAX));
    let mut answers = JoinSet::new();
    while let Some(message) = messages.next().await {
        while answers.try_join_next().is_some() {}
        match router.act(&message.subject, &message.payload, due(&message)) {
            Act::Silence => {}
            Act::Crash => return Err("crashed, as it was told to".to_owned()),
            // In their order, as one router works.
            Act::Answer { after, times, body, results } if after.is_zero() => {
                answer(&client, &message, times, &body).await;
                report(&client, &results).await;
            }
            Act::Answer { after, times, body, results } => {
                let permit = Arc::clone(&waiting).acquire_owned().await;
                let permit = permit.expect("the semaphore is never closed");
                let client = client.clone();
                answers.spawn(async move {
                    let _permit = permit;
                    sleep(after).await;
                    answer(&client, &message, times, &body).await;
                    report(&client, &results).await;
                });
            }
        }
    }
    Err("the connection to NATS has ended".to_owned())
}

async fn answer(client: &Client, message: &Message, times: u8, body: &serde_json::Value) {
    let Some(inbox) = &message.reply else { return };
    let mut headers = HeaderMap::new();
    headers.insert(HEADER, "true");
    // What a peer's own headers were comes back, so that a test sees that they arrived.
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        if name.to_string().to_ascii_lowercase().starts_with("x-") {
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
    }
    for _ in 0..times {
        let sent = client.publish_with_headers(inbox.clone(), headers.clone(), body.to_string().into()).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "an answer was not sent");
        }
    }
}

async fn report(client: &Client, results: &[serde_json::Value]) {
    for result in results {
        if let Err(error) = client.publish(RESULT, result.to_string().into()).await {
            tracing::debug!(%error, "a result was not sent");
        }
    }
}

fn due(message: &Message) -> Option<Duration> {
    let left = message.headers.as_ref()?.get(outgoing::TIMEOUT_MS)?;
    left.as_str().parse().ok().map(Duration::from_millis)
}
