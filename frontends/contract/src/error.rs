//! Errors: one closed set of kinds and **one table** that says what each is in every protocol, who is to
//! blame, whether a retry helps and whether the connection ends.
//!
//! The string code is the contract; the numbers are each protocol's dialect. The text for the peer and the
//! cause for the log are two fields, and the cause never crosses the wire.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

/// What went wrong: a closed set, chosen where the fact is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The bytes are not a message of the protocol.
    Malformed,
    /// A version, type or feature this gateway does not offer.
    Unsupported,
    /// Larger than a limit allows.
    TooLarge,
    /// A well-formed message that says something impossible.
    Invalid,
    /// Nobody knows who asks.
    Unauthenticated,
    /// It is known who asks, and they may not.
    Denied,
    /// No route.
    NotFound,
    /// Over a rate limit.
    RateLimited,
    /// No room: permits or memory are used up.
    Overloaded,
    /// No answer within the deadline.
    TimedOut,
    /// No connection to the backend.
    Unavailable,
    /// The backend is there, and nobody listens on the subject.
    NoResponders,
    /// The route's breaker is open.
    CircuitOpen,
    /// The backend answered no; see [`Failed`].
    Failed,
    /// An id in use, or a key used with another body.
    Conflict,
    /// The peer took it back.
    Cancelled,
    /// The peer reads too slowly.
    SlowConsumer,
    /// The gateway is stopping.
    Draining,
    /// A fault of the gateway itself.
    Internal,
}

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The peer: its message or its rights.
    Peer,
    /// The gateway: its state or its limits.
    Gateway,
    /// The backend or a responder behind it.
    Backend,
}

/// Whether sending the same again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same message meets the same answer.
    Never,
    /// After a while; [`Error::retry_after`] may say how long.
    Later,
    /// Only if the request is idempotent, because it may have happened.
    IfIdempotent,
}

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This request, or this subscription; the connection stays.
    Request,
    /// The connection.
    Connection,
}

/// What became of the request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It did not leave the gateway: it has not happened.
    NotSent,
    /// It was sent and no answer came: it may have happened.
    Unknown,
    /// A responder dealt with it.
    Done,
}

impl Outcome {
    /// The word for it on every wire: `not_sent`, `unknown`, `done`.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
            Self::Done => "done",
        }
    }
}

/// A row of the table: one kind in every dialect.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The kind.
    pub kind: Kind,
    /// The string code: the contract.
    pub code: &'static str,
    /// Version 1 of the IPC protocol: 1 unsupported version, 2 unknown type, 3 too large, 4 invalid payload,
    /// 5 timeout, 6 connection closed, 99 internal. It knows no others; the nearest stands here.
    pub ipc: u8,
    /// HTTP status (RFC 9110; 499 is the common word for a client that went away).
    pub http: u16,
    /// gRPC status code (grpc/doc/statuscodes.md).
    pub grpc: u8,
    /// WebSocket close code (RFC 6455 section 7.4; 4000–4999 are this gateway's own), for when the
    /// connection ends with this error.
    pub websocket: u16,
    /// Who has to change something.
    pub blame: Blame,
    /// Whether a retry helps.
    pub retry: Retry,
    /// Whether the connection ends.
    pub scope: Scope,
    /// What became of the request, unless the error says otherwise.
    pub outcome: Outcome,
}

macro_rules! table {
    ($($kind:ident $code:literal $ipc:literal $http:literal $grpc:literal $websocket:literal
       $blame:ident $retry:ident $scope:ident $outcome:ident;)*) => {
        /// The one table, a row a kind, in the order of [`Kind`].
        pub const TABLE: &[Row] = &[$(Row {
            kind: Kind::$kind, code: $code, ipc: $ipc, http: $http, grpc: $grpc, websocket: $websocket,
            blame: Blame::$blame, retry: Retry::$retry, scope: Scope::$scope, outcome: Outcome::$outcome,
        },)*];
    };
}

#[rustfmt::skip]
table! {
//  kind            code             ipc http grpc  ws    blame    retry         scope      outcome
    Malformed       "malformed"        4  400   3  1007   Peer     Never         Request    NotSent;
    Unsupported     "unsupported"      2  501  12  1003   Peer     Never         Request    NotSent;
    TooLarge        "too_large"        3  413   8  1009   Peer     Never         Request    NotSent;
    Invalid         "invalid"          4  400   3  1008   Peer     Never         Request    NotSent;
    Unauthenticated "unauthenticated"  6  401  16  4401   Peer     Never         Connection NotSent;
    Denied          "denied"          99  403   7  4403   Peer     Never         Request    NotSent;
    NotFound        "not_found"        4  404   5  4404   Peer     Never         Request    NotSent;
    RateLimited     "rate_limited"    99  429   8  4429   Peer     Later         Request    NotSent;
    Overloaded      "overloaded"      99  503  14  1013   Gateway  Later         Request    NotSent;
    TimedOut        "timed_out"        5  504   4  4408   Backend  IfIdempotent  Request    Unknown;
    Unavailable     "unavailable"     99  503  14  4503   Backend  Later         Request    NotSent;
    NoResponders    "no_responders"   99  503  14  4504   Backend  Later         Request    NotSent;
    CircuitOpen     "circuit_open"    99  503  14  4505   Backend  Later         Request    NotSent;
    Failed          "failed"          99  502   2  4502   Backend  Never         Request    Done;
    Conflict        "conflict"         4  409   6  4409   Peer     Never         Request    NotSent;
    Cancelled       "cancelled"        6  499   1  4499   Peer     Never         Request    Unknown;
    SlowConsumer    "slow_consumer"    6  503   8  4508   Peer     Later         Request    Done;
    Draining        "draining"         6  503  14  1001   Gateway  Later         Connection NotSent;
    Internal        "internal"        99  500  13  1011   Gateway  IfIdempotent  Request    Unknown;
}

impl Kind {
    /// Its row of the table.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The string code.
    pub fn code(self) -> &'static str {
        self.row().code
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

/// What the backend said when it said no: carried by [`Kind::Failed`].
#[derive(Clone, Debug)]
pub struct Failed {
    /// The backend's answer, byte for byte; version 1 of the IPC protocol writes it verbatim.
    pub body: Bytes,
    /// The backend's own code, such as `policy_not_found`.
    pub code: ByteString,
    /// The HTTP status to show.
    pub http: u16,
    /// The gRPC status code to show.
    pub grpc: u8,
    /// Whether it says that the backend is ill, so that a breaker counts it.
    pub counts: bool,
}

/// A refusal or a failure, on its way to a peer.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    outcome: Outcome,
    text: Cow<'static, str>,
    retry_after: Option<Duration>,
    rate_per_second: Option<NonZeroU32>,
    failed: Option<Box<Failed>>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with a text for the peer. A text of the program itself allocates nothing.
    pub fn new(kind: Kind, text: impl Into<Cow<'static, str>>) -> Self {
        let outcome = kind.row().outcome;
        Self {
            kind,
            outcome,
            text: text.into(),
            retry_after: None,
            rate_per_second: None,
            failed: None,
            cause: None,
        }
    }

    /// The backend's no, with its own body and statuses.
    pub fn failed(failed: Failed, text: impl Into<Cow<'static, str>>) -> Self {
        Self { failed: Some(Box::new(failed)), ..Self::new(Kind::Failed, text) }
    }

    /// Says what became of the request, where it differs from the table.
    #[must_use]
    pub fn with_outcome(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// Says when trying again may help.
    #[must_use]
    pub fn with_retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// Says which rate was exceeded, in requests a second, rounded up.
    #[must_use]
    pub fn with_rate_per_second(self, rate: NonZeroU32) -> Self {
        Self { rate_per_second: Some(rate), ..self }
    }

    /// Adds the cause: for the log, never for the wire.
    #[must_use]
    pub fn with_cause(self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What became of the request.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The text for the peer.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// When trying again may help; `None` says nothing about it.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The rate that was exceeded in requests a second, rounded up, for [`Kind::RateLimited`].
    pub fn rate_per_second(&self) -> Option<NonZeroU32> {
        self.rate_per_second
    }

    /// The backend's own no, for [`Kind::Failed`].
    pub fn as_failed(&self) -> Option<&Failed> {
        self.failed.as_deref()
    }

    /// The cause, for the log.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        self.cause.as_deref()
    }

    /// The HTTP status: the backend's for a `failed` that has one, else the table's.
    pub fn http(&self) -> u16 {
        self.failed.as_ref().map_or(self.kind.row().http, |failed| failed.http)
    }

    /// The gRPC status code: the backend's for a `failed` that has one, else the table's.
    pub fn grpc(&self) -> u8 {
        self.failed.as_ref().map_or(self.kind.row().grpc, |failed| failed.grpc)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind, self.text)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_kinds() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.kind as usize, index);
            assert_eq!(row.kind.row().code, row.code);
        }
        assert_eq!(TABLE.len(), Kind::Internal as usize + 1);
    }

    #[test]
    fn codes_are_unique_and_numbers_are_of_their_protocols() {
        let codes: HashSet<_> = TABLE.iter().map(|row| row.code).collect();
        assert_eq!(codes.len(), TABLE.len());
        for row in TABLE {
            assert!(matches!(row.ipc, 1..=6 | 99), "{}", row.code);
            assert!((400..=599).contains(&row.http), "{}", row.code);
            assert!((1..=16).contains(&row.grpc), "{}", row.code);
            assert!(matches!(row.websocket, 1001..=1003 | 1007..=1009 | 1011 | 1013 | 4000..=4999));
        }
    }

    #[test]
    fn the_cause_stays_out_of_the_text() {
        let error = Error::new(Kind::Unavailable, "no connection").with_cause("nats://user:pw@host");
        assert_eq!(error.to_string(), "unavailable: no connection");
        assert!(error.cause().unwrap().to_string().contains("pw"));
    }

    #[test]
    fn failed_carries_the_backends_own_statuses() {
        let failed =
            Failed { body: "{}".into(), code: "policy_not_found".into(), http: 404, grpc: 5, counts: false };
        let error = Error::failed(failed, "no such policy");
        assert_eq!((error.http(), error.grpc(), error.outcome()), (404, 5, Outcome::Done));
        assert_eq!(Error::new(Kind::Failed, "no").http(), 502);
    }

    #[test]
    fn an_error_is_small_enough_to_return() {
        assert!(size_of::<Error>() <= 96, "{}", size_of::<Error>());
    }
}
