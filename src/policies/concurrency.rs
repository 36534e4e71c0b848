//! Concurrency: a permit of the route and one of the total, from separate pools for calls and streams. A
//! permit is the scarcest thing, so it is refused and never queued for.
//!
//! After a trouble (the backend was out of reach, memory was short) the limits of calls hold in part for a while
//! ([`crate::ramp`]).
//!
//! Where the route's limit is adaptive, the time that each request took moves it ([`crate::adaptive`]).

use std::sync::Arc;
use std::time::Duration;

use contract::{Error, Kind, Operation, Reply};

use tokio::time::Instant;

use crate::load::Load;
use crate::permits::{Permit, Permits};
use crate::policy::{Held, Policy};
use crate::route::{Call, Route};
use crate::rules::Rules;

/// When to try again after a refusal: a permit is out for the length of a request, which is short against
/// a second.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The rule.
#[derive(Clone, Copy, Debug)]
pub struct Concurrency;

impl Policy for Concurrency {
    type Held = Permitted;

    fn admit(&self, call: &mut Call) -> Result<Permitted, Error> {
        let (route, rules) = (&call.route, &call.rules);
        let (own, total) = match call.request.target.operation() {
            Operation::Subscribe => (&route.streams, &rules.streams),
            Operation::Publish | Operation::Request => (&route.calls, &rules.calls),
        };
        // Streams stay, so a part of their limit would be spent by those that are there.
        let is_call = call.request.target.operation() != Operation::Subscribe;
        let take = |permits: &Arc<Permits>, full: &'static str| {
            let limit = permits.limit();
            let part = if is_call { part_of(rules, limit) } else { limit };
            permits.take_within(part).ok_or_else(|| {
                if part == limit {
                    return refusal(full);
                }
                rules.load.ramp.note_refused();
                refusal("the gateway lets requests in slowly after a trouble; try again later")
            })
        };
        let own = take(own, "this route is at its limit of requests (or streams) at once")?;
        let total = take(total, "the gateway is at its limit of requests (or streams) at once")?;
        // A publish and the opening of a stream wait for no responder.
        let adaptive =
            call.request.target.operation() == Operation::Request && route.settings.adaptive.is_some();
        let timed = adaptive.then(|| Timed {
            route: Arc::clone(route),
            started: Instant::now(),
            has_full_time: call.has_full_time(),
        });
        Ok(Permitted { timed, _own: own, _total: total })
    }
}

/// What of a limit holds now: less than all of it for a while after a trouble.
fn part_of(rules: &Rules, limit: usize) -> usize {
    let Load { ramp, .. } = &*rules.load;
    if ramp.is_level() { limit } else { ramp.part_of(limit, Instant::now(), rules.limits.load.slow_start) }
}

fn refusal(text: &'static str) -> Error {
    Error::new(Kind::Overloaded, text).with_retry_after(RETRY_AFTER)
}

/// The permits of a call; they move into the stream if it becomes one.
#[derive(Debug)]
pub struct Permitted {
    /// Only where the limit is adaptive.
    timed: Option<Timed>,
    _own: Permit,
    _total: Permit,
}

#[derive(Debug)]
struct Timed {
    route: Arc<Route>,
    started: Instant,
    has_full_time: bool,
}

impl Timed {
    fn observe(&self, outcome: Result<&Reply, &Error>) {
        let Some(settings) = &self.route.settings.adaptive else { return };
        if !self.says_how_long(outcome) {
            return;
        }
        let (now, calls) = (Instant::now(), &self.route.calls);
        let took = now.saturating_duration_since(self.started);
        if let Some(limit) = self.route.adaptive.observe(settings, now, took, calls.used()) {
            calls.set_limit(limit);
        }
    }

    fn says_how_long(&self, outcome: Result<&Reply, &Error>) -> bool {
        match outcome.map_err(Error::kind) {
            Ok(_) | Err(Kind::Failed) => true,
            // Silence is slow, unless the peer was in a hurry.
            Err(Kind::TimedOut) => self.has_full_time,
            Err(_) => false,
        }
    }
}

impl Held for Permitted {
    fn settle(self, outcome: Result<&mut Reply, &Error>) {
        if let Some(timed) = &self.timed {
            timed.observe(outcome.as_deref().map_err(|error| *error));
        }
        if let Ok(Reply::Stream(stream)) = outcome {
            stream.hold(self);
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::{DeliveryStream, Pattern, Subject, Target};

    use super::*;
    use crate::adaptive::AdaptiveSettings;
    use crate::testing;

    fn call(target: Target) -> Call {
        let mut settings = testing::route_settings("r", &[">"]);
        settings.calls_max = Some(1);
        settings.streams_max = Some(1);
        testing::call_with(vec![settings], testing::limits(), target)
    }

    #[test]
    fn over_the_limit_is_refused_and_a_permit_comes_back() {
        let mut call = call(Target::Request(Subject::from_static("a")));
        let held = Concurrency.admit(&mut call).unwrap();
        assert_eq!(Concurrency.admit(&mut call).unwrap_err().kind(), Kind::Overloaded);
        held.settle(Ok(&mut Reply::Accepted));
        assert!(Concurrency.admit(&mut call).is_ok());
        assert_eq!((call.route.calls.used(), call.rules.calls.used()), (0, 0));
    }

    #[test]
    fn a_refusal_by_the_total_gives_the_routes_permit_back() {
        let target = Target::Request(Subject::from_static("a"));
        let limits = crate::rules::Limits { calls_max: 0, ..testing::limits() };
        let mut call = testing::call_with(vec![testing::route_settings("r", &[">"])], limits, target);
        assert_eq!(Concurrency.admit(&mut call).unwrap_err().kind(), Kind::Overloaded);
        assert_eq!(call.route.calls.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_adaptive_limit_falls_when_answers_take_longer_and_holds_for_new_calls() {
        let mut settings = testing::route_settings("r", &["a"]);
        let bounds = AdaptiveSettings {
            calls_min: 2,
            calls_max: 40,
            calls_start: 20,
            tolerance_percent: 150,
            window: Duration::from_millis(10),
        };
        settings.adaptive = Some(bounds);
        let target = Target::Request(Subject::from_static("a"));
        let mut call = testing::call_with(vec![settings], testing::limits(), target);
        let mut round = async |time: Duration| {
            let held: Vec<_> = (0..50).map_while(|_| Concurrency.admit(&mut call).ok()).collect();
            let admitted = held.len();
            tokio::time::advance(time).await;
            for held in held {
                held.settle(Ok(&mut Reply::Accepted));
            }
            admitted
        };
        let mut last = round(Duration::from_millis(20)).await;
        assert_eq!(last, 20);
        for _ in 0..30 {
            last = round(Duration::from_millis(20)).await;
        }
        assert!(last > 30, "{last}");
        for _ in 0..15 {
            last = round(Duration::from_secs(1)).await;
        }
        assert!(last < 20, "{last}");
        assert_eq!(call.route.calls.limit(), call.route.adaptive.current(&bounds));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_in_a_hurry_says_nothing_about_the_latency() {
        let mut call = call(Target::Request(Subject::from_static("a")));
        let late = Error::new(Kind::TimedOut, "");
        let says = |call: &mut Call| {
            let timed = Timed {
                route: Arc::clone(&call.route),
                started: Instant::now(),
                has_full_time: call.has_full_time(),
            };
            timed.says_how_long(Err(&late))
        };
        assert!(!says(&mut call), "its deadline is ten seconds, the route's thirty");
        call.request.deadline = call.request.received + call.route.settings.timeout;
        assert!(says(&mut call));
    }

    #[test]
    fn a_stream_keeps_its_permit_until_it_is_dropped() {
        let mut call = call(Target::Subscribe(Pattern::from_static("a")));
        let mut reply = Reply::Stream(DeliveryStream::new(futures_util::stream::empty()));
        Concurrency.admit(&mut call).unwrap().settle(Ok(&mut reply));
        assert_eq!(Concurrency.admit(&mut call).unwrap_err().kind(), Kind::Overloaded);
        drop(reply);
        assert!(Concurrency.admit(&mut call).is_ok());
    }
}
