//! What all doors share: memory and permits, each beside its limit, so that it can be seen how near it is.

use std::sync::Arc;

use contract::{Admission, Drain};

use tokio::time::Instant;

use super::{MetricError, Registry, SampleKind};
use crate::load::Load;
use crate::rules::{Handle, Rules};

/// Name without its prefix, help, and what is read of the rules in force.
type Rows = [(&'static str, &'static str, fn(&Rules) -> usize); 7];

const RULES: Rows = [
    ("calls", "Requests and publishes that hold a permit now.", |rules| rules.calls.used()),
    ("calls_max", "Requests and publishes that may hold a permit at once.", |rules| rules.calls.limit()),
    ("calls_admitted_max", "The same now: less for a while after an outage or overload.", |rules| {
        let (ramp, length) = (&rules.load.ramp, rules.limits.load.slow_start);
        ramp.part_of(rules.calls.limit(), Instant::now(), length)
    }),
    ("streams", "Streams that hold a permit now.", |rules| rules.streams.used()),
    ("streams_max", "Streams that may hold a permit at once.", |rules| rules.streams.limit()),
    ("limiter_peers", "Peers that the rate limit remembers.", |rules| rules.peers.len()),
    ("limiter_peers_max", "Peers that the rate limit may remember.", |rules| rules.limits.peers_max),
];

/// Name without its prefix, help, kind, and what is read of the load.
type LoadRows = [(&'static str, &'static str, SampleKind, fn(&Load) -> f64); 12];

const LOAD: LoadRows = [
    (
        "memory_used_bytes",
        "Bytes of payloads, buffers, queues and waiting replies that are charged now.",
        SampleKind::Gauge,
        |load| number(load.memory.used()),
    ),
    ("memory_max_bytes", "Bytes that may be charged at once.", SampleKind::Gauge, |load| {
        number(load.memory.bytes_max())
    }),
    (
        "memory_process_max_bytes",
        "Bytes of resident memory that the process stays under.",
        SampleKind::Gauge,
        |load| number(load.process_bytes_max),
    ),
    ("memory_peak_bytes", "The most bytes that were charged at once.", SampleKind::Gauge, |load| {
        number(load.memory.peak())
    }),
    (
        "memory_short_bytes",
        "Bytes from which on queues of clients that do not read are cut short.",
        SampleKind::Gauge,
        |load| number(load.memory.short_bytes()),
    ),
    ("memory_low_bytes", "Bytes at or below which new work is taken again.", SampleKind::Gauge, |load| {
        number(load.memory.low_bytes())
    }),
    ("memory_high_bytes", "Bytes from which on new work is refused.", SampleKind::Gauge, |load| {
        number(load.memory.high_bytes())
    }),
    ("overloaded", "1 while new work is refused for want of memory, else 0.", SampleKind::Gauge, |load| {
        f64::from(u8::from(load.memory.is_pressed()))
    }),
    (
        "overloads_total",
        "Times that new work began to be refused for want of memory.",
        SampleKind::Counter,
        |load| count(load.memory.pressed_total()),
    ),
    ("overload_refused_total", "Requests refused for want of memory.", SampleKind::Counter, |load| {
        count(load.refused_total())
    }),
    (
        "slow_starts_total",
        "Times that the limits of requests began to grow after an outage or overload.",
        SampleKind::Counter,
        |load| count(load.ramp.begun_total()),
    ),
    (
        "slow_start_refused_total",
        "Requests refused because these limits had not grown yet.",
        SampleKind::Counter,
        |load| count(load.ramp.refused_total()),
    ),
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

    /// Shows memory with its marks, what is refused for want of it, and the slow start.
    pub fn show_load(&self, load: &Arc<Load>) -> Result<(), MetricError> {
        for (name, help, kind, read) in LOAD {
            let (name, load) = (format!("ipc_gateway_{name}"), Arc::clone(load));
            self.sample(&name, help, kind, &[], Box::new(move || read(&load)))?;
        }
        Ok(())
    }

    /// Shows the connections that have not said yet what they want, and those that were not let in.
    pub fn show_admission(&self, admission: &Admission) -> Result<(), MetricError> {
        let name = "ipc_gateway_connections_shed_total";
        let help = "Connections refused before anything was read of them, by why.";
        for (reason, read) in [
            ("handshakes", Admission::full_total as fn(&Admission) -> u64),
            ("memory", Admission::pressed_total),
        ] {
            let admission = admission.clone();
            let read = Box::new(move || count(read(&admission)));
            self.sample(name, help, SampleKind::Counter, &[("reason", reason)], read)?;
        }
        for (name, help, read) in [
            (
                "ipc_gateway_handshakes",
                "Connections that have not said yet what they want.",
                Admission::open as fn(&Admission) -> usize,
            ),
            ("ipc_gateway_handshakes_max", "How many of these there may be.", Admission::max),
        ] {
            let admission = admission.clone();
            self.sample(name, help, SampleKind::Gauge, &[], Box::new(move || number(read(&admission))))?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of things in memory, below 2^53")]
fn number(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts of one process, below 2^53")]
fn count(count: u64) -> f64 {
    count as f64
}
