//! Measure: counts every call by route, operation and outcome, and how long it took. A refused request is a
//! counted request.

use contract::{Error, Kind, Operation, Reply};
use tokio::time::Instant;

use crate::metrics::{InFlight, RouteMeters};
use crate::policy::{Held, Policy};
use crate::route::Call;

/// The rule.
#[derive(Clone, Copy, Debug)]
pub struct Measure;

impl Policy for Measure {
    type Held = Measured;

    fn admit(&self, call: &mut Call) -> Result<Measured, Error> {
        let operation = call.request.target.operation();
        let meters = call.route.meters.clone();
        let in_flight = meters.begin(index(operation));
        Ok(Measured { meters, in_flight, operation, received: call.request.received })
    }
}

/// What is known of a call until its end.
#[derive(Debug)]
pub struct Measured {
    meters: RouteMeters,
    in_flight: InFlight,
    operation: Operation,
    received: Instant,
}

impl Measured {
    fn count(&self, failed: Option<Kind>) {
        let elapsed = self.received.elapsed();
        self.meters.count(index(self.operation), failed.map(|kind| kind as usize), elapsed);
    }
}

impl Held for Measured {
    fn settle(self, outcome: Result<&mut Reply, &Error>) {
        match outcome {
            Ok(reply) => {
                self.count(None);
                // A stream is in flight until it ends.
                if let Reply::Stream(stream) = reply {
                    stream.hold(self.in_flight);
                }
            }
            Err(error) => self.count(Some(error.kind())),
        }
    }

    fn abandon(&mut self) {
        self.count(Some(Kind::Cancelled));
    }
}

fn index(operation: Operation) -> usize {
    operation as usize
}

#[cfg(test)]
mod tests {
    use contract::{Subject, Target};

    use super::*;
    use crate::testing;

    #[test]
    fn answers_refusals_and_cancellations_are_counted_apart() {
        let (registry, mut call) = testing::measured_call(Target::Request(Subject::from_static("a")));
        let admit = |call: &mut Call| Measure.admit(call).unwrap();
        admit(&mut call).settle(Ok(&mut Reply::Accepted));
        admit(&mut call).settle(Err(&Error::new(Kind::RateLimited, "no")));
        admit(&mut call).abandon();
        let held = admit(&mut call);
        let text = registry.render();
        for outcome in ["ok", "rate_limited", "cancelled"] {
            let series = format!("operation=\"request\",outcome=\"{outcome}\",route=\"all\"");
            assert!(
                text.lines().any(|line| line.contains(&series) && line.ends_with(" 1")),
                "{outcome}: {text}"
            );
        }
        assert!(text.lines().any(|line| line.starts_with("ipc_gateway_")
            && line.contains("in_flight")
            && line.ends_with(" 1")));
        drop(held);
    }
}
