//! Version 2 of the IPC protocol under load, with a real nats-server behind: ten thousand questions on one
//! connection, and one frozen subscriber among a thousand.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use contract::{Pattern, Subject};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use wire::binary::client::{Heard, hear, say};
use wire::frame::FRAME_BYTES_MAX;
use wire::{Id, Inbound, Question};

use crate::gateway::{Gateway, PATIENCE};
use crate::nats_server::NatsServer;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn bytes_of(messages: &[Inbound]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for message in messages {
        say(message, FRAME_BYTES_MAX, &mut bytes).unwrap();
    }
    bytes
}

fn request(number: u64, subject: &'static str, payload: impl Into<Bytes>) -> Inbound {
    let question = Question { payload: payload.into(), ..Question::default() };
    Inbound::Request { id: Id::Number(number), subject: Subject::from_static(subject), question }
}

async fn next(reader: &mut (impl AsyncReadExt + Unpin)) -> Heard {
    let frame = async {
        let mut header = [0; 6];
        reader.read_exact(&mut header).await.unwrap();
        assert_eq!(header[4], 2);
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let mut body = BytesMut::zeroed(length - 6);
        reader.read_exact(&mut body).await.unwrap();
        hear(header[5], body.freeze()).unwrap()
    };
    tokio::time::timeout(PATIENCE, frame).await.expect("an answer comes in time")
}

fn number(id: &Id) -> u64 {
    let Id::Number(number) = id else { panic!("{id:?}") };
    *number
}

/// Answers each request on a subject with its own payload.
async fn echo(url: &str, subject: &'static str) -> async_nats::Client {
    let client = async_nats::connect(url).await.unwrap();
    let mut requests = client.subscribe(subject).await.unwrap();
    // A message that comes back says that the server has read the subscription; a flush does not.
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, Bytes::new()).await.unwrap();
    back.next().await.unwrap();
    let responder = client.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply {
                responder.publish(reply, request.payload).await.unwrap();
            }
        }
    });
    client
}

#[test]
fn ten_thousand_pipelined_requests_come_back_each_to_its_own_id_while_some_are_cancelled() {
    const REQUESTS: u64 = 10_000;
    const EVERY: u64 = 7;
    let nats = NatsServer::start("");
    let gateway = Gateway::with().environment("NATS_URL", &nats.url()).gateway();
    gateway.until("ipc_gateway_backend_connected", 1.0);
    runtime().block_on(async {
        let _responder = echo(&nats.url(), "svc.echo").await;
        let stream = UnixStream::connect(gateway.socket()).await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let writing = tokio::spawn(async move {
            for first in (0..REQUESTS).step_by(100) {
                let mut messages = Vec::new();
                for id in first..first + 100 {
                    messages.push(request(id, "svc.echo", format!("payload of {id}")));
                    if id % EVERY == 0 {
                        messages.push(Inbound::Cancel { id: Id::Number(id) });
                    }
                }
                writer.write_all(&bytes_of(&messages)).await.unwrap();
            }
            writer
        });
        let mut reader = BufReader::new(reader);
        let mut answers = HashSet::new();
        let mut cancelled = 0;
        while answers.len() < usize::try_from(REQUESTS).unwrap() {
            let id = match next(&mut reader).await {
                Heard::Reply { id, message, more: false } => {
                    assert_eq!(message.payload, format!("payload of {}", number(&id)));
                    number(&id)
                }
                Heard::Error { id: Some(id), failure } => {
                    assert_eq!((&*failure.kind, number(&id) % EVERY), ("cancelled", 0), "{failure:?}");
                    cancelled += 1;
                    number(&id)
                }
                other => panic!("{other:?}"),
            };
            assert!(answers.insert(id), "two answers for {id}");
        }
        assert!(cancelled > 0, "none of {} was cancelled", REQUESTS / EVERY);
        // The connection goes on, and nothing more comes for what was answered.
        let mut writer = writing.await.unwrap();
        writer.write_all(&bytes_of(&[request(u64::MAX, "svc.echo", "last")])).await.unwrap();
        let Heard::Reply { id, .. } = next(&mut reader).await else { panic!() };
        assert_eq!(number(&id), u64::MAX);
    });
    gateway.until("ipc_gateway_nats_inbox_slots", 0.0);
    gateway.stop();
}

/// Subscribes and counts what comes, until `all` messages came.
async fn listen(socket: PathBuf, all: usize, heard: Arc<AtomicUsize>, one_more: Arc<Notify>) {
    let mut stream = BufReader::new(subscribed(&socket).await);
    for expected in 0..all {
        let Heard::Delivery { delivery, .. } = next(&mut stream).await else {
            panic!("a reader in step loses nothing")
        };
        assert_eq!(delivery.payload[..8], (expected as u64).to_be_bytes());
        heard.fetch_add(1, Ordering::SeqCst);
        one_more.notify_one();
    }
}

async fn subscribed(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let pattern = Pattern::from_static("news.*");
    let question = Question::default();
    let subscribe = Inbound::Subscribe { id: Id::Number(1), pattern, question };
    stream.write_all(&bytes_of(&[subscribe])).await.unwrap();
    assert!(matches!(next(&mut stream).await, Heard::Accepted { .. }));
    stream
}

#[test]
fn one_frozen_subscriber_of_a_thousand_is_told_exactly_what_it_missed_while_the_others_got_everything() {
    const LISTENERS: usize = 999;
    const MESSAGES: usize = 400;
    const BATCH: usize = 20;
    const BYTES: usize = 2048;
    let nats = NatsServer::start("");
    let gateway = Gateway::with()
        .environment("NATS_URL", &nats.url())
        .set("hub.queue_messages_max=100")
        .set("ipc.connections_max=1100")
        .gateway();
    gateway.until("ipc_gateway_backend_connected", 1.0);
    runtime().block_on(async {
        let mut frozen = subscribed(&gateway.socket()).await;
        let (heard, one_more) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let listeners: Vec<_> = (0..LISTENERS)
            .map(|_| tokio::spawn(listen(gateway.socket(), MESSAGES, heard.clone(), one_more.clone())))
            .collect();
        while gateway.metrics().door("streams") < f64::from(u32::try_from(LISTENERS + 1).unwrap()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let publisher = async_nats::connect(nats.url()).await.unwrap();
        for batch in (0..MESSAGES).step_by(BATCH) {
            for message in batch..batch + BATCH {
                let mut payload = vec![0; BYTES];
                payload[..8].copy_from_slice(&(message as u64).to_be_bytes());
                publisher.publish("news.today", payload.into()).await.unwrap();
            }
            publisher.flush().await.unwrap();
            // In step with the readers, so that none of them is slow: whatever a listener loses, the frozen
            // one has not slowed it down.
            while heard.load(Ordering::SeqCst) < LISTENERS * (batch + BATCH) {
                tokio::time::timeout(PATIENCE, one_more.notified()).await.expect("the others go on");
            }
        }
        for listener in listeners {
            listener.await.unwrap();
        }
        // The frozen one wakes up: what it gets and what it is told to have lost is everything, in order.
        let (mut position, mut lost_in_all) = (0, 0);
        while position < MESSAGES as u64 {
            match next(&mut frozen).await {
                Heard::Delivery { delivery, .. } => {
                    assert_eq!(delivery.payload[..8], position.to_be_bytes());
                    position += 1;
                }
                Heard::Gap { lost: Some(lost), .. } => {
                    position += lost.get();
                    lost_in_all += lost.get();
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(lost_in_all > 0 && position == MESSAGES as u64, "{lost_in_all} lost, at {position}");
    });
    gateway.stop();
}
