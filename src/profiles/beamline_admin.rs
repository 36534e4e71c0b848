//! The profile of the Beamline router's admin subjects: bodies pass as they are and must be JSON; a no is read as in the
//! answers to decide requests.
//!
//! The router answers nobody whose body it cannot read, so that is told here instead of after the deadline. It is told
//! within the pipeline, below the limits: a client without rights or without rate hears of those first.

use contract::{Error, Kind, Reply, Request};

use super::beamline_router;

/// The word for it in the configuration.
pub const NAME: &str = "beamline-admin-v1";

/// Fails with `invalid` when the payload is not JSON; an empty one is none.
pub fn encode(request: &Request) -> Result<(), Error> {
    wire::json::validate(&request.payload)
        .map_err(|error| Error::new(Kind::Invalid, format!("the payload is not JSON: {error}")))
}

/// Reads the answer: `"ok":false` becomes the error kind `failed` with the statuses of the router's codes.
pub fn decode(answer: Result<Reply, Error>) -> Result<Reply, Error> {
    beamline_router::decode(answer)
}

#[cfg(test)]
mod tests {
    use contract::{Message, Subject, Target};

    use super::*;
    use crate::testing;

    #[test]
    fn a_body_is_json_and_stays_as_it_is() {
        let mut request = testing::request(Target::Request(Subject::from_static("a")));
        for (payload, good) in [("{ }", true), ("7", true), ("", false), ("{", false), ("{} {}", false)] {
            request.payload = payload.into();
            assert_eq!(
                encode(&request).map_err(|error| error.kind()),
                good.then_some(()).ok_or(Kind::Invalid),
                "{payload}"
            );
            assert_eq!(request.payload, payload);
        }
    }

    #[test]
    fn a_no_has_the_routers_status_and_everything_else_passes() {
        let answered = |payload: &'static str| {
            decode(Ok(Reply::Message(Message { payload: payload.into(), ..Message::default() })))
        };
        let refused =
            answered(r#"{"ok":false,"error":{"code":"policy_not_found","message":"x"}}"#).unwrap_err();
        assert_eq!((refused.kind(), refused.http()), (Kind::Failed, 404));
        assert!(answered(r#"{"health":{}}"#).is_ok() && answered(r#"{"complexity_score":0}"#).is_ok());
    }
}
