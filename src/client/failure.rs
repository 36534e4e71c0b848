//! Why there is no answer: the gateway (or the backend) said no, or the connection is gone.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use contract::{Kind, Outcome};

/// A no, as the gateway told it, or as the client found before it said anything.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The kind.
    pub kind: Kind,
    /// What became of the question.
    pub outcome: Outcome,
    /// What a person may read.
    pub text: String,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    /// The backend's own code, for [`Kind::Failed`].
    pub backend_code: Option<String>,
    /// The backend's own body, for [`Kind::Failed`].
    pub body: Bytes,
}

impl Failure {
    /// A failure of `kind` with the outcome that the table gives it.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            outcome: kind.row().outcome,
            text: text.into(),
            retry_after: None,
            backend_code: None,
            body: Bytes::new(),
        }
    }

    /// What a door has no words for.
    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind, self.text)
    }
}

impl std::error::Error for Failure {}

/// The connection could not be made, or is gone; nothing more is heard on it.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// It could not be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The gateway closed it.
    #[error("the gateway closed the connection")]
    Closed,
    /// The gateway turned it away.
    #[error("the gateway refused the connection: {0}")]
    Refused(Failure),
    /// The gateway closed a WebSocket, and said why (RFC 6455 section 7.4).
    #[error("the gateway closed the connection with {code}{}{reason}", if .reason.is_empty() { "" } else { ": " })]
    Shut {
        /// The code.
        code: u16,
        /// What a person may read.
        reason: String,
    },
    /// The system ended it.
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// What came is not of the protocol that was spoken.
    #[error("not an answer of this protocol: {0}")]
    Protocol(String),
}

/// The kind with this string code. A code of a later gateway is taken for `internal`, with the text kept.
pub(crate) fn kind(code: &str) -> Kind {
    contract::error::TABLE.iter().find(|row| row.code == code).map_or(Kind::Internal, |row| row.kind)
}

/// The outcome with this word.
pub(crate) fn outcome(code: &str) -> Option<Outcome> {
    [Outcome::NotSent, Outcome::Unknown, Outcome::Done].into_iter().find(|outcome| outcome.code() == code)
}
