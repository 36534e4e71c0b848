//! A bucket of a JetStream key-value store (ADR-8), on the pool's own connections: what idempotency keys are shared by.
//!
//! By hand and not with the library's client of JetStream: three subjects are all there is to it, the library's would
//! bring an inbox, timeouts and a dozen dependencies of its own, and its connection is kept from reconnecting by itself
//! (`connect.rs`). The subjects are those of any NATS client, so `nats kv` shows and edits the bucket.

use std::sync::Arc;

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::inbox::{Fault, Purpose, Refusal};
use super::link::Use;
use super::pool::Pool;
use super::settings::BucketSettings;
use crate::services::idempotency::{Bucket, Digest, Put, Stored, Trouble, Work};

/// What a put demands: the sequence number of the last message of its subject, 0 for none (ADR-8).
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// The revision of a value that was got (ADR-31).
const SEQUENCE: &str = "Nats-Sequence";
/// The server's errors by number (`server/errors.json`): another sequence number than was demanded; and a stream that is
/// there with other settings, which somebody chose.
const WRONG_SEQUENCE: [u32; 2] = [10_071, 10_164];
const EXISTS: u32 = 10_058;
/// What a message has beside its value: the headers of one that is put, or of one that is got.
const HEADERS_BYTES: usize = 1024;
/// The limit of a server's messages unless it was told otherwise, while none can be asked.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// The bucket. It is made when it is needed first.
pub(super) struct KeyValue {
    pub(super) pool: Arc<Pool>,
    pub(super) settings: BucketSettings,
}

impl std::fmt::Debug for KeyValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KeyValue").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Bucket for KeyValue {
    fn get(&self, key: Digest) -> Work<'_, Option<Stored>> {
        Box::pin(async move {
            let place = self.place(key);
            let subject = format!("$JS.API.DIRECT.GET.KV_{}.{place}", self.settings.name);
            let message = self.exchange(&subject, None, Bytes::new()).await?;
            match message.status {
                Some(StatusCode::NOT_FOUND) => return Ok(None),
                // Nothing is looked up before something was put, so the bucket is there.
                Some(StatusCode::NO_RESPONDERS) => {
                    return Err(trouble("the bucket is gone, or was made without allow_direct"));
                }
                Some(status) => return Err(trouble(format!("the bucket answers {status}"))),
                None => {}
            }
            let revision = message.headers.as_ref().and_then(|headers| headers.get(SEQUENCE));
            let revision = revision.and_then(|revision| revision.as_str().parse().ok());
            let revision = revision.ok_or_else(|| trouble("an entry of the bucket has no revision"))?;
            Ok(Some(Stored { value: message.payload, revision }))
        })
    }

    fn put(&self, key: Digest, value: Bytes, after: u64) -> Work<'_, Put> {
        Box::pin(async move {
            let place = self.place(key);
            let mut headers = HeaderMap::new();
            headers.insert(EXPECTED, after.to_string());
            let mut message = self.exchange(&place, Some(headers.clone()), value.clone()).await?;
            if message.status == Some(StatusCode::NO_RESPONDERS) {
                self.make().await?;
                message = self.exchange(&place, Some(headers), value).await?;
            }
            let answer = Answer::read(&message)?;
            match (answer.seq, answer.error) {
                (Some(revision), None) => Ok(Put::Done(revision)),
                (_, Some(error)) if WRONG_SEQUENCE.contains(&error.err_code) => Ok(Put::Changed),
                (_, error) => Err(refused(error)),
            }
        })
    }

    fn value_bytes_max(&self) -> usize {
        let link = self.pool.choose();
        link.map_or(PAYLOAD_BYTES_MAX, |link| link.payload_bytes_max()).saturating_sub(HEADERS_BYTES)
    }
}

impl KeyValue {
    fn place(&self, key: Digest) -> String {
        format!("$KV.{}.{}", self.settings.name, key.hex())
    }

    /// Makes the stream of the bucket, as every client makes it (ADR-8).
    async fn make(&self) -> Result<(), Trouble> {
        let BucketSettings { name, bytes_max, replicas, age_max } = &self.settings;
        let nanoseconds = u64::try_from(age_max.as_nanos()).unwrap_or(u64::MAX);
        // Two minutes are the server's own choice, and it must not be longer than the age.
        let duplicate_window = nanoseconds.min(120_000_000_000);
        let config = json!({
            "name": format!("KV_{name}"),
            "description": "Idempotency keys that gateways share",
            "subjects": [format!("$KV.{name}.>")],
            "retention": "limits",
            "storage": "file",
            // What is new is refused when it is full, and nothing that somebody relies on goes.
            "discard": "new",
            "max_msgs_per_subject": 1,
            "max_age": nanoseconds,
            "max_bytes": bytes_max,
            "num_replicas": replicas,
            "duplicate_window": duplicate_window,
            "allow_rollup_hdrs": true,
            "deny_delete": true,
            "allow_direct": true,
        });
        let subject = format!("$JS.API.STREAM.CREATE.KV_{name}");
        let message = self.exchange(&subject, None, config.to_string().into()).await?;
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(trouble("the NATS server has no JetStream, or none for this account"));
        }
        match Answer::read(&message)?.error {
            None => {
                tracing::info!(bucket = name, "made the bucket of idempotency keys");
                Ok(())
            }
            Some(error) if error.err_code == EXISTS => Ok(()),
            error => Err(refused(error)),
        }
    }

    /// Sends a message and waits for the answer to it, for as long as the caller does.
    async fn exchange(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Message, Trouble> {
        let link = Use::of(self.pool.choose().map_err(|error| trouble(error.text()))?);
        let ticket = link.inbox.register(Bytes::copy_from_slice(subject.as_bytes()), Purpose::Request);
        let ticket = ticket.map_err(|refusal| match refusal {
            Refusal::Full => trouble("too many requests wait for NATS"),
            Refusal::Closed(_) => trouble("the connection to NATS was lost"),
        })?;
        let reply = Some(ticket.reply_subject().try_into().expect("an inbox subject is ASCII"));
        let message = OutboundMessage { subject: subject.into(), reply, payload, headers };
        let message =
            link.queue.admit(message).map_err(|_| trouble("too many bytes wait to be sent to NATS"))?;
        link.publish(message).await.map_err(|error| trouble(error.to_string()))?;
        ticket.await.map_err(|fault| match fault {
            Fault::Lost => trouble("the connection to NATS was lost"),
            Fault::NoRoom => trouble("there is no memory for the answer"),
            Fault::Denied => trouble(format!("the NATS server does not permit publishing to {subject}")),
        })
    }
}

/// What JetStream answers.
#[derive(Debug, Deserialize)]
struct Answer {
    seq: Option<u64>,
    error: Option<Refused>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

impl Answer {
    fn read(message: &Message) -> Result<Self, Trouble> {
        if let Some(status) = message.status {
            return Err(trouble(format!("JetStream answers {status}")));
        }
        serde_json::from_slice(&message.payload).map_err(|_| trouble("JetStream answers what it should not"))
    }
}

fn refused(error: Option<Refused>) -> Trouble {
    let said = error.map_or_else(|| "nothing".to_owned(), |error| error.description);
    trouble(format!("JetStream refuses: {said}"))
}

fn trouble(what: impl Into<String>) -> Trouble {
    Trouble(what.into())
}
