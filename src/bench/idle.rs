//! What a WebSocket costs that says nothing: memory of the gateway before and after many of them.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::plan::Target;
use crate::client::{Line, Lost, Say, Via, What};
use crate::processes::machine::resident_bytes;

/// Connections that are being made at one time: fewer than the listener's queue holds.
const OPENING: usize = 64;
/// How long one connection may take.
const OPENING_LIMIT: Duration = Duration::from_secs(10);
/// How long the gateway is left alone before its memory is read.
const SETTLING: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    /// WebSockets that were open.
    pub(super) connections: usize,
    /// Resident bytes of the gateway's process with one of them, which was used.
    pub(super) bytes_before: u64,
    /// The same with all of them.
    pub(super) bytes_after: u64,
}

impl Idle {
    /// Opens so many and keeps them until it has looked. Fails with a line for a person.
    pub(super) async fn measure(target: &Target, connections: usize) -> Result<Self, String> {
        let pid = target.gateway_pid.ok_or("the gateway's process is not known")?;
        let read = || resident_bytes(pid).ok_or("the system does not tell how much memory a process has");
        // Whatever the first connection makes is there for all.
        let mut first = open(target).await?;
        ping(&mut *first).await?;
        sleep(SETTLING).await;
        let bytes_before = read()?;
        let opening = futures_util::stream::iter((0..connections).map(|_| open(target)));
        let mut opening = opening.buffer_unordered(OPENING);
        let mut lines = Vec::new();
        while let Some(line) = opening.next().await {
            lines.push(line?);
        }
        sleep(SETTLING).await;
        let bytes_after = read()?;
        // What was closed meanwhile cost nothing, and would make the others look cheap.
        for line in &mut lines {
            ping(&mut **line).await?;
        }
        Ok(Self { connections, bytes_before, bytes_after })
    }

    /// Bytes of each connection.
    pub(super) fn bytes_each(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory are far below 2^52")]
        let (grown, connections) =
            (self.bytes_after as f64 - self.bytes_before as f64, self.connections as f64);
        grown / connections
    }

    /// For programs.
    pub(super) fn to_json(self) -> Value {
        json!({
            "connections": self.connections,
            "resident_bytes_before": self.bytes_before,
            "resident_bytes_after": self.bytes_after,
            "bytes_each": self.bytes_each(),
        })
    }
}

async fn open(target: &Target) -> Result<Box<dyn Line>, String> {
    let opened = timeout(OPENING_LIMIT, Via::WsBinary.open(&target.reach)).await;
    opened.map_err(|_| "a WebSocket did not open in time".to_owned())?.map_err(|lost: Lost| lost.to_string())
}

/// Sees that a connection is alive.
async fn ping(line: &mut dyn Line) -> Result<(), String> {
    line.say(1, &Say::Ping).map_err(|failure| failure.to_string())?;
    let heard =
        timeout(OPENING_LIMIT, line.heard()).await.map_err(|_| "a ping was not answered".to_owned())?;
    match heard.map_err(|lost| lost.to_string())?.what {
        What::Pong => Ok(()),
        other => Err(format!("a ping was answered with {other:?}")),
    }
}
