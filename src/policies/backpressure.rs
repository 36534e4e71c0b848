//! Backpressure: refuses what the route's responder said it will not take now, and lets a share of the usual number
//! through when it said that it is slow ([`crate::pressure`]). Who asks the responder is no concern of this rule.

use contract::{Error, Kind, Operation, Reply};
use tokio::time::Instant;

use crate::permits::Permit;
use crate::policy::{Held, Policy};
use crate::pressure::State;
use crate::route::Call;

/// The rule.
#[derive(Clone, Copy, Debug)]
pub struct Backpressure;

impl Policy for Backpressure {
    type Held = Counted;

    fn admit(&self, call: &mut Call) -> Result<Counted, Error> {
        let route = &call.route;
        let Some(settings) = &route.settings.pressure else { return Ok(Counted(None)) };
        if call.request.target.operation() == Operation::Subscribe {
            return Ok(Counted(None));
        }
        // A route without a bound of its own has the total's.
        let bound = route.calls.limit().min(call.rules.calls.limit());
        let admitted = route.pressure.admit(settings, bound, Instant::now);
        admitted.map(|permit| Counted(Some(permit))).map_err(|refusal| {
            let text = match refusal.state {
                State::Refusing => "this route's responder said that it takes nothing now",
                State::Recovering => {
                    "this route's responder recovers, and takes fewer requests at once than usual"
                }
                State::Slowed | State::Free => {
                    "this route's responder said that it takes fewer requests at once than usual"
                }
            };
            Error::new(Kind::Overloaded, text).with_retry_after(refusal.retry_after)
        })
    }
}

/// A call counted among those that the responder has; it is counted out when dropped.
#[derive(Debug)]
pub struct Counted(#[expect(dead_code, reason = "held for its drop")] Option<Permit>);

impl Held for Counted {
    fn settle(self, _: Result<&mut Reply, &Error>) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contract::{Outcome, Pattern, Subject, Target};
    use tower_layer::Layer;
    use tower_service::Service;

    use super::*;
    use crate::policy::Enforce;
    use crate::pressure::{News, PressureSettings};
    use crate::testing;

    fn call(target: Target) -> Call {
        let mut settings = testing::route_settings("r", &[">"]);
        settings.calls_max = Some(4);
        settings.pressure =
            Some(PressureSettings { recovery: Duration::ZERO, ..testing::pressure_settings() });
        testing::call_with(vec![settings], testing::limits(), target)
    }

    fn hear(call: &Call, news: News) {
        call.route.pressure.hear(call.route.settings.pressure.as_ref().unwrap(), Instant::now(), news);
    }

    #[test]
    fn what_the_responder_does_not_take_is_overloaded_and_not_sent() {
        let mut call = call(Target::Request(Subject::from_static("a")));
        hear(&call, News::Active { retry_after: Duration::from_secs(7) });
        let error = Backpressure.admit(&mut call).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Overloaded, Outcome::NotSent));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        hear(&call, News::Inactive);
        assert!(Backpressure.admit(&mut call).is_ok());
    }

    #[test]
    fn a_slow_responder_gets_a_share_of_the_bound_and_each_call_comes_back() {
        let mut call = call(Target::Publish(Subject::from_static("a")));
        hear(&call, News::Warning);
        let held = [Backpressure.admit(&mut call).unwrap(), Backpressure.admit(&mut call).unwrap()];
        assert_eq!(Backpressure.admit(&mut call).unwrap_err().kind(), Kind::Overloaded);
        let [answered, mut dropped] = held;
        answered.settle(Ok(&mut Reply::Accepted));
        dropped.abandon();
        drop(dropped);
        assert_eq!(call.route.pressure.calls(), 0);
    }

    #[test]
    fn a_panic_below_gives_the_call_back_too() {
        let call = call(Target::Request(Subject::from_static("a")));
        let route = std::sync::Arc::clone(&call.route);
        let mut service = Enforce(Backpressure).layer(tower::service_fn(|_: Call| async {
            assert!(std::hint::black_box(false), "as intended");
            Ok::<Reply, Error>(Reply::Accepted)
        }));
        let future = service.call(call);
        assert_eq!(route.pressure.calls(), 1);
        let run = std::panic::AssertUnwindSafe(|| futures_util::FutureExt::now_or_never(future));
        assert!(std::panic::catch_unwind(run).is_err());
        assert_eq!(route.pressure.calls(), 0);
    }

    #[test]
    fn subscriptions_and_routes_without_it_pass() {
        let mut stream = call(Target::Subscribe(Pattern::from_static("a")));
        hear(&stream, News::Active { retry_after: Duration::ZERO });
        assert!(Backpressure.admit(&mut stream).is_ok());
        let mut other = testing::call(Target::Request(Subject::from_static("a")));
        assert!(Backpressure.admit(&mut other).is_ok());
        assert_eq!(other.route.pressure.calls(), 0);
    }
}
