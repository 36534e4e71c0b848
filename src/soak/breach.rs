//! What must not happen, and where it happened: the findings of a soak.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Via;

/// A kind of breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breach {
    /// A request was answered a second time.
    SecondAnswer,
    /// An answer that is not to this request, or to none.
    ForeignAnswer,
    /// No answer within the deadline and the allowance.
    NoAnswer,
    /// Told `not_sent`, and the responder saw it.
    NotSentButSeen,
    /// Answered, and the responder never saw it.
    AnsweredButNotSeen,
    /// Not idempotent, and seen by the responder more than once.
    SeenTwice,
    /// Seen by the responder when it was closed long ago.
    SeenLate,
    /// The gateway ended a connection, or could not be connected to.
    ConnectionLost,
    /// A subscription has a hole that it was not told of, or a message twice or out of order.
    GapUntold,
    /// A fault was over, and a door did not answer again in time.
    NotRecovered,
}

impl Breach {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::SecondAnswer => "second_answer",
            Self::ForeignAnswer => "foreign_answer",
            Self::NoAnswer => "no_answer",
            Self::NotSentButSeen => "not_sent_but_seen",
            Self::AnsweredButNotSeen => "answered_but_not_seen",
            Self::SeenTwice => "seen_twice",
            Self::SeenLate => "seen_late",
            Self::ConnectionLost => "connection_lost",
            Self::GapUntold => "gap_untold",
            Self::NotRecovered => "not_recovered",
        }
    }
}

/// A breach that was found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What.
    pub breach: Breach,
    /// The number of the request, if it is about one.
    pub request: Option<u64>,
    /// The door it was asked by.
    pub door: Option<Via>,
    /// The fault that was at work when the request was asked, or else when this was found.
    pub fault: Option<&'static str>,
    /// When it was found, from the start.
    pub at: Duration,
    /// More of it, for a person.
    pub detail: String,
}

impl Finding {
    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "breach": self.breach.name(),
            "request": self.request,
            "door": self.door.map(Via::name),
            "fault": self.fault,
            "at_s": self.at.as_secs_f64(),
            "detail": self.detail,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {:.3} s", self.breach.name(), self.at.as_secs_f64())?;
        if let Some(request) = self.request {
            write!(formatter, ", request {request}")?;
        }
        write!(formatter, ", door {}", self.door.map_or("none", Via::name))?;
        write!(formatter, ", fault {}: {}", self.fault.unwrap_or("none"), self.detail)
    }
}
