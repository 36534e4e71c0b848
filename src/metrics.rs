//! What the gateway counts, and how Prometheus reads it.
//!
//! There are two ways in. Requests are counted on the hot path, through handles that were looked up once
//! ([`RouteMeters`]). Everything else (pools, buffers, connections) keeps plain atomics of its own,
//! knows nothing of Prometheus, and is read when somebody asks ([`Registry::sample`]). The registry is a value,
//! not the process's global one, so that two gateways in one test process do not count into each other.
//!
//! Names are `ipc_gateway_<noun>_<unit>[_total]`, in base units (seconds, bytes). The predecessor's names are kept
//! beside them where they mean the same today, and one setting turns them off.

mod door;
pub mod idempotency;
mod process;
mod reading;
pub mod recovery;
mod route;
mod sampled;
mod shared;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, TextEncoder};

pub use self::reading::Reading;
pub use self::route::{InFlight, OPERATIONS, RouteMeters};
pub use self::sampled::SampleKind;
use self::sampled::Sampled;

/// Upper bounds in seconds. The pipeline itself takes microseconds and a NATS round trip on one machine about
/// 0.2 ms, so the low end is fine; deadlines end at tens of seconds, so the high end is coarse.
pub(crate) const DURATION_BUCKETS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Why a metric could not be registered: a name that is not valid, or one that is taken with the same labels, or
/// with other label names or another help text.
#[derive(Debug, thiserror::Error)]
#[error("the metric {name} cannot be registered: {source}")]
pub struct MetricError {
    name: String,
    source: prometheus::Error,
}

/// The string codes of all kinds of error, in the order of their indices.
pub fn kinds() -> Vec<&'static str> {
    contract::error::TABLE.iter().map(|row| row.code).collect()
}

/// All metrics of one gateway. Cloning gives another handle to the same ones.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: prometheus::Registry,
    families: Arc<Families>,
    old_names: bool,
    readings: Arc<Readings>,
}

/// What reads the backend; set once it is there.
#[derive(Default)]
struct Readings(OnceLock<Box<dyn Fn() -> Vec<Reading> + Send + Sync>>);

impl std::fmt::Debug for Readings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Readings")
    }
}

/// The labelled families that every route has a part in.
#[derive(Debug)]
pub(crate) struct Families {
    pub(crate) requests: IntCounterVec,
    pub(crate) durations: HistogramVec,
    pub(crate) in_flight: IntGaugeVec,
}

impl Families {
    fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "ipc_gateway_requests_total",
                    "Requests that ended, by route, operation and outcome (ok, or the kind of the error).",
                ),
                &["route", "operation", "outcome"],
            )?,
            durations: HistogramVec::new(
                HistogramOpts::new(
                    "ipc_gateway_request_duration_seconds",
                    "Time from the arrival of a request to its end, whatever the outcome.",
                )
                .buckets(DURATION_BUCKETS.to_vec()),
                &["route", "operation"],
            )?,
            in_flight: IntGaugeVec::new(
                Opts::new("ipc_gateway_requests_in_flight", "Requests that began and did not end yet."),
                &["route", "operation"],
            )?,
        })
    }
}

impl Families {
    /// Requests that ended with this outcome, over all routes and operations.
    fn ended(&self, outcome: &str) -> f64 {
        let families = self.requests.collect();
        let metrics = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        let of_outcome = metrics.filter(|metric| {
            metric.get_label().iter().any(|label| label.name() == "outcome" && label.value() == outcome)
        });
        of_outcome.map(|metric| metric.get_counter().get_value()).sum()
    }
}

impl Registry {
    /// An empty registry but for the build, the start time and, on Linux, the process. With `old_names`, the
    /// predecessor's names are exported too, where they mean the same.
    pub fn new(old_names: bool) -> Self {
        let families = Arc::new(Families::new().expect("the names of the families are valid"));
        let registry =
            Self { inner: prometheus::Registry::new(), families, old_names, readings: Arc::default() };
        let parts: [Box<dyn Collector>; 3] = [
            Box::new(registry.families.requests.clone()),
            Box::new(registry.families.durations.clone()),
            Box::new(registry.families.in_flight.clone()),
        ];
        for part in parts {
            registry.inner.register(part).expect("an empty registry takes three different names");
        }
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry
            .sample("ipc_gateway_build_info", "Always 1.", SampleKind::Gauge, &version, Box::new(|| 1.0))
            .expect("the name is valid and new");
        registry
            .sample(
                "ipc_gateway_start_time_seconds",
                "When this gateway started, in seconds since 1970.",
                SampleKind::Gauge,
                &[],
                Box::new(move || started),
            )
            .expect("the name is valid and new");
        let families = Arc::clone(&registry.families);
        registry
            .sample_old(
                "gateway_rate_limit_hits_total",
                "Old name of ipc_gateway_requests_total{outcome=\"rate_limited\"}, over all routes.",
                SampleKind::Counter,
                &[],
                Box::new(move || families.ended("rate_limited")),
            )
            .expect("the name is valid and new");
        process::register(&registry).expect("the names are valid and new");
        registry
    }

    /// Registers a value that is read at each scrape. `labels` are fixed; the same name may be registered again
    /// with other label values, and then needs the same label names, help and kind. `read` is called on the
    /// scraping task and must not wait; of a counter, it must never go down.
    pub fn sample(
        &self,
        name: &str,
        help: &str,
        kind: SampleKind,
        labels: &[(&str, &str)],
        read: Box<dyn Fn() -> f64 + Send + Sync>,
    ) -> Result<(), MetricError> {
        Sampled::new(name, help, kind, labels, read)
            .and_then(|sampled| self.inner.register(Box::new(sampled)))
            .map_err(|source| MetricError { name: name.to_owned(), source })
    }

    /// As [`Self::sample`], for a name of the predecessor; does nothing when the old names are turned off.
    pub fn sample_old(
        &self,
        name: &str,
        help: &str,
        kind: SampleKind,
        labels: &[(&str, &str)],
        read: Box<dyn Fn() -> f64 + Send + Sync>,
    ) -> Result<(), MetricError> {
        if self.old_names { self.sample(name, help, kind, labels, read) } else { Ok(()) }
    }

    /// Tells which backend serves (`embedded` or `nats`) and, through `is_connected`, whether it can be reached.
    /// Once a registry.
    pub fn backend<F>(&self, kind: &'static str, is_connected: F) -> Result<(), MetricError>
    where
        F: Fn() -> bool + Clone + Send + Sync + 'static,
    {
        let one_if = |is_connected: F| Box::new(move || f64::from(u8::from(is_connected())));
        self.sample(
            "ipc_gateway_backend_info",
            "Always 1; the label names the backend that serves.",
            SampleKind::Gauge,
            &[("kind", kind)],
            Box::new(|| 1.0),
        )?;
        self.sample(
            "ipc_gateway_backend_connected",
            "1 when the backend can be reached, else 0.",
            SampleKind::Gauge,
            &[],
            one_if(is_connected.clone()),
        )?;
        if kind != "nats" {
            return Ok(()); // the old gauge is about NATS; the embedded broker is no connection to it
        }
        self.sample_old(
            "gateway_nats_connection_status",
            "Old name of ipc_gateway_backend_connected.",
            SampleKind::Gauge,
            &[],
            one_if(is_connected),
        )
    }

    /// Reads the backend at each scrape, whatever it shows then. Once a registry; a second call changes nothing.
    pub fn readings(&self, read: Box<dyn Fn() -> Vec<Reading> + Send + Sync>) {
        let _ = self.readings.0.set(read);
    }

    /// Everything, in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut families = self.inner.gather();
        families.extend(self.readings.0.get().map(|read| reading::families(read())).unwrap_or_default());
        TextEncoder::new()
            .encode_to_string(&families)
            .expect("a gathered family has a name and at least one sample")
    }

    pub(crate) fn families(&self) -> &Families {
        &self.families
    }
}
