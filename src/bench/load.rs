//! Load on one connection, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::{Heard, Line, Lost, Say, What};

/// How long the last answers are waited for when the time is over.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// Latencies are kept from a microsecond to a minute, to three digits, in nanoseconds.
const LATENCY_NS: (u64, u64) = (1_000, 60_000_000_000);

/// When is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// When load begins.
    pub(super) start: Instant,
    /// When measuring begins.
    pub(super) begin: Instant,
    /// When both end.
    pub(super) end: Instant,
}

impl Window {
    pub(super) fn new(warmup: Duration, duration: Duration) -> Self {
        let start = Instant::now();
        let begin = start + warmup;
        Self { start, begin, end: begin + duration }
    }
}

/// What came of a load.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Good answers within the time that is measured.
    pub ok: u64,
    /// Everything else that was asked within that time, by kind; `unanswered` and `wrong_answer` are kinds too.
    pub errors: BTreeMap<&'static str, u64>,
    /// How long the good ones took, in nanoseconds.
    pub latencies: Histogram<u64>,
}

impl Counts {
    /// Nothing yet.
    pub fn new() -> Self {
        let latencies = Histogram::new_with_bounds(LATENCY_NS.0, LATENCY_NS.1, 3);
        let latencies = latencies.expect("the bounds are in order and three digits are few");
        Self { ok: 0, errors: BTreeMap::new(), latencies }
    }

    /// Adds what came of another connection.
    pub fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
    }

    fn fail(&mut self, kind: &'static str, count: usize) {
        if count > 0 {
            *self.errors.entry(kind).or_default() += count as u64;
        }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks once, so that a row that cannot work says why instead of counting errors.
pub(super) async fn probe(line: &mut dyn Line, say: &Say, answer_bytes: Option<usize>) -> Result<(), String> {
    line.say(0, say).map_err(|failure| failure.to_string())?;
    let heard = timeout(LAST_ANSWERS, line.heard()).await.map_err(|_| "no answer".to_owned())?;
    match heard.map_err(|lost| lost.to_string())?.what {
        What::Failed(failure) => Err(failure.to_string()),
        What::Reply { payload, .. } => match answer_bytes {
            Some(bytes) if bytes != payload.len() => {
                Err(format!("the answer has {} bytes and not {bytes}", payload.len()))
            }
            _ => Ok(()),
        },
        other => Err(format!("an answer of another kind: {other:?}")),
    }
}

/// The load on one connection.
pub(super) struct Driver {
    line: Box<dyn Line>,
    say: Arc<Say>,
    window: Window,
    answer_bytes: Option<usize>,
    answered: Arc<AtomicU64>,
    counts: Counts,
    /// When what is in flight was due, by its id; free ids are below.
    due: Vec<Option<Instant>>,
    free: Vec<usize>,
}

impl Driver {
    pub(super) fn new(
        line: Box<dyn Line>,
        say: Arc<Say>,
        window: Window,
        answer_bytes: Option<usize>,
        answered: Arc<AtomicU64>,
    ) -> Self {
        let counts = Counts::new();
        Self { line, say, window, answer_bytes, answered, counts, due: Vec::new(), free: Vec::new() }
    }

    /// Keeps `in_flight` requests in flight.
    pub(super) async fn closed(mut self, in_flight: usize) -> Counts {
        for _ in 0..in_flight {
            self.ask(Instant::now());
        }
        while self.in_flight() > 0 {
            match timeout_at(self.window.end + LAST_ANSWERS, self.line.heard()).await {
                Ok(Ok(heard)) => {
                    let now = self.take(&heard);
                    if now < self.window.end {
                        self.ask(now);
                    }
                }
                Ok(Err(lost)) => return self.lost(&lost),
                Err(_) => break,
            }
        }
        self.finish()
    }

    /// Sends a request at each tick, whatever is in flight.
    pub(super) async fn open(mut self, mut ticks: Receiver<Instant>) -> Counts {
        loop {
            tokio::select! {
                biased;
                tick = ticks.recv() => match tick {
                    Some(due) => self.ask(due),
                    None => break,
                },
                heard = self.line.heard() => match heard {
                    Ok(heard) => drop(self.take(&heard)),
                    Err(lost) => {
                        // What is still scheduled would have failed too.
                        while let Some(due) = ticks.recv().await {
                            if due >= self.window.begin {
                                self.counts.fail("connection", 1);
                            }
                        }
                        return self.lost(&lost);
                    }
                },
            }
        }
        while self.in_flight() > 0 {
            match timeout_at(self.window.end + LAST_ANSWERS, self.line.heard()).await {
                Ok(Ok(heard)) => drop(self.take(&heard)),
                Ok(Err(lost)) => return self.lost(&lost),
                Err(_) => break,
            }
        }
        self.finish()
    }

    fn in_flight(&self) -> usize {
        self.due.len() - self.free.len()
    }

    fn ask(&mut self, due: Instant) {
        let id = self.free.pop().unwrap_or_else(|| {
            self.due.push(None);
            self.due.len() - 1
        });
        match self.line.say(id as u64, &self.say) {
            Ok(()) => self.due[id] = Some(due),
            Err(failure) => {
                self.free.push(id);
                self.counts.fail(failure.kind.code(), 1);
            }
        }
    }

    /// Counts an answer, and says when it came.
    fn take(&mut self, heard: &Heard) -> Instant {
        let now = Instant::now();
        let id = heard.id.and_then(|id| usize::try_from(id).ok());
        let due = id.and_then(|id| self.due.get_mut(id)).and_then(Option::take);
        let (Some(id), Some(due)) = (id, due) else {
            if !matches!(heard.what, What::GoAway) {
                self.counts.fail("foreign_answer", 1);
            }
            return now;
        };
        self.free.push(id);
        let good = match &heard.what {
            What::Reply { payload, .. } if self.answer_bytes.is_none_or(|bytes| bytes == payload.len()) => {
                Ok(())
            }
            What::Failed(failure) => Err(failure.kind.code()),
            _ => Err("wrong_answer"),
        };
        self.answered.fetch_add(1, Ordering::Relaxed);
        if due < self.window.begin {
            return now;
        }
        match good {
            Ok(()) => {
                self.counts.ok += 1;
                let nanoseconds = u64::try_from((now - due).as_nanos()).unwrap_or(u64::MAX);
                self.counts.latencies.saturating_record(nanoseconds);
            }
            Err(kind) => self.counts.fail(kind, 1),
        }
        now
    }

    fn lost(mut self, lost: &Lost) -> Counts {
        tracing::warn!("a connection of the benchmark ended: {lost}");
        self.counts.fail("connection", self.in_flight().max(1));
        self.counts
    }

    fn finish(mut self) -> Counts {
        self.counts.fail("unanswered", self.in_flight());
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::{Context, Poll};

    use contract::{Headers, Kind};

    use super::*;
    use crate::client::Failure;

    /// Answers each question after a while, and fails every tenth.
    #[derive(Debug)]
    struct Slow {
        wait: Duration,
        asked: VecDeque<(u64, Instant)>,
        sleep: std::pin::Pin<Box<tokio::time::Sleep>>,
        count: u64,
    }

    impl Line for Slow {
        fn say(&mut self, id: u64, _: &Say) -> Result<(), Failure> {
            self.asked.push_back((id, Instant::now() + self.wait));
            Ok(())
        }

        fn poll_heard(&mut self, context: &mut Context<'_>) -> Poll<Result<Heard, Lost>> {
            let Some((id, at)) = self.asked.front().copied() else { return Poll::Pending };
            self.sleep.as_mut().reset(at);
            std::task::ready!(self.sleep.as_mut().poll(context));
            self.asked.pop_front();
            self.count += 1;
            let what = if self.count.is_multiple_of(10) {
                What::Failed(Failure::new(Kind::TimedOut, ""))
            } else {
                What::Reply { headers: Headers::new(), payload: "x".into(), more: false }
            };
            Poll::Ready(Ok(Heard { id: Some(id), what }))
        }
    }

    fn driver(wait: Duration, window: Window) -> Driver {
        let sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        let line = Slow { wait, asked: VecDeque::new(), sleep, count: 0 };
        Driver::new(Box::new(line), Arc::new(Say::Ping), window, Some(1), Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_asks_again_as_soon_as_it_is_answered() {
        let window = Window::new(Duration::from_secs(1), Duration::from_secs(10));
        let counts = driver(Duration::from_millis(100), window).closed(4).await;
        // 4 in flight, 100 ms each: 40 a second for 10 s, a tenth of them failures.
        let errors = counts.errors["timed_out"];
        assert_eq!((counts.ok + errors, errors), (400, 40));
        assert!((99_000_000..=102_000_000).contains(&counts.latencies.value_at_quantile(0.5)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_loop_counts_from_the_scheduled_time() {
        let window = Window::new(Duration::ZERO, Duration::from_secs(10));
        let (sender, ticks) = tokio::sync::mpsc::channel(10);
        // Three were due at the same time, and two of them were sent a second late.
        for _ in 0..3 {
            sender.send(window.start).await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(sender);
        let counts = driver(Duration::from_millis(100), window).open(ticks).await;
        assert_eq!(counts.ok, 3);
        assert!(counts.latencies.min() >= 1_095_000_000, "{}", counts.latencies.min());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_never_answered_is_counted() {
        let window = Window::new(Duration::ZERO, Duration::from_secs(1));
        let counts = driver(Duration::from_hours(1), window).closed(5).await;
        assert_eq!((counts.ok, counts.errors["unanswered"]), (0, 5));
    }
}
