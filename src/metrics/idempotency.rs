//! What is known of requests with idempotency keys, read when Prometheus asks: each bound beside its use.

use super::Reading;
use crate::services::idempotency::Entries;

/// The readings; with `old_names` the predecessor's names too.
pub fn readings(entries: &Entries, old_names: bool) -> Vec<Reading> {
    let ((used, bytes), bounds, meters) = (entries.used(), entries.bounds(), &entries.meters);
    let number = |count: usize| float(count as u64);
    let mut readings = vec![
        gauge("ipc_gateway_idempotency_entries", "Idempotency keys known.", number(used)),
        gauge(
            "ipc_gateway_idempotency_entries_max",
            "Idempotency keys that may be known.",
            number(bounds.entries_max),
        ),
        gauge("ipc_gateway_idempotency_bytes", "Bytes of the answers kept under their keys.", number(bytes)),
        gauge("ipc_gateway_idempotency_bytes_max", "Bytes that they may have.", number(bounds.bytes_max)),
        gauge(
            "ipc_gateway_idempotency_waiting",
            "Requests that wait for another one with their key.",
            float(u64::try_from(meters.waiting.get()).unwrap_or(0)),
        ),
        counter(
            "ipc_gateway_idempotency_evicted_total",
            "Answers forgotten before their time, for want of room.",
            meters.evicted.get(),
        ),
        counter(
            "ipc_gateway_idempotency_not_kept_total",
            "Answers not kept because they were too large, or streams.",
            meters.not_kept.get(),
        ),
    ];
    if entries.shared().is_some() {
        readings.push(counter(
            "ipc_gateway_idempotency_store_failures_total",
            "Times that the bucket of idempotency keys failed, or took too long.",
            meters.store_failures.get(),
        ));
    }
    for (result, count) in [
        ("executed", &meters.executed),
        ("waited", &meters.waited),
        ("replayed", &meters.replayed),
        ("shared", &meters.shared),
        ("conflict", &meters.conflicts),
        ("refused", &meters.refused),
    ] {
        let help = "Requests with idempotency keys, by what was done with them.";
        let mut reading = counter("ipc_gateway_idempotency_requests_total", help, count.get());
        reading.labels.push(("result", result.to_owned()));
        readings.push(reading);
    }
    if old_names {
        let hits = meters.waited.get() + meters.replayed.get() + meters.shared.get();
        let help = "Old name of ipc_gateway_idempotency_requests_total for what was not executed again.";
        readings.push(counter("gateway_idempotency_hits_total", help, hits));
        let help = "Old name of ipc_gateway_idempotency_requests_total for what was executed.";
        readings.push(counter("gateway_idempotency_misses_total", help, meters.executed.get()));
    }
    readings
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Reading {
    Reading { name, help, counter: false, labels: Vec::new(), value }
}

fn counter(name: &'static str, help: &'static str, count: u64) -> Reading {
    Reading { counter: true, ..gauge(name, help, float(count)) }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one process, below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}
