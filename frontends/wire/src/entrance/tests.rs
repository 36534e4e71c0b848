//! Callers from a script, which fail as a system does that has nothing left; and real ones.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::{
    Admission, Authenticate, ByteBudget, Drain, Error, Gate, Handshake, Identity, Kind, Method, Presented,
    Timeouts,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Guest, Host, receive};
use crate::caps::Places;
use crate::listener::{Listener, bind_tcp};
use crate::socket::SocketFile;

/// Far more than anything here takes; what is waited for this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes in time")
}

/// Knows everybody but those of port 1.
struct Doorman;

impl Authenticate for Doorman {
    fn authenticate(&self, presented: &Presented) -> Result<Identity, Error> {
        match presented {
            Presented::Anonymous(address) if address.port() == 1 => Err(Error::new(Kind::Denied, "not you")),
            _ => Ok(Identity::new("somebody", Method::Anonymous)),
        }
    }
}

fn gate(handshakes_max: usize) -> Gate<()> {
    Gate {
        pipeline: (),
        authenticate: Arc::new(Doorman),
        drain: Drain::new(),
        meters: Arc::default(),
        budget: ByteBudget::new(1000),
        admission: Admission::new(handshakes_max),
        timeouts: Timeouts { max: PATIENCE },
    }
}

/// A connection that is served.
type Service<L> = (<L as Listener>::Stream, Guest<<L as Listener>::From, Handshake>);

/// Hands over what it serves.
struct Hands<L: Listener>(UnboundedSender<Service<L>>);

impl<L: Listener<Stream: 'static, From: 'static>> Host<L> for Hands<L> {
    const NAME: &'static str = "test";
    type Entry = Handshake;

    fn serve(
        &self,
        stream: L::Stream,
        guest: Guest<L::From, Handshake>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let served = self.0.clone();
        async move { drop(served.send((stream, guest))) }
    }

    fn refusal(&self, error: &Error) -> Vec<u8> {
        format!("{}: {}", error.kind().code(), error.text()).into_bytes()
    }
}

fn open<L>(
    listener: L,
    gate: &Gate<()>,
    connections_max: usize,
) -> (UnboundedReceiver<Service<L>>, JoinHandle<()>)
where
    L: Listener<Stream: 'static, From: 'static> + 'static,
{
    let (hands, served) = unbounded_channel();
    let places = Places::new(connections_max, None, Arc::clone(&gate.meters));
    let gate = gate.clone();
    let work = async move { receive(listener, &Hands(hands), &gate, &places).await };
    (served, tokio::spawn(work))
}

/// One who comes by the script, and what they are told.
#[derive(Debug)]
struct Caller {
    port: u16,
    told: Arc<Mutex<Vec<String>>>,
}

/// What `accept` returns, in this order; then it waits.
#[derive(Default)]
struct Script {
    events: Mutex<VecDeque<io::Result<u16>>>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn of(events: impl IntoIterator<Item = io::Result<u16>>) -> Self {
        Self { events: Mutex::new(events.into_iter().collect()), told: Arc::default() }
    }
}

impl Listener for Script {
    type Stream = Caller;
    type From = SocketAddr;

    async fn accept(&self) -> io::Result<(Caller, SocketAddr)> {
        let Some(event) = self.events.lock().unwrap().pop_front() else {
            return std::future::pending().await;
        };
        event.map(|port| {
            (Caller { port, told: Arc::clone(&self.told) }, SocketAddr::from(([10, 0, 0, 1], port)))
        })
    }

    fn presented(_: &Caller, from: &SocketAddr) -> io::Result<Presented> {
        if from.port() == 2 { Err(ErrorKind::Unsupported.into()) } else { Ok(Presented::Anonymous(*from)) }
    }

    fn dismiss(caller: Caller, words: &[u8]) {
        caller.told.lock().unwrap().push(format!("{} {}", caller.port, String::from_utf8_lossy(words)));
    }
}

fn nothing_left() -> io::Result<u16> {
    Err(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()))
}

#[tokio::test(start_paused = true)]
async fn out_of_descriptors_it_waits_longer_each_time_and_recovers() {
    let failures = (0..10).map(|_| nothing_left());
    let script = Script::of(failures.chain([Ok(100), nothing_left(), Ok(101)]));
    let gate = gate(10);
    let began = Instant::now();
    let (mut served, work) = open(script, &gate, 10);
    let first = served.recv().await.unwrap();
    // Twice as long each time, from 10 ms up to a second: 10 + 20 + 40 + 80 + 160 + 320 + 640 + 3 * 1000.
    assert_eq!((first.0.port, began.elapsed().as_millis() / 10), (100, 427));
    let second = served.recv().await.unwrap();
    assert_eq!((second.0.port, began.elapsed().as_millis() / 10), (101, 428), "from the shortest again");
    assert_eq!((gate.meters.accept_failures_total.get(), gate.meters.connections_total.get()), (11, 2));
    gate.drain.begin();
    work.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_went_before_it_was_accepted_costs_no_pause() {
    let went = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::Interrupted];
    let script = Script::of(went.map(|kind| Err(kind.into())).into_iter().chain([Ok(100)]));
    let gate = gate(10);
    let began = Instant::now();
    let (mut served, work) = open(script, &gate, 10);
    assert_eq!(served.recv().await.unwrap().0.port, 100);
    assert_eq!((began.elapsed(), gate.meters.accept_failures_total.get()), (Duration::ZERO, 0));
    gate.drain.begin();
    work.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_the_waiting_and_whoever_is_at_the_door_is_told() {
    let script = Script::of([nothing_left(), Ok(100), Ok(101)]);
    let (told, gate) = (Arc::clone(&script.told), gate(10));
    let (mut served, work) = open(script, &gate, 10);
    // Once it waits, so that both are still at the door.
    while gate.meters.accept_failures_total.get() == 0 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    gate.drain.begin();
    work.await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    let stopping = "draining: the gateway is stopping; connect again";
    assert_eq!(*told.lock().unwrap(), [format!("100 {stopping}"), format!("101 {stopping}")]);
    assert_eq!(gate.meters.connections_refused_total.get(), 2);
    assert!(served.recv().await.is_none(), "nobody was let in");
}

#[tokio::test]
async fn each_refusal_is_told_and_what_it_took_is_given_back() {
    let gate = gate(2);
    let meters = Arc::clone(&gate.meters);
    let let_in = async |ports: &[u16], connections_max| {
        let script = Script::of(ports.iter().map(|port| Ok(*port)));
        let told = Arc::clone(&script.told);
        let (mut served, work) = open(script, &gate, connections_max);
        let mut guests = Vec::new();
        // Everybody is either served or told.
        while guests.len() + told.lock().unwrap().len() < ports.len() {
            match served.try_recv() {
                Ok(guest) => guests.push(guest),
                Err(_) => tokio::task::yield_now().await,
            }
        }
        work.abort();
        let told = std::mem::take(&mut *told.lock().unwrap());
        (guests, told)
    };
    let (guests, told) = let_in(&[100, 101], 1).await;
    assert_eq!(guests.len(), 1);
    assert_eq!((&*guests[0].1.origin.identity.name, guests[0].1.origin.door), ("somebody", "test"));
    assert_eq!(told, ["101 overloaded: too many connections; try again later"]);
    assert_eq!((meters.connections.get(), gate.admission.open()), (1, 1));
    drop(guests);

    let (guests, told) = let_in(&[100, 101, 102], 10).await;
    assert_eq!(told, ["102 overloaded: too many new connections at once; try again later"]);
    // Their first requests are here.
    for (_, guest) in &guests {
        guest.entry.finish();
    }
    let (more, told) = let_in(&[103, 1, 2], 10).await;
    assert_eq!(more.len(), 1);
    assert_eq!(told, ["1 denied: not you", "2 unauthenticated: no peer credentials"]);
    assert_eq!((meters.connections.get(), gate.admission.open()), (3, 1));
    drop((guests, more));

    let charge = gate.budget.charge_always(1000);
    let (guests, told) = let_in(&[100], 10).await;
    assert_eq!(
        (guests.len(), told),
        (0, vec!["100 overloaded: the gateway is short of memory; try again later".to_owned()])
    );
    drop(charge);
    assert_eq!((meters.connections.get(), gate.admission.open()), (0, 0), "everything is given back");
    assert_eq!((meters.connections_total.get(), meters.connections_refused_total.get()), (4, 5));
}

/// Lets one in that says a word, and has one turned away.
async fn over<L, C>(listener: L, connect: impl AsyncFn() -> C) -> JoinHandle<()>
where
    L: Listener<Stream: AsyncReadExt + Unpin + 'static, From: 'static> + 'static,
    C: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let gate = gate(10);
    let (mut served, work) = open(listener, &gate, 1);
    let mut guest = within(connect()).await;
    guest.write_all(b"hello").await.unwrap();
    let (mut stream, guest_of_ours) = within(served.recv()).await.unwrap();
    let mut heard = [0; 5];
    within(stream.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"hello");
    let mut late = within(connect()).await;
    let mut told = String::new();
    within(late.read_to_string(&mut told)).await.unwrap();
    assert_eq!(told, "overloaded: too many connections; try again later");
    gate.drain.begin();
    drop(guest_of_ours);
    work
}

#[tokio::test]
async fn the_same_over_tcp_and_a_unix_socket_and_nothing_listens_afterwards() {
    let (listener, address) = bind_tcp("test", SocketAddr::from(([127, 0, 0, 1], 0)), |_| None).unwrap();
    within(over(listener, async || TcpStream::connect(address).await.unwrap()).await).await.unwrap();
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);

    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("socket");
    let file = SocketFile::bind(&path, 0o600).unwrap();
    within(over(file, async || UnixStream::connect(&path).await.unwrap()).await).await.unwrap();
    assert!(!path.exists(), "its file is gone");
}
