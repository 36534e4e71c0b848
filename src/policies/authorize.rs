//! Authorize: is there a route, and may this identity do this with it? Before anything that would tell a
//! stranger about limits.

use contract::{Error, Kind};

use crate::policy::Policy;
use crate::route::Call;

/// The rule.
#[derive(Clone, Copy, Debug)]
pub struct Authorize;

impl Policy for Authorize {
    type Held = ();

    fn admit(&self, call: &mut Call) -> Result<(), Error> {
        if call.rules.is_reserved(call.request.target.as_str()) {
            return Err(Error::new(Kind::Denied, "subjects of the server and of reply inboxes are reserved"));
        }
        if call.route.unknown {
            return Err(Error::new(Kind::NotFound, "no route for this subject"));
        }
        if !call.route.allows(&call.request.origin) {
            return Err(Error::new(Kind::Denied, "this route is not for this peer"));
        }
        if !call.route.offers(call.request.target.operation()) {
            return Err(Error::new(Kind::Denied, "this route does not offer this operation"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use contract::{Operation, Pattern, Subject, Target};

    use super::*;
    use crate::route::Principal;
    use crate::testing;

    fn verdict(target: Target, change: impl FnOnce(&mut crate::route::RouteSettings)) -> Option<Kind> {
        let mut settings = testing::route_settings("r", &["a.>", "$SYS.>"]);
        change(&mut settings);
        let mut call = testing::call_with(vec![settings], testing::limits(), target);
        Authorize.admit(&mut call).err().map(|error| error.kind())
    }

    fn ask(subject: &'static str) -> Target {
        Target::Request(Subject::from_static(subject))
    }

    #[test]
    fn a_route_for_this_peer_and_operation_admits() {
        assert_eq!(verdict(ask("a.b"), |_| ()), None);
    }

    #[test]
    fn refusals_say_which_part_is_missing() {
        assert_eq!(verdict(ask("b"), |_| ()), Some(Kind::NotFound));
        assert_eq!(verdict(ask("a.b"), |route| route.allow = vec![Principal::Anonymous]), Some(Kind::Denied));
        let publish_only =
            |route: &mut crate::route::RouteSettings| route.operations = vec![Operation::Publish];
        assert_eq!(verdict(ask("a.b"), publish_only), Some(Kind::Denied));
    }

    #[test]
    fn reserved_subjects_are_out_of_reach_even_with_a_route() {
        assert_eq!(verdict(ask("$SYS.REQ.SERVER.PING"), |_| ()), Some(Kind::Denied));
        let inboxes = Target::Subscribe(Pattern::from_static("_INBOX.>"));
        assert_eq!(verdict(inboxes, |_| ()), Some(Kind::Denied));
    }
}
