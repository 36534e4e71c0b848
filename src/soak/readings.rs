//! What the gateway's process holds: memory, descriptors and threads as the system tells them, and the gauges
//! that return to where they were when nobody asks anything.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Pages, Samples};
use crate::processes::machine::resident_bytes;

/// What a busy gateway holds and an idle one must not.
const GAUGES: [&str; 11] = [
    "ipc_gateway_calls",
    "ipc_gateway_streams",
    "ipc_gateway_streamed_replies",
    "ipc_gateway_requests_in_flight",
    "ipc_gateway_memory_used_bytes",
    "ipc_gateway_door_connections",
    "ipc_gateway_door_in_flight",
    "ipc_gateway_door_streams",
    "ipc_gateway_door_buffers_lent",
    "ipc_gateway_nats_inbox_slots",
    "ipc_gateway_nats_in_flight",
];

/// A reading.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// When, from the start.
    pub(super) at: Duration,
    pub(super) resident_bytes: u64,
    pub(super) descriptors: usize,
    pub(super) threads: usize,
    /// The gauges, in the order of their names here.
    gauges: Vec<f64>,
}

/// Whom to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) process: u32,
    pub(super) admin: SocketAddr,
}

impl Reader {
    /// Reads everything. Fails with a line for a person.
    pub(super) async fn read(&self, at: Duration) -> Result<Reading, String> {
        // Its connection is among the descriptors, in every reading.
        let mut pages = Pages::connect(self.admin).await?;
        let (_, page) = pages.get("/metrics").await?;
        let samples = Samples::parse(&String::from_utf8_lossy(&page));
        let gauges = GAUGES.iter().map(|name| samples.named(name).map(|sample| sample.value).sum()).collect();
        let process = self.process;
        let entries = |what: &str| std::fs::read_dir(format!("/proc/{process}/{what}")).map(Iterator::count);
        let gone = |error: std::io::Error| format!("cannot read of process {process}: {error}");
        let reading = Reading {
            at,
            resident_bytes: resident_bytes(process).ok_or("the system does not tell a process's memory")?,
            descriptors: entries("fd").map_err(gone)?,
            threads: entries("task").map_err(gone)?,
            gauges,
        };
        drop(pages);
        Ok(reading)
    }
}

impl Reading {
    /// What is more than it was `before`: each thing with what it was and is.
    pub(super) fn above(&self, before: &Self) -> Vec<(&'static str, f64, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "counts of one process")]
        let counts = [
            ("descriptors", before.descriptors as f64, self.descriptors as f64),
            ("threads", before.threads as f64, self.threads as f64),
        ];
        let gauges = GAUGES.iter().zip(&before.gauges).zip(&self.gauges);
        let gauges = gauges.map(|((name, before), now)| (*name, *before, *now));
        counts.into_iter().chain(gauges).filter(|(_, before, now)| now > before).collect()
    }

    /// Whether nothing is being done.
    pub(super) fn is_idle(&self) -> bool {
        let busy = ["ipc_gateway_calls", "ipc_gateway_requests_in_flight", "ipc_gateway_door_connections"];
        let gauges = GAUGES.iter().zip(&self.gauges);
        gauges.filter(|(name, _)| busy.contains(name)).all(|(_, value)| *value < 0.5)
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let gauges: serde_json::Map<_, _> =
            GAUGES.iter().zip(&self.gauges).map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({
            "at_s": self.at.as_secs_f64(),
            "resident_bytes": self.resident_bytes,
            "descriptors": self.descriptors,
            "threads": self.threads,
            "gauges": gauges,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(descriptors: usize, calls: f64) -> Reading {
        let mut gauges = vec![0.0; GAUGES.len()];
        gauges[0] = calls;
        Reading { at: Duration::ZERO, resident_bytes: 0, descriptors, threads: 3, gauges }
    }

    #[test]
    fn what_is_still_held_is_named() {
        let before = reading(20, 0.0);
        assert_eq!(before.above(&before), []);
        assert_eq!(reading(19, 0.0).above(&before), []);
        let held = reading(22, 3.0).above(&before);
        assert_eq!(held, [("descriptors", 20.0, 22.0), ("ipc_gateway_calls", 0.0, 3.0)]);
    }
}
