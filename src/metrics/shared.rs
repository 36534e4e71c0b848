//! What all doors share: memory and permits, each beside its limit, so that it can be seen how near it is.

use contract::{ByteBudget, Drain};

use super::{MetricError, Registry, SampleKind};
use crate::rules::{Handle, Rules};

/// Name without its prefix, help, and what is read of the rules in force.
type Rows = [(&'static str, &'static str, fn(&Rules) -> usize); 6];

const RULES: Rows = [
    ("calls", "Requests and publishes that hold a permit now.", |rules| rules.calls.used()),
    ("calls_max", "Requests and publishes that may hold a permit at once.", |rules| rules.calls.limit()),
    ("streams", "Streams that hold a permit now.", |rules| rules.streams.used()),
    ("streams_max", "Streams that may hold a permit at once.", |rules| rules.streams.limit()),
    ("limiter_peers", "Peers that the rate limit remembers.", |rules| rules.peers.len()),
    ("limiter_peers_max", "Peers that the rate limit may remember.", |rules| rules.limits.peers_max),
];

impl Registry {
    /// Shows permits and peers of the rules in force, and their limits.
    pub fn show_rules(&self, handle: &Handle) -> Result<(), MetricError> {
        for (name, help, read) in RULES {
            let (name, handle) = (format!("ipc_gateway_{name}"), handle.clone());
            self.sample(&name, help, SampleKind::Gauge, &[], Box::new(move || number(read(&handle.load()))))?;
        }
        let shared = handle.clone();
        self.sample(
            "ipc_gateway_limiter_shared_total",
            "Requests limited together with other newcomers, because the table of peers was full.",
            SampleKind::Counter,
            &[],
            Box::new(move || number(shared.load().peers.shared_total())),
        )
    }

    /// Shows whether the gateway is about to stop.
    pub fn show_drain(&self, drain: &Drain) -> Result<(), MetricError> {
        let drain = drain.clone();
        self.sample(
            "ipc_gateway_draining",
            "1 from the signal to stop, else 0.",
            SampleKind::Gauge,
            &[],
            Box::new(move || f64::from(u8::from(drain.is_announced()))),
        )
    }

    /// Shows the byte budget and its limit.
    pub fn show_budget(&self, budget: &ByteBudget) -> Result<(), MetricError> {
        let (used, limit) = (budget.clone(), budget.clone());
        self.sample(
            "ipc_gateway_memory_used_bytes",
            "Bytes of read buffers, payloads and waiting replies that are charged now.",
            SampleKind::Gauge,
            &[],
            Box::new(move || number(used.used())),
        )?;
        self.sample(
            "ipc_gateway_memory_max_bytes",
            "Bytes that may be charged at once.",
            SampleKind::Gauge,
            &[],
            Box::new(move || number(limit.bytes_max())),
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of things in memory, below 2^53")]
fn number(count: usize) -> f64 {
    count as f64
}
