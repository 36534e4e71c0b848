//! What may be read: the route of each concrete subject, remembered.
//!
//! A wide pattern is let in by the route that covers it, and yet single subjects under it can belong to
//! routes of their own, which others may use, or nobody may subscribe to. So each delivery is looked up
//! once, by its subject, and each listener is then asked of that route.

use std::collections::HashMap;
use std::sync::Arc;

use contract::{Operation, Subject};

use crate::route::Route;
use crate::rules::Rules;

/// Subjects remembered under one set of rules. When they are more, all are forgotten: that costs a walk
/// through the route table for each, which is what it would cost without remembering any.
const SUBJECTS_MAX: usize = 1024;

/// The answers of one pump.
#[derive(Debug, Default)]
pub(super) struct Clearance {
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    rules: Arc<Rules>,
    routes: HashMap<Subject, Option<Arc<Route>>>,
}

impl Clearance {
    /// The route by which `subject` may be read under `rules`, by those whom it allows. `None` when nobody
    /// may: it is reserved, has no route, or its route offers no subscriptions.
    pub(super) fn route(&mut self, rules: &Arc<Rules>, subject: &Subject) -> Option<Arc<Route>> {
        let place = self.seen.iter().position(|seen| Arc::ptr_eq(&seen.rules, rules)).unwrap_or_else(|| {
            self.seen.push(Seen { rules: Arc::clone(rules), routes: HashMap::new() });
            self.seen.len() - 1
        });
        let routes = &mut self.seen[place].routes;
        if let Some(known) = routes.get(subject) {
            return known.clone();
        }
        if routes.len() >= SUBJECTS_MAX {
            routes.clear();
        }
        let reserved = subject.is_reserved() || rules.is_reserved(subject.as_str());
        let route = rules.routes.of_subject(subject).filter(|_| !reserved);
        let route = route.filter(|route| route.offers(Operation::Subscribe)).cloned();
        routes.insert(subject.clone(), route.clone());
        route
    }

    /// Whether anything is remembered of `rules`.
    pub(super) fn knows(&self, rules: &Arc<Rules>) -> bool {
        self.seen.iter().any(|seen| Arc::ptr_eq(&seen.rules, rules))
    }

    /// Forgets all rules but those that `keep` says.
    pub(super) fn retain(&mut self, keep: impl Fn(&Arc<Rules>) -> bool) {
        self.seen.retain(|seen| keep(&seen.rules));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::RouteSettings;
    use crate::testing::{limits, meters, route_settings};

    fn rules(routes: Vec<RouteSettings>) -> Arc<Rules> {
        Arc::new(Rules::new(routes, limits(), None, meters))
    }

    #[test]
    fn a_subject_is_read_by_its_own_route_or_by_nobody() {
        let mut sealed = route_settings("sealed", &["a.sealed"]);
        sealed.operations = vec![Operation::Publish];
        let rules = rules(vec![route_settings("all", &["a.>", "_INBOX.>"]), sealed]);
        let mut clearance = Clearance::default();
        // Twice: what is remembered says the same.
        for _ in 0..2 {
            let mut name = |subject| {
                let route = clearance.route(&rules, &Subject::from_static(subject));
                route.map(|route| route.settings.name.clone())
            };
            assert_eq!(name("a.b").as_deref(), Some("all"));
            assert_eq!([name("a.sealed"), name("b"), name("_INBOX.x")], [None, None, None]);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_in_subjects_and_in_rules() {
        let (old, new) = (rules(vec![route_settings("r", &[">"])]), rules(Vec::new()));
        let mut clearance = Clearance::default();
        for number in 0..=SUBJECTS_MAX {
            let subject = Subject::parse(format!("a.{number}")).unwrap();
            assert!(clearance.route(&old, &subject).is_some());
            assert!(clearance.route(&new, &subject).is_none());
            assert!(clearance.seen.iter().all(|seen| seen.routes.len() <= SUBJECTS_MAX));
        }
        clearance.retain(|rules| Arc::ptr_eq(rules, &new));
        assert!(clearance.knows(&new) && !clearance.knows(&old));
    }
}
