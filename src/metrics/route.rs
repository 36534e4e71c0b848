//! The meters of one route, looked up once.
//!
//! Finding a labelled counter hashes its labels and takes a lock: too dear for each request. So a route keeps the
//! counters themselves, in arrays indexed by operation and by kind of error. A series is made at its first use: a
//! route mostly serves one operation and fails in two or three ways, and 60 empty series a route would be most of
//! every scrape. After that first use a count is an atomic load and an atomic add, without allocation or lock.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::{Families, Registry};

/// The values of the label `operation`, in the order of their indices.
pub const OPERATIONS: [&str; 3] = ["publish", "request", "subscribe"];

/// The outcome of a request that did not fail.
const OK: &str = "ok";

/// Counts the requests of one route. Cloning gives another handle to the same counters.
#[derive(Debug, Clone)]
pub struct RouteMeters {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Not the registry: it reads the routes, which hold this, and neither would ever go.
    families: Arc<Families>,
    route: String,
    kinds: Vec<&'static str>,
    operations: [OnceLock<Operation>; OPERATIONS.len()],
}

#[derive(Debug)]
struct Operation {
    ok: IntCounter,
    failed: Box<[OnceLock<IntCounter>]>,
    duration: Histogram,
    in_flight: IntGauge,
}

impl RouteMeters {
    /// Meters for the route of this name. `kinds` are the string codes of the errors, in the order of their indices.
    /// Two meters of the same route and registry count into the same series.
    pub fn new(registry: &Registry, route: &str, kinds: &[&'static str]) -> Self {
        let inner = Inner {
            families: Arc::clone(registry.families()),
            route: route.to_owned(),
            kinds: kinds.to_vec(),
            operations: [const { OnceLock::new() }; OPERATIONS.len()],
        };
        Self { inner: Arc::new(inner) }
    }

    /// A request of this operation (an index into [`OPERATIONS`]) began; it is in flight until the guard is dropped.
    pub fn begin(&self, operation: usize) -> InFlight {
        let gauge = self.inner.operation(operation).in_flight.clone();
        gauge.inc();
        InFlight { gauge }
    }

    /// A request of this operation ended, well (`None`) or with an error of this kind (an index into the kinds given
    /// to [`Self::new`]), so long after it was received. An index that is too large is a bug and panics.
    pub fn count(&self, operation: usize, failed: Option<usize>, elapsed: Duration) {
        let meters = self.inner.operation(operation);
        meters.duration.observe(elapsed.as_secs_f64());
        match failed {
            None => meters.ok.inc(),
            Some(kind) => meters.failed[kind]
                .get_or_init(|| self.inner.outcome(operation, self.inner.kinds[kind]))
                .inc(),
        }
    }
}

impl Inner {
    fn operation(&self, operation: usize) -> &Operation {
        self.operations[operation].get_or_init(|| {
            let labels = [self.route.as_str(), OPERATIONS[operation]];
            let families = &self.families;
            Operation {
                ok: self.outcome(operation, OK),
                failed: self.kinds.iter().map(|_| OnceLock::new()).collect(),
                duration: families.durations.with_label_values(&labels),
                in_flight: families.in_flight.with_label_values(&labels),
            }
        })
    }

    fn outcome(&self, operation: usize, outcome: &str) -> IntCounter {
        self.families.requests.with_label_values(&[self.route.as_str(), OPERATIONS[operation], outcome])
    }
}

/// A request in flight; dropping it ends the flight, whatever happened.
#[derive(Debug)]
#[must_use = "the request is in flight only as long as this lives"]
pub struct InFlight {
    gauge: IntGauge,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
