//! The two backends of the matrix, each with an outside party: who responds, listens and publishes there by
//! other means than the gateway.

use std::time::Duration;

use bytes::Bytes;
use contract::{Headers, Message, Pattern, Subject};
use futures_util::StreamExt;
use ipc_gateway::app::Gateway;
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::embedded::{self, Embedded};
use ipc_gateway::backend::nats::{self, Nats};
use ipc_gateway::config::Config;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::nats_server::NatsServer;

/// Which backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// The broker in the process.
    Embedded,
    /// A real nats-server on this port.
    Nats(u16),
}

impl Behind {
    /// Its name, as the documentation has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Nats(_) => "nats",
        }
    }
}

/// A real nats-server, which ends with this value.
#[allow(missing_debug_implementations, reason = "nobody looks into a process")]
pub struct Server(NatsServer);

impl Server {
    /// Starts one that takes payloads of 8 MiB, so that the doors' own limits are met first.
    pub fn start() -> Self {
        Self(NatsServer::start("max_payload: 8388608"))
    }

    /// The backend that it is.
    pub fn behind(&self) -> Behind {
        Behind::Nats(self.0.port())
    }
}

/// A message as the outside party sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its concrete subject.
    pub subject: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The payload.
    pub payload: Bytes,
}

impl Seen {
    /// The value of a header, found whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }
}

/// An answer: how long it takes, what comes before its end, its headers, its payload.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Waits before answering.
    pub after: Duration,
    /// Payloads of messages before the last, each saying that more follow.
    pub parts: Vec<Bytes>,
    /// Headers.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The payload.
    pub payload: Bytes,
}

/// A backend and its outside party.
#[derive(Debug)]
pub enum Broker {
    /// The broker in the process.
    Embedded(Embedded),
    /// The pool, and a client of the same server.
    Nats(Nats, async_nats::Client),
}

impl Broker {
    /// Opens a backend, reachable.
    pub async fn open(behind: Behind) -> Self {
        match behind {
            Behind::Embedded => {
                Self::Embedded(Embedded::open(embedded::Settings { demo: false, ..Default::default() }))
            }
            Behind::Nats(port) => {
                let url = format!("nats://127.0.0.1:{port}");
                let server = url.parse().expect("the address is one");
                let settings = nats::Settings { servers: vec![server], ..Default::default() };
                let backend = Nats::open(settings).expect("nothing but an address is set");
                backend.reachable().await;
                let outside = async_nats::connect(url).await.expect("the server is there");
                Self::Nats(backend, outside)
            }
        }
    }

    /// Starts a gateway in front of it.
    pub async fn gateway(&self, config: Config) -> Gateway {
        let started = match self {
            Self::Embedded(backend) => Gateway::start_with(config, backend.clone()).await,
            Self::Nats(backend, _) => Gateway::start_with(config, backend.clone()).await,
        };
        started.expect("the gateway starts")
    }

    /// Closes what the gateway has of it, as if it were gone for good.
    pub async fn close(&self) {
        match self {
            Self::Embedded(backend) => backend.close().await,
            Self::Nats(backend, _) => backend.close().await,
        }
    }

    /// Requests that wait for an answer now, as the backend says.
    pub fn waiting(&self) -> u64 {
        let (readings, name) = match self {
            Self::Embedded(backend) => (backend.readings(), "ipc_gateway_embedded_requests_waiting"),
            Self::Nats(backend, _) => (backend.readings(), "ipc_gateway_nats_inbox_slots"),
        };
        let values = readings.into_iter().filter(|reading| reading.name == name);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        values.map(|reading| reading.value as u64).sum()
    }

    /// Answers what comes on `subject`; `None` answers nothing. In force when this returns. Every message is
    /// also told to the ear.
    pub async fn respond<F>(&self, tasks: &mut JoinSet<()>, subject: &str, answer: F) -> Ear
    where
        F: Fn(&Seen) -> Option<Answer> + Clone + Send + Sync + 'static,
    {
        let (tell, ear) = mpsc::unbounded_channel();
        match self {
            Self::Embedded(backend) => {
                let mut incoming = backend.listen(pattern(subject), None);
                tasks.spawn(async move {
                    let mut answers = JoinSet::new();
                    while let Some(message) = incoming.next().await {
                        let headers = message.headers().iter();
                        let seen = Seen {
                            subject: message.subject().to_string(),
                            headers: headers
                                .map(|(name, value)| (name.to_string(), value.to_string()))
                                .collect(),
                            payload: message.payload().clone(),
                        };
                        if let (Some(answer), Some(reply)) = (answer(&seen), message.reply) {
                            answers.spawn(async move {
                                tokio::time::sleep(answer.after).await;
                                for payload in answer.parts {
                                    let _ = reply.send(Message { headers: header_set(&[MORE]), payload });
                                }
                                let headers = header_set(&answer.headers);
                                // Nobody waits for it when the peer is gone, which is what some cases are about.
                                let _ = reply.send(Message { headers, payload: answer.payload });
                            });
                        }
                        let _ = tell.send(seen);
                    }
                });
            }
            Self::Nats(_, outside) => {
                let mut incoming = outside.subscribe(subject.to_owned()).await.expect("connected");
                round_trip(outside).await;
                let client = outside.clone();
                tasks.spawn(async move {
                    let mut answers = JoinSet::new();
                    while let Some(message) = incoming.next().await {
                        let headers = message.headers.unwrap_or_default();
                        let pairs = headers.iter().flat_map(|(name, values)| {
                            values.iter().map(move |value| (name.to_string(), value.as_str().to_owned()))
                        });
                        let seen = Seen {
                            subject: message.subject.to_string(),
                            headers: pairs.collect(),
                            payload: message.payload,
                        };
                        if let (Some(answer), Some(reply)) = (answer(&seen), message.reply) {
                            let client = client.clone();
                            answers.spawn(async move {
                                tokio::time::sleep(answer.after).await;
                                for payload in answer.parts {
                                    let headers = header_map(&[MORE]);
                                    let _ =
                                        client.publish_with_headers(reply.clone(), headers, payload).await;
                                }
                                let headers = header_map(&answer.headers);
                                let _ = client.publish_with_headers(reply, headers, answer.payload).await;
                            });
                        }
                        let _ = tell.send(seen);
                    }
                });
            }
        }
        Ear(ear)
    }

    /// Publishes from outside.
    pub async fn publish(&self, subject: &str, payload: Bytes) {
        self.publish_with(subject, &[], payload).await;
    }

    /// Publishes from outside, with headers.
    pub async fn publish_with(&self, subject: &str, pairs: &[(&'static str, &'static str)], payload: Bytes) {
        match self {
            Self::Embedded(backend) => {
                let subject = Subject::parse(subject).expect("the case's subject is one");
                backend.publish(&subject, &header_set(pairs), &payload).expect("it is small enough");
            }
            Self::Nats(_, outside) => {
                let headers = header_map(pairs);
                outside.publish_with_headers(subject.to_owned(), headers, payload).await.expect("connected");
            }
        }
    }
}

/// What the outside party sees on one subject.
#[derive(Debug)]
pub struct Ear(mpsc::UnboundedReceiver<Seen>);

impl Ear {
    /// The next message; waits as long as it takes (a case has a time limit as a whole).
    pub async fn hear(&mut self) -> Option<Seen> {
        self.0.recv().await
    }
}

/// Sends a message to itself: when it is back, the server has read all that went before.
async fn round_trip(client: &async_nats::Client) {
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.expect("connected");
    client.publish(inbox, Bytes::new()).await.expect("connected");
    back.next().await.expect("connected");
}

/// Says that further messages follow.
pub const MORE: (&str, &str) = ("Ipc-Gateway-More", "1");

fn header_map(pairs: &[(&'static str, &'static str)]) -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, *value);
    }
    headers
}

fn header_set(pairs: &[(&'static str, &'static str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        headers.append(*name, *value).expect("the case's headers are headers");
    }
    headers
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("the case's subject is one")
}
