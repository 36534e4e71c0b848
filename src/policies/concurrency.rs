//! Concurrency: a permit of the route and one of the total, from separate pools for calls and streams. A
//! permit is the scarcest thing, so it is refused and never queued for.

use std::time::Duration;

use contract::{Error, Kind, Operation, Reply};

use crate::permits::Permit;
use crate::policy::{Held, Policy};
use crate::route::Call;

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
        let Some(own) = own.take() else {
            return Err(refusal("this route is at its limit of requests (or streams) at once"));
        };
        let Some(total) = total.take() else {
            return Err(refusal("the gateway is at its limit of requests (or streams) at once"));
        };
        Ok(Permitted { _own: own, _total: total })
    }
}

fn refusal(text: &'static str) -> Error {
    Error::new(Kind::Overloaded, text).with_retry_after(RETRY_AFTER)
}

/// The permits of a call; they move into the stream if it becomes one.
#[derive(Debug)]
pub struct Permitted {
    _own: Permit,
    _total: Permit,
}

impl Held for Permitted {
    fn settle(self, outcome: Result<&mut Reply, &Error>) {
        if let Ok(Reply::Stream(stream)) = outcome {
            stream.hold(self);
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::{DeliveryStream, Pattern, Subject, Target};

    use super::*;
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
