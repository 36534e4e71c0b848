//! Breaker: refuses at once what the route's backend would fail anyway, and lets a few calls try whether it works
//! again. The states are the circuit's ([`crate::circuit`]); here is what counts as whose fault.
//!
//! Only the backend's faults count. A call that was dropped, refused for its own sake, or that ran out of a time
//! shorter than the settings give it says nothing about the backend; a half-open circuit gets its probe back.

use std::sync::Arc;

use contract::{Error, Kind, Reply};
use tokio::time::Instant;

use crate::circuit::{Ticket, Verdict};
use crate::policy::{Held, Policy};
use crate::route::{Call, Route};

/// The rule.
#[derive(Clone, Copy, Debug)]
pub struct Breaker;

impl Policy for Breaker {
    type Held = Option<Passed>;

    fn admit(&self, call: &mut Call) -> Result<Option<Passed>, Error> {
        let Some(settings) = &call.route.settings.breaker else { return Ok(None) };
        let ticket = call.route.circuit.admit(settings, Instant::now).map_err(|wait| {
            let text = "this route's backend failed too often; its circuit is open";
            Error::new(Kind::CircuitOpen, text).with_retry_after(wait)
        })?;
        Ok(Some(Passed {
            ticket: Some(ticket),
            started: settings.slow.map(|_| Instant::now()),
            has_full_time: call.has_full_time(),
            route: Arc::clone(&call.route),
        }))
    }
}

/// A call that the circuit let through. Dropped without an answer, it counts for nothing.
#[derive(Debug)]
pub struct Passed {
    ticket: Option<Ticket>,
    /// Only where slow calls count.
    started: Option<Instant>,
    has_full_time: bool,
    route: Arc<Route>,
}

impl Passed {
    fn verdict(&self, outcome: Result<(), &Error>, now: Instant) -> Verdict {
        let Err(error) = outcome else { return self.verdict_on_time(now) };
        match error.kind() {
            Kind::Unavailable | Kind::Internal => Verdict::Fault,
            // Whoever asks for an answer within a millisecond blames nobody.
            Kind::TimedOut if self.has_full_time => Verdict::Fault,
            // Where the peer chooses the subject, one where nobody listens is the peer's choice.
            Kind::NoResponders if self.route.has_one_subject => Verdict::Fault,
            Kind::Failed if error.as_failed().is_some_and(|failed| failed.counts) => Verdict::Fault,
            // It said no, which is an answer.
            Kind::Failed => self.verdict_on_time(now),
            _ => Verdict::Neutral,
        }
    }

    fn verdict_on_time(&self, now: Instant) -> Verdict {
        let slow = self.route.settings.breaker.as_ref().and_then(|settings| settings.slow);
        match self.started.zip(slow) {
            Some((started, slow)) if now.saturating_duration_since(started) >= slow => Verdict::Slow,
            _ => Verdict::Good,
        }
    }

    fn give_back(&mut self, now: Instant, verdict: Verdict) {
        if let Some((ticket, settings)) = self.ticket.take().zip(self.route.settings.breaker.as_ref()) {
            self.route.circuit.settle(settings, now, ticket, verdict);
        }
    }
}

impl Held for Option<Passed> {
    fn settle(self, outcome: Result<&mut Reply, &Error>) {
        if let Some(mut passed) = self {
            let now = Instant::now();
            let verdict = passed.verdict(outcome.map(|_| ()), now);
            passed.give_back(now, verdict);
        }
    }
}

/// Not left to `abandon`, which a panic below would leave out: a lost probe would keep the circuit half-open.
impl Drop for Passed {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.give_back(Instant::now(), Verdict::Neutral);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contract::{Failed, Outcome, Subject, Target};

    use tower_layer::Layer;
    use tower_service::Service;

    use super::*;
    use crate::circuit::{CircuitSettings, State};
    use crate::policy::Enforce;
    use crate::route::RouteSettings;
    use crate::rules::Rules;
    use crate::testing;

    const OPEN: Duration = Duration::from_secs(5);

    /// A call on a route that one fault opens.
    fn call(change: impl FnOnce(&mut RouteSettings)) -> Call {
        let mut settings = testing::route_settings("r", &["a"]);
        settings.breaker = Some(CircuitSettings {
            window: Duration::from_secs(10),
            volume_min: 1,
            error_percent: 100,
            consecutive_max: 1,
            slow: Some(Duration::from_secs(1)),
            slow_percent: 50,
            open: OPEN,
            probes: 1,
        });
        settings.timeout = Duration::from_secs(10);
        change(&mut settings);
        testing::call_with(vec![settings], testing::limits(), Target::Request(Subject::from_static("a")))
    }

    fn failed(counts: bool) -> Error {
        Error::failed(Failed { body: "{}".into(), code: "x".into(), http: 500, grpc: 13, counts }, "no")
    }

    fn state_after(call: &mut Call, outcome: Result<&mut Reply, &Error>) -> State {
        Breaker.admit(call).unwrap().settle(outcome);
        call.route.circuit.state()
    }

    #[test]
    fn only_the_backends_faults_open_it() {
        for (error, state) in [
            (Error::new(Kind::TimedOut, ""), State::Open),
            (Error::new(Kind::Unavailable, ""), State::Open),
            (Error::new(Kind::NoResponders, ""), State::Open),
            (Error::new(Kind::Internal, ""), State::Open),
            (failed(true), State::Open),
            (failed(false), State::Closed),
            // The connection to the backend took nothing for all that time.
            (Error::new(Kind::TimedOut, "").with_outcome(Outcome::NotSent), State::Open),
            (Error::new(Kind::TooLarge, ""), State::Closed),
            (Error::new(Kind::Overloaded, ""), State::Closed),
            (Error::new(Kind::Denied, ""), State::Closed),
            (Error::new(Kind::Cancelled, ""), State::Closed),
        ] {
            assert_eq!(state_after(&mut call(|_| ()), Err(&error)), state, "{error:?}");
        }
    }

    #[test]
    fn a_time_shorter_than_the_routes_own_never_opens_it() {
        let mut call = call(|_| ());
        call.request.deadline = call.request.received + Duration::from_secs(9);
        let late = Error::new(Kind::TimedOut, "");
        assert_eq!(state_after(&mut call, Err(&late)), State::Closed);
        // An attempt that had all of its own time is another matter.
        call.attempt_due = Some(call.request.deadline);
        assert_eq!(state_after(&mut call, Err(&late)), State::Open);
    }

    #[test]
    fn where_peers_choose_the_subject_nobody_there_opens_nothing() {
        let wide: fn(&mut RouteSettings) = |route| route.patterns = vec![contract::Pattern::from_static(">")];
        let nobody = Error::new(Kind::NoResponders, "");
        assert_eq!(state_after(&mut call(wide), Err(&nobody)), State::Closed);
        let rewritten = |route: &mut RouteSettings| {
            wide(route);
            route.subject = Some(Subject::from_static("b"));
        };
        assert_eq!(state_after(&mut call(rewritten), Err(&nobody)), State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_opens_it_and_a_quick_one_does_not() {
        let mut call = call(|_| ());
        let held = Breaker.admit(&mut call).unwrap();
        tokio::time::advance(Duration::from_millis(999)).await;
        held.settle(Ok(&mut Reply::Accepted));
        assert_eq!(call.route.circuit.state(), State::Closed);
        let held = Breaker.admit(&mut call).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        held.settle(Ok(&mut Reply::Accepted));
        assert_eq!(call.route.circuit.state(), State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn open_refuses_with_the_time_left_and_a_dropped_probe_is_given_back() {
        let mut call = call(|_| ());
        state_after(&mut call, Err(&Error::new(Kind::Unavailable, "")));
        tokio::time::advance(Duration::from_secs(2)).await;
        let refused = Breaker.admit(&mut call).unwrap_err();
        assert_eq!(refused.kind(), Kind::CircuitOpen);
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(3)));
        tokio::time::advance(Duration::from_secs(3)).await;
        let probe = Breaker.admit(&mut call).unwrap();
        assert_eq!(Breaker.admit(&mut call).unwrap_err().kind(), Kind::CircuitOpen);
        drop(probe);
        Breaker.admit(&mut call).unwrap().abandon();
        assert_eq!(state_after(&mut call, Ok(&mut Reply::Accepted)), State::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_stream_the_opening_counts_and_not_its_life() {
        let mut call = call(|_| ());
        state_after(&mut call, Err(&Error::new(Kind::Unavailable, "")));
        tokio::time::advance(OPEN).await;
        let mut reply = Reply::Stream(contract::DeliveryStream::new(futures_util::stream::empty()));
        assert_eq!(state_after(&mut call, Ok(&mut reply)), State::Closed);
        drop(reply);
        assert_eq!(call.route.circuit.state(), State::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_below_gives_the_probe_back() {
        let mut call = call(|_| ());
        state_after(&mut call, Err(&Error::new(Kind::Unavailable, "")));
        tokio::time::advance(OPEN).await;
        let panics =
            tower::service_fn(|_: Call| -> std::future::Ready<Result<Reply, Error>> { panic!("below") });
        let mut service = Enforce(Breaker).layer(panics);
        let again = call.clone();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(service.call(again))));
        assert!(caught.is_err());
        assert_eq!(call.route.circuit.state(), State::HalfOpen);
        assert!(Breaker.admit(&mut call).is_ok());
    }

    #[test]
    fn the_state_outlives_a_reload_under_its_routes_name() {
        let mut call = call(|_| ());
        state_after(&mut call, Err(&Error::new(Kind::Unavailable, "")));
        let changed = |name: &str| {
            let breaker = call.route.settings.breaker.map(|breaker| CircuitSettings { probes: 7, ..breaker });
            RouteSettings { name: name.to_owned(), breaker, ..call.route.settings.clone() }
        };
        let state = |name: &str| {
            let settings = vec![changed(name)];
            let rules = Rules::new(settings, testing::limits(), Some(&call.rules), testing::meters);
            rules.routes.iter().next().unwrap().circuit.state()
        };
        assert_eq!((state("r"), state("another")), (State::Open, State::Closed));
    }

    #[test]
    fn without_settings_it_is_not_there() {
        let mut call = call(|route| route.breaker = None);
        for _ in 0..9 {
            let outage = Error::new(Kind::Unavailable, "");
            assert_eq!(state_after(&mut call, Err(&outage)), State::Closed);
        }
    }
}
