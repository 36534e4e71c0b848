//! The benchmark's yardstick: a plain client of NATS, beside the gateway and without it, and the responder
//! that both ask. Nothing of the pool is used here.
//!
//! It lives here because only this folder names the client library. It sends the headers that the gateway
//! sends, made anew for each request as the gateway makes them: they are the larger part of a small message.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, RequestErrorKind};
use bytes::Bytes;
use contract::{
    Headers, Identity, Kind, Method, Origin, PeerAddress, Request, Subject, Target, TraceContext,
};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::headers;
use crate::backend::outgoing::RequestId;

/// How long a request may take: as the gateway's route for tasks.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A client with a connection of its own.
#[derive(Clone)]
pub struct Direct {
    client: Client,
    subject: Subject,
    origin: Arc<Origin>,
}

impl Direct {
    /// Connects to the servers, and will ask on `subject`. Fails with a line for a person.
    pub async fn connect(servers: &str, subject: Subject) -> Result<Self, String> {
        let client = connect(servers).await?;
        let identity = Identity::new("uid:1000", Method::Local);
        let origin = Origin { door: "unix", identity, address: PeerAddress::Unix, connection: 1 };
        Ok(Self { client, subject, origin: Arc::new(origin) })
    }

    /// Asks with `payload`, and gives the payload of the answer, or what kind of failure came.
    pub fn request(&self, payload: Bytes) -> impl Future<Output = Result<Bytes, Kind>> + Send + 'static {
        let Self { client, subject, origin } = self.clone();
        async move {
            let received = Instant::now();
            let request = Request {
                target: Target::Request(subject.clone()),
                headers: Headers::new(),
                payload: Bytes::new(),
                received,
                deadline: received + TIMEOUT,
                idempotent: false,
                ordered: false,
                parts: false,
                queue: None,
                trace: TraceContext::start(),
                origin,
            };
            let message = async_nats::Request::new()
                .headers(headers::outgoing(&request, &RequestId::random()))
                .payload(payload)
                .timeout(Some(TIMEOUT));
            let answer = client.send_request(subject.as_str().to_owned(), message).await;
            answer.map(|message| message.payload).map_err(|error| match error.kind() {
                RequestErrorKind::TimedOut => Kind::TimedOut,
                RequestErrorKind::NoResponders => Kind::NoResponders,
                RequestErrorKind::MaxPayloadExceeded => Kind::TooLarge,
                RequestErrorKind::InvalidSubject => Kind::Invalid,
                RequestErrorKind::Other => Kind::Unavailable,
            })
        }
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Direct").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// Answers every request on `subject` with its payload, until it is dropped. `ready` is called once the
/// subscription is in force.
pub async fn echo(servers: &str, subject: &Subject, ready: impl FnOnce()) -> Result<(), String> {
    let client = connect(servers).await?;
    let failed = |error: &dyn fmt::Display| format!("cannot answer on {subject}: {error}");
    let mut requests = client.subscribe(subject.as_str().to_owned()).await.map_err(|error| failed(&error))?;
    client.flush().await.map_err(|error| failed(&error))?;
    ready();
    while let Some(request) = requests.next().await {
        if let Some(reply) = request.reply {
            client.publish(reply, request.payload).await.map_err(|error| failed(&error))?;
        }
    }
    Ok(())
}

pub(super) async fn connect(servers: &str) -> Result<Client, String> {
    let addresses: Vec<_> = servers.split(',').map(str::trim).collect();
    // Room for what may be in flight at once, so that no message of a measurement is dropped.
    let options = ConnectOptions::new().subscription_capacity(65_536);
    options.connect(addresses.as_slice()).await.map_err(|error| format!("cannot connect to NATS: {error}"))
}
