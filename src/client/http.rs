//! HTTP/1.1 as a client speaks it (`docs/protocols/http.md`): a line over a few connections.
//!
//! A connection carries one exchange at a time, so as many are kept as questions are in flight, up to a bound;
//! what is over it waits its turn. A subscription is an answer that does not end and has a connection of its
//! own, so that no number of them can keep the questions from theirs.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use contract::Kind;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::events::{Event, Events};
use super::exchange::{Answer, Asked, Lane, exchange};
use super::{Failure, Heard, Line, Lost, Say, What};

/// Connections of one line for questions.
const CONNECTIONS_MAX: usize = 64;
/// Subscriptions of one line, each with a connection.
const STREAMS_MAX: usize = 64;

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The line.
#[derive(Debug)]
pub(super) struct Http {
    address: Arc<str>,
    /// Connections that carry nothing.
    idle: Vec<Lane>,
    /// Exchanges under way.
    busy: usize,
    /// Questions over the bound, oldest first.
    waiting: VecDeque<(u64, Asked)>,
    /// What ends a subscription.
    streams: HashMap<u64, CancellationToken>,
    work: FuturesUnordered<Work>,
}

/// What came of a piece of work.
enum Done {
    /// An exchange is over.
    Exchanged { heard: Heard, lane: Lane },
    /// The answer to a request is in parts.
    Parts { listening: Listening },
    /// A stream told something; it goes on with `Some`.
    Told { heard: Heard, listening: Option<Listening> },
    /// The connection is gone, or was never made.
    Lost(Lost),
}

impl Http {
    /// Connects once, to see that somebody is there.
    pub(super) async fn open(address: &str) -> Result<Box<dyn Line>, Lost> {
        let lane = Lane::connect(address).await?;
        Ok(Box::new(Self {
            address: address.into(),
            idle: vec![lane],
            busy: 0,
            waiting: VecDeque::new(),
            streams: HashMap::new(),
            work: FuturesUnordered::new(),
        }))
    }

    /// Starts what waits, as far as there may be connections.
    fn start(&mut self) {
        while self.busy < CONNECTIONS_MAX
            && let Some((id, asked)) = self.waiting.pop_front()
        {
            self.busy += 1;
            let exchanging = exchange(self.idle.pop(), Arc::clone(&self.address), asked);
            self.work.push(Box::pin(async move {
                match exchanging.await {
                    Ok((lane, Answer::Whole(what))) => {
                        Done::Exchanged { heard: Heard { id: Some(id), what }, lane }
                    }
                    Ok((lane, Answer::Events(body))) => {
                        let cancelled = CancellationToken::new();
                        Done::Parts { listening: Listening::new(id, true, lane, body, cancelled) }
                    }
                    Err(lost) => Done::Lost(lost),
                }
            }));
        }
    }

    fn subscribe(&mut self, id: u64, asked: Asked) -> Result<(), Failure> {
        if self.streams.len() >= STREAMS_MAX {
            let text = format!("a client over HTTP has at most {STREAMS_MAX} subscriptions; use a WebSocket");
            return Err(Failure::new(Kind::Overloaded, text));
        }
        let cancelled = CancellationToken::new();
        self.streams.insert(id, cancelled.clone());
        let exchanging = exchange(self.idle.pop(), Arc::clone(&self.address), asked);
        self.work.push(Box::pin(async move {
            match exchanging.await {
                Ok((_, Answer::Whole(what))) => {
                    Done::Told { heard: Heard { id: Some(id), what }, listening: None }
                }
                Ok((lane, Answer::Events(body))) => {
                    Listening::new(id, false, lane, body, cancelled).next().await
                }
                Err(lost) => Done::Lost(lost),
            }
        }));
        Ok(())
    }
}

impl Line for Http {
    fn say(&mut self, id: u64, say: &Say) -> Result<(), Failure> {
        if let (Say::Unsubscribe, Some(stream)) = (say, self.streams.get(&id)) {
            stream.cancel();
            return Ok(());
        }
        let asked = Asked::new(say, &self.address)?;
        if matches!(say, Say::Subscribe(_)) {
            return self.subscribe(id, asked);
        }
        self.waiting.push_back((id, asked));
        Ok(())
    }

    fn poll_heard(&mut self, context: &mut Context<'_>) -> Poll<Result<Heard, Lost>> {
        loop {
            self.start();
            // Nothing is under way: nothing can be heard before something is said.
            let Some(done) = ready!(self.work.poll_next_unpin(context)) else { return Poll::Pending };
            match done {
                Done::Exchanged { heard, lane } => {
                    self.busy -= 1;
                    if !lane.is_over() {
                        self.idle.push(lane);
                    }
                    return Poll::Ready(Ok(heard));
                }
                Done::Parts { listening } => self.work.push(Box::pin(listening.next())),
                Done::Told { heard, listening: Some(listening) } => {
                    self.work.push(Box::pin(listening.next()));
                    return Poll::Ready(Ok(heard));
                }
                Done::Told { heard, listening: None } => {
                    if let Some(id) = heard.id
                        && self.streams.remove(&id).is_none()
                    {
                        // An answer in parts held a place among the questions.
                        self.busy -= 1;
                    }
                    return Poll::Ready(Ok(heard));
                }
                Done::Lost(lost) => return Poll::Ready(Err(lost)),
            }
        }
    }
}

/// A stream of events, and the connection that carries it. The connection ends with it.
struct Listening {
    id: u64,
    /// Whether it answers a request, and its messages are parts of the answer.
    is_answer: bool,
    lane: Lane,
    body: Incoming,
    events: Events,
    cancelled: CancellationToken,
}

impl Listening {
    fn new(id: u64, is_answer: bool, lane: Lane, body: Incoming, cancelled: CancellationToken) -> Self {
        Self { id, is_answer, lane, body, events: Events::default(), cancelled }
    }

    async fn next(mut self) -> Done {
        loop {
            let event = match self.events.next() {
                Ok(Some(event)) => event,
                Ok(None) => {
                    let piece = tokio::select! {
                        biased;
                        () = self.cancelled.cancelled() => return self.last(What::End),
                        piece = self.lane.piece(&mut self.body) => piece,
                    };
                    match piece {
                        Ok(Some(bytes)) => self.events.feed(&bytes),
                        // Every stream says how it ends; this one was cut.
                        Ok(None) => return Done::Lost(Lost::Closed),
                        Err(lost) => return Done::Lost(lost),
                    }
                    continue;
                }
                Err(lost) => return Done::Lost(lost),
            };
            match event {
                Event::Open if self.is_answer => {}
                Event::Open => return self.told(What::Accepted),
                Event::Told(What::Delivery { headers, payload, .. }) if self.is_answer => {
                    return self.told(What::Reply { headers, payload, more: true });
                }
                Event::Told(what) => return self.told(what),
                Event::Last(what) => return self.last(what),
            }
        }
    }

    fn told(self, what: What) -> Done {
        Done::Told { heard: Heard { id: Some(self.id), what }, listening: Some(self) }
    }

    fn last(&self, what: What) -> Done {
        Done::Told { heard: Heard { id: Some(self.id), what }, listening: None }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::client::Call;

    /// Connections that were made to a server, and those that it ended.
    #[derive(Debug, Default)]
    struct Counts {
        made: AtomicUsize,
        ended: AtomicUsize,
    }

    /// Answers so many requests of each connection, then ends it.
    async fn server(answers: usize) -> (String, Arc<Counts>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                counted.made.fetch_add(1, Ordering::Relaxed);
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    // A client that goes away has what it wanted.
                    let _ = answer(socket, answers).await;
                    counted.ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        (address, counts)
    }

    async fn answer(mut socket: TcpStream, answers: usize) -> std::io::Result<()> {
        for _ in 0..answers {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await?);
            }
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
        }
        Ok(())
    }

    fn ask(subject: &str) -> Say {
        Say::Request(Call { subject: subject.to_owned(), ..Call::default() })
    }

    #[tokio::test]
    async fn questions_over_the_bound_wait_for_a_connection() {
        let (address, counts) = server(usize::MAX).await;
        let mut line = Http::open(&address).await.unwrap();
        let many = 5 * CONNECTIONS_MAX as u64;
        for id in 0..many {
            line.say(id, &ask("a")).unwrap();
        }
        let mut answered = Vec::new();
        for _ in 0..many {
            let heard = line.heard().await.unwrap();
            assert!(matches!(&heard.what, What::Reply { payload, .. } if payload == "ok"));
            answered.push(heard.id.unwrap());
        }
        answered.sort_unstable();
        assert!(answered.into_iter().eq(0..many));
        assert!(counts.made.load(Ordering::Relaxed) <= CONNECTIONS_MAX);
    }

    #[tokio::test]
    async fn a_connection_that_the_gateway_ended_is_replaced() {
        let (address, counts) = server(1).await;
        let mut line = Http::open(&address).await.unwrap();
        for id in 0..20 {
            line.say(id, &ask("a")).unwrap();
            assert_eq!(line.heard().await.unwrap().id, Some(id));
            while counts.ended.load(Ordering::Relaxed) <= usize::try_from(id).unwrap() {
                tokio::task::yield_now().await;
            }
            // The end is in the socket now; whoever sleeps lets the runtime look there.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(counts.made.load(Ordering::Relaxed), 20);
    }
}
