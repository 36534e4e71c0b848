//! Validate: the route's own bounds on payload, headers and time, and whether who asks can take its answers.
//! Malformed input spends no tokens.

use contract::{Error, Kind, Operation, Outcome, Request, Target};

use crate::policy::Policy;
use crate::route::Call;

/// The rule.
#[derive(Clone, Copy, Debug)]
pub struct Validate;

impl Policy for Validate {
    type Held = ();

    fn admit(&self, call: &mut Call) -> Result<(), Error> {
        let (request, route) = (&mut call.request, &call.route);
        if let Some(text) = &route.settings.refuse {
            // The one refusal that allocates: its text is the operator's, and errors own theirs.
            return Err(Error::new(Kind::Unsupported, text.to_string()));
        }
        if !matches!(request.target, Target::Subscribe(_)) {
            let bytes = request.payload.len();
            if bytes > route.settings.payload_bytes_max {
                return Err(Error::new(Kind::TooLarge, "the payload is larger than this route takes"));
            }
            if bytes < route.settings.payload_bytes_min {
                return Err(Error::new(Kind::Invalid, "the payload is smaller than this route takes"));
            }
        }
        if let Target::Task(_) = request.target {
            return Err(Error::new(Kind::Internal, "the route of this message type names no subject")
                .with_outcome(Outcome::NotSent));
        }
        let asks = request.target.operation() == Operation::Request;
        if asks && route.settings.replies.is_some() && !request.parts {
            return Err(Error::new(Kind::Unsupported, Request::PARTS_NEEDED));
        }
        if !request.headers.is_empty() {
            request.headers.retain(|name, _| route.takes(name));
        }
        request.deadline = request.deadline.min(request.received + route.settings.timeout);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contract::Subject;

    use super::*;
    use crate::testing;

    fn admitted(payload: usize, change: impl FnOnce(&mut crate::route::RouteSettings)) -> Result<Call, Kind> {
        let mut settings = testing::route_settings("r", &["a"]);
        change(&mut settings);
        let target = Target::Request(Subject::from_static("a"));
        let mut call = testing::call_with(vec![settings], testing::limits(), target);
        call.request.payload = vec![0; payload].into();
        call.request.headers.append("X-A", "1").unwrap();
        call.request.headers.append("Nats-Msg-Id", "1").unwrap();
        Validate.admit(&mut call).map(|()| call).map_err(|error| error.kind())
    }

    #[test]
    fn payload_bounds_are_inclusive() {
        let bounds = |route: &mut crate::route::RouteSettings| {
            (route.payload_bytes_min, route.payload_bytes_max) = (2, 4);
        };
        assert_eq!(admitted(1, bounds).err(), Some(Kind::Invalid));
        assert!(admitted(2, bounds).is_ok() && admitted(4, bounds).is_ok());
        assert_eq!(admitted(5, bounds).err(), Some(Kind::TooLarge));
    }

    #[test]
    fn a_route_that_refuses_says_why_even_of_a_task_without_subject() {
        let mut settings = testing::route_settings("r", &[]);
        settings.message_types = vec![contract::MessageType("task_query")];
        settings.refuse = Some("no such subject".into());
        let target = Target::Task(contract::MessageType("task_query"));
        let mut call = testing::call_with(vec![settings], testing::limits(), target);
        let error = Validate.admit(&mut call).unwrap_err();
        assert_eq!((error.kind(), error.text()), (Kind::Unsupported, "no such subject"));
    }

    #[test]
    fn who_cannot_take_a_stream_is_refused_where_answers_are_streams() {
        let mut settings = testing::route_settings("r", &[">"]);
        let seconds = Duration::from_secs(5);
        settings.replies = Some(crate::backend::replies::ReplyBounds {
            messages_max: 2,
            bytes_max: 1024,
            gap: seconds,
            total: seconds,
            queue_messages_max: 2,
            queue_bytes_max: 1024,
        });
        let admitted = |target, parts| {
            let mut call = testing::call_with(vec![settings.clone()], testing::limits(), target);
            call.request.parts = parts;
            Validate.admit(&mut call).map_err(|error| (error.kind(), error.outcome()))
        };
        let (asked, published) = (Subject::from_static("a"), Subject::from_static("a"));
        assert_eq!(admitted(Target::Request(asked.clone()), true), Ok(()));
        assert_eq!(admitted(Target::Request(asked), false), Err((Kind::Unsupported, Outcome::NotSent)));
        assert_eq!(admitted(Target::Publish(published), false), Ok(()));
    }

    #[test]
    fn the_route_caps_the_deadline() {
        let call = admitted(0, |route| route.timeout = Duration::from_millis(5)).unwrap();
        assert_eq!(call.request.deadline, call.request.received + Duration::from_millis(5));
    }

    #[test]
    fn only_listed_headers_stay() {
        let names =
            |call: &Call| call.request.headers.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&admitted(0, |_| ()).unwrap()), ["X-A"]);
        assert!(names(&admitted(0, |route| route.headers.clear()).unwrap()).is_empty());
    }
}
