//! One publisher and many WebSockets that all get everything: deliveries for a second of processor time.
//!
//! A batch is published when all have the batch before, so that no queue is ever full, nothing is lost and the
//! figure is that of the work alone. The same subscribers then listen to nats-server's own WebSocket listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::cpu;
use super::nats_web_socket::NatsCore;
use super::plan::Target;
use crate::client::{Call, Line, Lost, Say, Via, What, web_socket};

/// Messages of a batch: well below what a subscription's queue holds.
const BATCH: u64 = 32;
/// How long a batch may take.
const BATCH_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of each message.
const PAYLOAD_BYTES: usize = 256;
/// The subject.
const SUBJECT: &str = "bench.fanout";

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// The gateway's WebSocket door, with version 2.
    Gateway,
    /// nats-server's own WebSocket listener.
    Nats,
}

/// What was found of one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct FanOut {
    /// Who served.
    pub(super) server: Server,
    /// Subscribers.
    pub(super) subscribers: usize,
    /// Messages that reached a subscriber, all together.
    pub(super) deliveries: u64,
    /// How long that took.
    pub(super) took: Duration,
    /// Processor time of the process that served.
    pub(super) cpu: Duration,
    /// Processor time of nats-server behind the gateway; the same as `cpu` without a gateway.
    pub(super) cpu_nats: Duration,
}

impl FanOut {
    /// Measures one server. Fails with a line for a person.
    pub(super) async fn measure(
        target: &Target,
        server: Server,
        subscribers: usize,
        (warmup, duration): (Duration, Duration),
    ) -> Result<Self, String> {
        let nats = target.nats_pid.ok_or("nats-server's process is not known")?;
        let serving = match server {
            Server::Gateway => target.gateway_pid.ok_or("the gateway's process is not known")?,
            Server::Nats => nats,
        };
        let mut crowd = Crowd::gather(target, server, subscribers).await?;
        let mut publisher = crowd.open().await?;
        let until = Instant::now() + warmup;
        let mut sent = 0;
        while Instant::now() < until {
            crowd.batch(&mut *publisher, &mut sent).await?;
        }
        let used = || cpu::used(serving).zip(cpu::used(nats)).ok_or("the system tells no processor time");
        let (before, begin, first) = (used()?, Instant::now(), sent);
        while begin.elapsed() < duration {
            crowd.batch(&mut *publisher, &mut sent).await?;
        }
        let (took, after) = (begin.elapsed(), used()?);
        Ok(Self {
            server,
            subscribers,
            deliveries: (sent - first) * subscribers as u64,
            took,
            cpu: after.0.saturating_sub(before.0),
            cpu_nats: after.1.saturating_sub(before.1),
        })
    }

    /// Deliveries for a second of processor time of the process that serves.
    pub(super) fn per_cpu_second(&self) -> f64 {
        self.per(self.cpu)
    }

    /// Deliveries a second.
    pub(super) fn per_second(&self) -> f64 {
        self.per(self.took)
    }

    /// Deliveries for a second of processor time of all that serve: the gateway with nats-server behind it.
    pub(super) fn per_cpu_second_of_all(&self) -> f64 {
        self.per(match self.server {
            Server::Gateway => self.cpu + self.cpu_nats,
            Server::Nats => self.cpu,
        })
    }

    fn per(&self, time: Duration) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of what a person waits for")]
        let deliveries = self.deliveries as f64;
        deliveries / time.as_secs_f64().max(f64::EPSILON)
    }

    /// For programs.
    pub(super) fn to_json(self) -> Value {
        json!({
            "server": match self.server { Server::Gateway => "gateway", Server::Nats => "nats-server" },
            "subscribers": self.subscribers,
            "payload_bytes": PAYLOAD_BYTES,
            "deliveries": self.deliveries,
            "deliveries_per_second": self.per_second(),
            "deliveries_per_cpu_second": self.per_cpu_second(),
            "deliveries_per_cpu_second_of_all": self.per_cpu_second_of_all(),
        })
    }
}

/// All subscribers of one server.
struct Crowd<'a> {
    target: &'a Target,
    server: Server,
    count: u64,
    heard: Arc<Heard>,
    tasks: JoinSet<String>,
}

/// What all have heard together.
#[derive(Debug, Default)]
struct Heard {
    deliveries: AtomicU64,
    /// The count at which somebody waits.
    awaited: AtomicU64,
    reached: Notify,
}

impl<'a> Crowd<'a> {
    async fn gather(target: &'a Target, server: Server, subscribers: usize) -> Result<Self, String> {
        let mut crowd =
            Self { target, server, count: subscribers as u64, heard: Arc::default(), tasks: JoinSet::new() };
        for _ in 0..subscribers {
            let mut line = crowd.open().await?;
            let call = Call { subject: SUBJECT.to_owned(), ..Call::default() };
            line.say(1, &Say::Subscribe(call)).map_err(|failure| failure.to_string())?;
            let accepted = timeout(BATCH_LIMIT, line.heard()).await.map_err(|_| "no answer".to_owned())?;
            match accepted.map_err(|lost| lost.to_string())?.what {
                What::Accepted => {}
                other => return Err(format!("a subscription was not accepted: {other:?}")),
            }
            crowd.tasks.spawn(listen(line, Arc::clone(&crowd.heard)));
        }
        Ok(crowd)
    }

    async fn open(&self) -> Result<Box<dyn Line>, String> {
        let opened = match self.server {
            Server::Gateway => Via::WsBinary.open(&self.target.reach).await,
            Server::Nats => {
                let address = self.target.nats_web_socket.as_deref();
                web_socket::<NatsCore>(address.ok_or("nats-server has no WebSocket listener")?).await
            }
        };
        opened.map_err(|lost: Lost| lost.to_string())
    }

    /// Publishes a batch and waits until all have it.
    async fn batch(&mut self, publisher: &mut dyn Line, sent: &mut u64) -> Result<(), String> {
        for number in 1..=BATCH {
            let payload = Bytes::from_static(&[b'x'; PAYLOAD_BYTES]);
            let call = Call { subject: SUBJECT.to_owned(), payload, ..Call::default() };
            publisher.say(number, &Say::Publish(call)).map_err(|failure| failure.to_string())?;
        }
        *sent += BATCH;
        let goal = *sent * self.count;
        self.heard.awaited.store(goal, Ordering::SeqCst);
        let all = async {
            // NATS gives no answers to publishes.
            let (mut answered, answers) = (0, if self.server == Server::Gateway { BATCH } else { 0 });
            while self.heard.deliveries.load(Ordering::SeqCst) < goal || answered < answers {
                tokio::select! {
                    () = self.heard.reached.notified() => {}
                    Some(ended) = self.tasks.join_next() => {
                        return Err(format!("a subscriber did not get everything: {ended:?}"));
                    }
                    // Polling writes, too.
                    heard = publisher.heard() => match heard.map_err(|lost| lost.to_string())?.what {
                        What::Accepted => answered += 1,
                        other => return Err(format!("a publish was not accepted: {other:?}")),
                    },
                }
            }
            Ok(())
        };
        timeout(BATCH_LIMIT, all).await.unwrap_or_else(|_| Err("a batch did not arrive in time".to_owned()))
    }
}

/// Counts what is delivered, until something else is told, which it gives back.
async fn listen(mut line: Box<dyn Line>, heard: Arc<Heard>) -> String {
    loop {
        match line.heard().await {
            Ok(told) if matches!(told.what, What::Delivery { .. }) => {
                let count = heard.deliveries.fetch_add(1, Ordering::SeqCst) + 1;
                if count == heard.awaited.load(Ordering::SeqCst) {
                    heard.reached.notify_one();
                }
            }
            other => {
                return format!("{other:?}");
            }
        }
    }
}
