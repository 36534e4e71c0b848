//! A session of the Unix socket costs at most one heap allocation a request: the copy of what was read, which
//! outlives the read buffer. Counted on the thread that serves, with a client on another.

#![expect(
    clippy::unwrap_used,
    reason = "tests state their expectations with unwrap, in functions they share too"
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use contract::{
    Admission, Authenticate, ByteBudget, Drain, Error, Frontend, Gate, Identity, Message, Method, Presented,
    Reply, Request, Subject, Timeouts,
};
use ipc::{Settings, UnixSocket};
use wire::binary::client::say;
use wire::{Id, Inbound, Question};

struct Everybody;

impl Authenticate for Everybody {
    fn authenticate(&self, _: &Presented) -> Result<Identity, Error> {
        Ok(Identity::new("uid:0", Method::Local))
    }
}

/// Answers at once with the payload it was asked with.
#[derive(Clone)]
struct Echo;

impl tower_service::Service<Request> for Echo {
    type Response = Reply;
    type Error = Error;
    type Future = std::future::Ready<Result<Reply, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        std::future::ready(Ok(Reply::Message(Message { payload: request.payload, ..Message::default() })))
    }
}

fn gate() -> Gate<Echo> {
    Gate {
        pipeline: Echo,
        authenticate: Arc::new(Everybody),
        drain: Drain::new(),
        meters: Arc::default(),
        budget: ByteBudget::new(1 << 28),
        admission: Admission::default(),
        timeouts: Timeouts { max: Duration::from_secs(30) },
    }
}

fn settings(path: PathBuf) -> Settings {
    Settings {
        path,
        mode: 0o600,
        connections_max: 4,
        in_flight_max: 64,
        streams_max: 4,
        buffers_ready: 8,
        buffer_bytes: 4096,
        write_queue_bytes_max: 1 << 20,
        header_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(5),
        write_timeout: Duration::from_secs(5),
        failed_as_error: false,
    }
}

/// A task of version 1 with a payload of 1 KiB.
fn version1() -> Vec<u8> {
    let payload = format!("{{\"pad\":\"{}\"}}", "x".repeat(1000));
    let length = u32::try_from(payload.len() + 6).unwrap().to_be_bytes();
    [&length[..], &[1, 1], payload.as_bytes()].concat()
}

/// A request of version 2 with a payload of 1 KiB.
fn version2() -> Vec<u8> {
    let question = Question { payload: Bytes::from(vec![b'x'; 1024]), ..Question::default() };
    let request = Inbound::Request { id: Id::Number(7), subject: Subject::from_static("a.b"), question };
    let mut bytes = BytesMut::new();
    say(&request, 1 << 20, &mut bytes).unwrap();
    bytes.to_vec()
}

/// Sends the frame `count` times, one after the other, and reads each answer.
fn converse(stream: &mut UnixStream, frame: &[u8], count: u32) {
    let mut answer = vec![0; 8192];
    for _ in 0..count {
        stream.write_all(frame).unwrap();
        stream.read_exact(&mut answer[..4]).unwrap();
        let length = u32::from_be_bytes(answer[..4].try_into().unwrap()) as usize;
        stream.read_exact(&mut answer[..length - 4]).unwrap();
    }
}

/// Heap allocations of the serving thread for so many requests, one at a time.
fn allocations(frame: &[u8], count: u32) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gate = gate();
    let door = runtime.block_on(UnixSocket::bind(settings(path.clone()))).unwrap();
    let (go, done) = (std::sync::Barrier::new(2), tokio::sync::Notify::new());
    let drain = gate.drain.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = UnixStream::connect(&path).unwrap();
            // First, so that slots, pieces and buffers are there.
            converse(&mut stream, frame, 200);
            done.notify_one();
            go.wait();
            converse(&mut stream, frame, count);
            done.notify_one();
        });
        let serving = runtime.spawn(door.serve(gate));
        runtime.block_on(done.notified());
        let counted = allocation_counter::measure(|| {
            go.wait();
            runtime.block_on(done.notified());
        });
        drain.begin();
        runtime.block_on(serving).unwrap().unwrap();
        counted.count_total
    })
}

#[test]
fn at_most_one_allocation_a_request() {
    const REQUESTS: u32 = 2000;
    for (name, frame) in [("version 1", version1()), ("version 2", version2())] {
        let counted = allocations(&frame, REQUESTS);
        // A few belong to the ends of the measurement, not to a request.
        assert!(counted <= u64::from(REQUESTS) + 20, "{name}: {counted} allocations for {REQUESTS} requests");
        assert!(counted >= u64::from(REQUESTS) / 2, "{name}: {counted}: nothing was counted");
    }
}
