//! The checks of "Router end to end", once: the name of each, what it says, and each as a test over the four ways.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crate::ways::{WAYS, Way};
use crate::{errors, pressure, reconnect, subjects, time};

/// A check.
#[derive(Debug)]
pub(crate) struct Check {
    /// Its name, which is its test's: the group, the number in it, what it is about.
    pub(crate) name: &'static str,
    /// What it says.
    pub(crate) says: &'static str,
    /// Does it by one way. Panics when it is not so; else tells what was seen.
    run: fn(&'static Way) -> String,
}

/// What came of a check by one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// It is so, and what was seen.
    Seen(String),
    /// The protocol cannot express it, by this section.
    NotExpressible(&'static str),
    /// It is not so.
    Failed(String),
}

macro_rules! checks {
    ($($module:ident :: $name:ident $says:literal)*) => {
        /// The table.
        pub(crate) static CHECKS: &[Check] =
            &[$(Check { name: stringify!($name), says: $says, run: $module::$name }),*];

        $(
            #[test]
            fn $name() {
                expect(stringify!($name));
            }
        )*
    };
}

checks! {
    subjects::subjects_1_the_subject_is_decides
        "A task goes to the subject of decide, once, in a body that the router takes."
    subjects::subjects_2_headers_of_the_request_reach_the_router
        "Headers of the request reach the router."
    subjects::subjects_3_headers_of_the_reply_reach_the_client
        "Headers of the reply reach the client."
    subjects::subjects_4_each_reply_goes_where_it_was_asked
        "Reply-to works: each reply goes to who asked."
    subjects::subjects_5_the_trace_is_one_from_end_to_end
        "The trace id is one from end to end."
    subjects::subjects_6_tenants_are_kept_apart
        "Tenants are kept apart."
    errors::errors_1_a_400_is_the_clients
        "A 400 (`invalid_request`) comes out as the client's protocol says it."
    errors::errors_2_a_404_is_the_clients
        "A 404 (`policy_not_found`) comes out as the client's protocol says it."
    errors::errors_3_a_500_is_the_clients
        "A 500 (`internal`, `decision_failed`) comes out as the client's protocol says it."
    errors::errors_4_a_503_is_the_clients
        "What is like a 503 (`extension_unavailable`, `extension_timeout`, no router) comes out as the client's protocol says it."
    errors::errors_5_an_unknown_code_neither_crashes_nor_hides
        "A code that nobody knows neither crashes the gateway nor is hidden."
    errors::errors_6_messages_survive
        "Messages survive, with everything around them."
    time::time_1_replies_under_5_s_pass
        "Replies under 5 s pass."
    time::time_2_replies_at_4_to_5_s_pass
        "Replies at 4 to 5 s pass."
    time::time_3_over_the_deadline_is_told_and_cleaned_up
        "What is over the deadline times out and is cleaned up."
    time::time_4_a_late_reply_leaks_nothing
        "A late reply leaks nothing."
    time::time_5_a_late_or_second_reply_answers_nobody_twice
        "A late reply answers nobody twice, nor does a second one."
    time::time_6_a_late_reply_hangs_nothing
        "A late reply hangs nothing."
    time::time_7_a_thousand_timeouts_leave_memory_and_slots
        "1,000 timeouts leave memory and slots where they were."
    reconnect::reconnect_1_one_disconnect
        "One disconnect is told, and is over when the server is back."
    reconnect::reconnect_2_each_request_in_flight_is_answered_once
        "Requests in flight at a disconnect each get exactly one answer or an explicit error."
    reconnect::reconnect_3_ten_rapid_cycles
        "Ten rapid cycles."
    reconnect::reconnect_4_no_connection_is_leaked
        "No connection is leaked."
    reconnect::reconnect_5_the_pool_is_back_at_its_size
        "The pool is back at its size."
    reconnect::reconnect_6_failed_attempts_never_crash
        "Failed reconnects never crash."
    reconnect::reconnect_7_requests_go_on_afterwards
        "Requests go on afterwards."
    pressure::pressure_1_the_subject_is_asked_and_understood
        "The subject of backpressure is recognised."
    pressure::pressure_2_it_slows_down
        "At a warning the gateway slows down."
    pressure::pressure_3_it_goes_on_when_the_pressure_is_over
        "It goes on when the pressure is over."
    pressure::pressure_4_the_breaker_counts_faults_and_no_pressure
        "The breaker counts what is the router's fault, and no pressure."
    pressure::pressure_5_no_request_goes_without_an_answer
        "No request goes without an answer."
    pressure::pressure_6_refusals_are_of_the_503_class_and_say_when
        "Refusals are of the 503 class and say when to come again."
    pressure::pressure_7_metrics_show_it
        "Metrics show it."
}

impl Check {
    /// Does it by all ways at once, in the order of the columns.
    pub(crate) fn cells(&'static self) -> Vec<Cell> {
        thread::scope(|scope| {
            let ways = WAYS.iter().map(|way| {
                let named = thread::Builder::new().name(format!("{} by {}", self.name, way.name));
                named.spawn_scoped(scope, || self.cell(way)).unwrap()
            });
            ways.collect::<Vec<_>>().into_iter().map(|way| way.join().unwrap()).collect()
        })
    }

    fn cell(&self, way: &'static Way) -> Cell {
        if let Some(section) = way.cannot(self.name) {
            return Cell::NotExpressible(section);
        }
        catch_unwind(AssertUnwindSafe(|| (self.run)(way))).map_or_else(
            |panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Cell::Failed(text.unwrap_or("a panic without words").to_owned())
            },
            Cell::Seen,
        )
    }
}

/// Sees that a check holds by all ways.
fn expect(name: &str) {
    let check = CHECKS.iter().find(|check| check.name == name).unwrap();
    let cells = check.cells();
    let failed: Vec<_> = WAYS
        .iter()
        .zip(&cells)
        .filter_map(|(way, cell)| match cell {
            Cell::Failed(text) => Some(format!("by {}: {text}", way.name)),
            Cell::Seen(_) | Cell::NotExpressible(_) => None,
        })
        .collect();
    assert!(failed.is_empty(), "{}\n{}", check.says, failed.join("\n"));
}

#[test]
fn there_are_33_checks() {
    let of = |group: &str| CHECKS.iter().filter(|check| check.name.starts_with(group)).count();
    assert_eq!(["subjects_", "errors_", "time_", "reconnect_", "pressure_"].map(of), [6, 6, 7, 7, 7]);
    assert_eq!(CHECKS.len(), 33);
}

#[test]
fn what_a_way_cannot_express_is_written_down_and_counted() {
    let mut count = 0;
    for way in &WAYS {
        for (check, section) in way.cannot {
            assert!(CHECKS.iter().any(|known| known.name == *check), "{check} is no check");
            let (page, rest) = section.split_once(", ").unwrap();
            let text = std::fs::read_to_string(format!("docs/protocols/{page}")).unwrap();
            let (heading, _) = rest.split_once(": ").unwrap();
            assert!(text.contains(&format!("\n## {heading}\n")), "{page} has no section {heading}");
            count += 1;
        }
    }
    assert_eq!(count, 2);
}
