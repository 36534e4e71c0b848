//! The outside party: services that answer on NATS, and how a gateway is put in front of them.

use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::gateway::{Gateway, PATIENCE, Start};
use crate::nats_server::NatsServer;

/// Where version 1 sends its tasks.
pub(crate) const DECIDE: &str = "beamline.router.v1.decide";

/// How many connections a gateway of [`in_front_of`] keeps; it opens no more, so that what it holds can be compared.
const CONNECTIONS: f64 = 2.0;

/// A look at something that may not be there yet.
pub(crate) const GLANCE: Duration = Duration::from_millis(5);

/// A gateway for this server, which it need not reach; told by the variable that the predecessor had. Tasks pass as
/// they are.
pub(crate) fn in_front_of(server: &NatsServer) -> Start {
    in_front_of_a_router(server).raw_tasks()
}

/// As [`in_front_of`], with the router's profile for tasks, as it is by default.
pub(crate) fn in_front_of_a_router(server: &NatsServer) -> Start {
    let start = Gateway::with().environment("NATS_URL", &server.url());
    start.set("nats.reconnect_delay_ms_max=100").set("nats.pool_connections_max=2")
}

/// Waits until every connection that the gateway keeps is there.
pub(crate) fn until_connected(gateway: &Gateway) {
    gateway.until("ipc_gateway_nats_connections{state=\"connected\"}", CONNECTIONS);
}

/// A client of the server. It ends with all that it listens to.
pub(crate) struct Outside {
    runtime: Runtime,
    client: async_nats::Client,
}

impl Outside {
    /// Connects.
    pub(crate) fn of(server: &NatsServer) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async_nats::connect(server.url())).unwrap();
        Self { runtime, client }
    }

    /// Answers every request on `subject`; in force when this returns.
    pub(crate) fn respond(&self, subject: &'static str, answer: impl Fn(Bytes) -> Bytes + Send + 'static) {
        let Listening { mut subscriber, .. } = self.listen(subject);
        let client = self.client.clone();
        self.runtime.spawn(async move {
            while let Some(Message { reply: Some(reply), payload, .. }) = subscriber.next().await {
                client.publish(reply, answer(payload)).await.unwrap();
            }
        });
    }

    /// An inbox of its own, to which questions of [`Self::ask_from`] are answered.
    pub(crate) fn inbox(&self) -> (Inbox, Listening<'_>) {
        let inbox = self.client.new_inbox();
        let subscriber = self.runtime.block_on(self.client.subscribe(inbox.clone())).unwrap();
        (Inbox(inbox), Listening { outside: self, subscriber })
    }

    /// Asks; the answer comes to the inbox.
    pub(crate) fn ask_from(
        &self,
        inbox: &Inbox,
        subject: &str,
        headers: HeaderMap,
        payload: impl Into<Bytes>,
    ) {
        let (subject, inbox) = (subject.to_owned(), inbox.0.clone());
        let sent = self.client.publish_with_reply_and_headers(subject, inbox, headers, payload.into());
        self.runtime.block_on(sent).unwrap();
    }

    /// Listens, and answers nothing by itself; in force when this returns.
    pub(crate) fn listen(&self, subject: &'static str) -> Listening<'_> {
        let subscriber = self.runtime.block_on(async {
            let subscriber = self.client.subscribe(subject).await.unwrap();
            // A message that comes back says that the server has read the subscription.
            let inbox = self.client.new_inbox();
            let mut back = self.client.subscribe(inbox.clone()).await.unwrap();
            self.client.publish(inbox, Bytes::new()).await.unwrap();
            back.next().await.unwrap();
            subscriber
        });
        Listening { outside: self, subscriber }
    }
}

/// Where answers come.
pub(crate) struct Inbox(String);

/// A subscription.
pub(crate) struct Listening<'outside> {
    outside: &'outside Outside,
    subscriber: Subscriber,
}

impl Listening<'_> {
    /// The next message.
    pub(crate) fn next(&mut self) -> Message {
        let next = async { timeout(PATIENCE, self.subscriber.next()).await };
        self.outside.runtime.block_on(next).expect("a message comes").unwrap()
    }

    /// The next message, if one comes within a moment.
    pub(crate) fn glance(&mut self) -> Option<Message> {
        let next = async { timeout(GLANCE, self.subscriber.next()).await };
        self.outside.runtime.block_on(next).ok().map(|message| message.unwrap())
    }

    /// Answers a message.
    pub(crate) fn answer(&self, message: &Message, payload: impl Into<Bytes>) {
        let reply = message.reply.clone().unwrap();
        self.outside.runtime.block_on(self.outside.client.publish(reply, payload.into())).unwrap();
    }

    /// Answers a message with one of several parts.
    pub(crate) fn part(&self, message: &Message, payload: impl Into<Bytes>, more: bool) {
        let reply = message.reply.clone().unwrap();
        let mut headers = HeaderMap::new();
        if more {
            headers.insert("Ipc-Gateway-More", "1");
        }
        let sent = self.outside.client.publish_with_headers(reply, headers, payload.into());
        self.outside.runtime.block_on(sent).unwrap();
    }

    /// Sees that what was answered has left.
    pub(crate) fn flush(&self) {
        self.outside.runtime.block_on(self.outside.client.flush()).unwrap();
    }
}
