//! The members of a client's JSON that mean something to the profile, as they were written.
//!
//! Visited by hand: of a key that repeats the last value counts, where derived code would refuse the whole body.

use std::fmt;

use contract::{Error, Kind};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use wire::json::Text;

macro_rules! members {
    ($(#[$doc:meta])* $name:ident { $($member:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name<'a> {
            $(pub(super) $member: Option<&'a RawValue>,)*
        }

        impl<'a> $name<'a> {
            /// Finds the members of an object, in one pass; fails if it is none.
            pub(super) fn read(object: &'a [u8]) -> Result<Self, Error> {
                serde_json::from_slice(object).map_err(|error| {
                    Error::new(Kind::Invalid, "the payload cannot be read as an object").with_cause(error)
                })
            }
        }

        impl<'a> Deserialize<'a> for $name<'a> {
            fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map(Self::default())
            }
        }

        impl<'a> Visitor<'a> for $name<'a> {
            type Value = Self;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<Self, A::Error> {
                while let Some(Text(key)) = map.next_key()? {
                    match &*key {
                        $($text => self.$member = Some(map.next_value()?),)*
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(self)
            }
        }
    };
}

members! {
    /// The top of a decide body, and what is looked at of any other JSON.
    Body {
        request_id = "request_id",
        task_id = "task_id",
        task_type = "task_type",
        command = "command",
        task = "task",
        policy_id = "policy_id",
        run_id = "run_id",
        flow_id = "flow_id",
        step_id = "step_id",
        constraints = "constraints",
        metadata = "metadata",
        options = "options",
        push_assignment = "push_assignment",
        assignment_subject = "assignment_subject",
    }
}

members! {
    /// A decide body's task.
    Task {
        kind = "type",
        payload = "payload",
        payload_ref = "payload_ref",
    }
}

members! {
    /// A decide body's key, by which the same is not done twice.
    Keyed {
        key = "idempotency_key",
    }
}

members! {
    /// The top of an answer.
    Answer {
        ok = "ok",
        error = "error",
    }
}

members! {
    /// What an answer says of its error.
    Fault {
        code = "code",
        message = "message",
    }
}
