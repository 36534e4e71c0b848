//! The other end: a running gateway, asked one thing at a time.

use std::io;
use std::time::Duration;

use contract::{Kind, Outcome};
use tokio::time::{Instant, timeout_at};

use super::question::Whereabouts;
use super::signals::Signals;
use crate::client::{Call, Failure, Line, Lost, Say, Via, What};

/// How long making a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How much longer than the gateway may take its answer is waited for: a gateway that stands still says
/// nothing, and a person should not wait for it for ever.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of a question.
#[derive(Debug)]
pub(super) enum Came {
    /// Something was told.
    What(What),
    /// The connection is gone.
    Lost(Lost),
    /// A signal came first.
    Interrupted,
}

/// An open connection to a gateway.
pub(super) struct Peer {
    line: Box<dyn Line>,
    signals: Signals,
    timeout_max: Duration,
    last_id: u64,
}

impl Peer {
    /// Connects. `Err` is what came instead.
    pub(super) async fn connect(via: Via, whereabouts: &Whereabouts) -> io::Result<Result<Self, Came>> {
        let mut signals = Signals::listen()?;
        let connecting = tokio::time::timeout(CONNECT_LIMIT, via.open(&whereabouts.reach));
        let connected = tokio::select! {
            _ = signals.next() => return Ok(Err(Came::Interrupted)),
            connected = connecting => connected,
        };
        let line = match connected {
            Ok(Ok(line)) => line,
            Ok(Err(lost)) => return Ok(Err(Came::Lost(lost))),
            Err(_) => {
                let source = io::Error::from(io::ErrorKind::TimedOut);
                let address = via.address(&whereabouts.reach);
                return Ok(Err(Came::Lost(Lost::Connect { address, source })));
            }
        };
        Ok(Ok(Self { line, signals, timeout_max: whereabouts.timeout_max, last_id: 0 }))
    }

    /// Says something and waits for its first answer, within the question's own time and a little patience.
    pub(super) async fn ask(&mut self, say: &Say) -> Came {
        self.last_id += 1;
        let id = self.last_id;
        if let Err(failure) = self.line.say(id, say) {
            return Came::What(What::Failed(Failure { outcome: Outcome::NotSent, ..failure }));
        }
        let wish = match say {
            Say::Request(Call { timeout, .. })
            | Say::Publish(Call { timeout, .. })
            | Say::Subscribe(Call { timeout, .. }) => *timeout,
            Say::Unsubscribe | Say::Cancel | Say::Ping => Some(Duration::ZERO),
        };
        let limit = wish.unwrap_or(self.timeout_max).min(self.timeout_max) + PATIENCE;
        self.within(Instant::now() + limit, id).await
    }

    /// Waits for what comes next for the last thing said, without a limit.
    pub(super) async fn next(&mut self) -> Came {
        self.hear(self.last_id).await
    }

    /// Ends the subscription that was said last, and waits for what comes until its end. What is on the way
    /// is dropped: nobody wants it any more.
    pub(super) async fn unsubscribe(&mut self) {
        let id = self.last_id;
        if self.line.say(id, &Say::Unsubscribe).is_err() {
            return;
        }
        let until = Instant::now() + PATIENCE;
        while let Came::What(What::Delivery { .. } | What::Gap(_)) = self.within(until, id).await {}
    }

    async fn within(&mut self, until: Instant, id: u64) -> Came {
        timeout_at(until, self.hear(id)).await.unwrap_or_else(|_| {
            let text = "the gateway itself did not answer; it may be stopped or overwhelmed";
            Came::What(What::Failed(Failure::new(Kind::TimedOut, text)))
        })
    }

    async fn hear(&mut self, id: u64) -> Came {
        loop {
            let heard = tokio::select! {
                _ = self.signals.next() => return Came::Interrupted,
                heard = self.line.heard() => heard,
            };
            match heard {
                // The connection ends after what is in flight; if that is answered, all is well.
                Ok(heard) if matches!(heard.what, What::GoAway) => {}
                Ok(heard) if heard.id == Some(id) => return Came::What(heard.what),
                // A failure that names no question is about the connection, or about the last one.
                Ok(heard) if heard.id.is_none() => return Came::What(heard.what),
                Ok(heard) => tracing::debug!(id = heard.id, "an answer to nothing that was asked"),
                Err(lost) => return Came::Lost(lost),
            }
        }
    }
}
