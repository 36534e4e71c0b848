//! Overload: refuses new work while memory is short, so that what is under way has the rest of it.
//!
//! A policy and not a limit of a door, since all doors share one memory. What takes work back (a cancel, an unsubscribe)
//! is no call and never comes here: it is what makes room.

use std::time::Duration;

use contract::{Error, Kind};
use tokio::time::Instant;

use crate::policy::Policy;
use crate::ramp::Trouble;
use crate::route::Call;

/// When to try again: memory is held for as long as requests take, and a reader that takes nothing for longer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The rule.
#[derive(Clone, Copy, Debug)]
pub struct Overload;

impl Policy for Overload {
    type Held = ();

    fn admit(&self, call: &mut Call) -> Result<(), Error> {
        let load = &call.rules.load;
        let is_pressed = load.memory.is_pressed();
        load.ramp.observe(Trouble::Memory, is_pressed, Instant::now());
        if is_pressed {
            load.note_refused();
            let error = Error::new(Kind::Overloaded, "the gateway is short of memory; try again later");
            return Err(error.with_retry_after(RETRY_AFTER));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use contract::{Marks, Outcome, Subject, Target};

    use super::*;
    use crate::load::LoadSettings;
    use crate::policies::concurrency::Concurrency;
    use crate::rules::Limits;
    use crate::testing;

    #[test]
    fn new_work_is_refused_from_the_high_mark_until_the_low_one_and_then_let_in_slowly() {
        let load = LoadSettings {
            memory_bytes_max: 1000,
            marks: Marks { short: 50, low: 70, high: 85 },
            slow_start: Duration::from_hours(1),
            ..LoadSettings::default()
        };
        let limits = Limits { load, calls_max: 20, ..testing::limits() };
        let routes = vec![testing::route_settings("r", &[">"])];
        let mut call = testing::call_with(routes, limits, Target::Request(Subject::from_static("a")));
        let under_way = Concurrency.admit(&mut call).unwrap();
        let mut charge = call.rules.load.memory.charge(849).unwrap();
        assert!(Overload.admit(&mut call).is_ok());
        charge.grow_always(1);
        for bytes in [850, 701] {
            charge.shrink(charge.bytes() - bytes);
            let error = Overload.admit(&mut call).unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (Kind::Overloaded, Outcome::NotSent));
            assert!(error.retry_after().is_some());
        }
        charge.shrink(1);
        assert!(Overload.admit(&mut call).is_ok());
        assert_eq!(call.rules.load.refused_total(), 2);
        // A tenth of 20, one of which was there before.
        let admitted = Concurrency.admit(&mut call).unwrap();
        let refusal = Concurrency.admit(&mut call).unwrap_err();
        assert_eq!((refusal.kind(), call.rules.load.ramp.refused_total()), (Kind::Overloaded, 1));
        drop((under_way, admitted));
        assert_eq!((call.rules.calls.used(), call.route.calls.used()), (0, 0));
    }
}
