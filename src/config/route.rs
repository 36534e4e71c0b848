//! The typed settings of one route.

use std::time::Duration;

use super::resolved::Resolved;
use super::sections::Rate;

/// `[routes.<name>]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name, unique: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// NATS patterns of the subjects that it is for; valid and not reserved.
    pub patterns: Vec<String>,
    /// Version 1 task types that it is for; no type is in two routes.
    pub message_types: Vec<MessageType>,
    /// Where its requests go, whatever subject they name.
    pub subject: Option<String>,
    /// What may be done on it.
    pub operations: Vec<RouteOperation>,
    /// Who may use it.
    pub allow: Vec<Allow>,
    /// Default and upper bound of a deadline, at most that of `[limits]`; `None`: those of `[limits]`.
    pub timeout: Option<Duration>,
    /// Smallest payload in bytes.
    pub payload_bytes_min: usize,
    /// Largest payload in bytes; `None`: that of `[limits]`.
    pub payload_bytes_max: Option<usize>,
    /// Rate over all its requests; `None`: no limit.
    pub rate: Option<Rate>,
    /// Requests in progress; `None`: no limit of its own.
    pub calls_max: Option<usize>,
    /// Open streams; `None`: no limit of its own.
    pub streams_max: Option<usize>,
    /// Headers that a peer may pass on.
    pub headers: HeaderNames,
}

/// A task type of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// `TASK_SUBMIT`.
    TaskSubmit,
    /// `TASK_QUERY`.
    TaskQuery,
    /// `TASK_CANCEL`.
    TaskCancel,
}

/// A verb of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteOperation {
    /// A message without answer.
    Publish,
    /// A message with one answer.
    Request,
    /// A stream of messages.
    Subscribe,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Allow {
    /// Everybody.
    Any,
    /// Whoever may connect to the Unix socket.
    Local,
    /// A peer without identity.
    Anonymous,
    /// A user of this machine.
    Uid(u32),
    /// A member of a group of this machine.
    Gid(u32),
}

/// Names of headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderNames {
    /// Every one that is not reserved.
    All,
    /// These, in lower case.
    These(Vec<String>),
}

impl Route {
    pub(super) fn from_resolved(settings: &Resolved, name: &str) -> Self {
        let path = |key: &str| format!("routes.{name}.{key}");
        let timeout = settings.get(&path("timeout_ms")).and_then(|setting| setting.value());
        let timeout = timeout
            .map(|_| settings.millis(&path("timeout_ms")).min(settings.millis("limits.timeout_ms_max")));
        let own_limit = |key: &str| settings.int_if_set(&path(key)).filter(|limit| *limit > 0);
        Self {
            name: name.to_owned(),
            patterns: settings.texts(&path("patterns")),
            message_types: settings
                .texts(&path("message_types"))
                .iter()
                .map(|text| MessageType::parse(text))
                .collect(),
            subject: settings.text_if_set(&path("subject")).map(str::to_owned),
            operations: settings
                .texts(&path("operations"))
                .iter()
                .map(|text| RouteOperation::parse(text))
                .collect(),
            allow: settings.texts(&path("allow")).iter().map(|text| Allow::parse(text)).collect(),
            timeout,
            payload_bytes_min: settings.int(&path("payload_bytes_min")),
            payload_bytes_max: settings.int_if_set(&path("payload_bytes_max")),
            rate: Rate::from_resolved(settings, &path("rate_per_second"), &path("rate_burst")),
            calls_max: own_limit("calls_max"),
            streams_max: own_limit("streams_max"),
            headers: HeaderNames::from_texts(&settings.texts(&path("headers"))),
        }
    }
}

// The kinds of these keys allow no other texts, and a test walks through all that they allow.

impl MessageType {
    fn parse(text: &str) -> Self {
        match text {
            "task_submit" => Self::TaskSubmit,
            "task_query" => Self::TaskQuery,
            "task_cancel" => Self::TaskCancel,
            other => unreachable!("the kind does not allow {other}"),
        }
    }
}

impl RouteOperation {
    fn parse(text: &str) -> Self {
        match text {
            "publish" => Self::Publish,
            "request" => Self::Request,
            "subscribe" => Self::Subscribe,
            other => unreachable!("the kind does not allow {other}"),
        }
    }
}

impl Allow {
    fn parse(text: &str) -> Self {
        let number = |text: &str| text.parse().expect("the kind allows numbers only");
        match text.split_once(':') {
            Some(("uid", id)) => Self::Uid(number(id)),
            Some(("gid", id)) => Self::Gid(number(id)),
            _ if text == "any" => Self::Any,
            _ if text == "local" => Self::Local,
            _ if text == "anonymous" => Self::Anonymous,
            _ => unreachable!("the kind does not allow {text}"),
        }
    }
}

impl HeaderNames {
    fn from_texts(texts: &[String]) -> Self {
        if texts.iter().any(|text| text == "*") {
            return Self::All;
        }
        Self::These(texts.iter().map(|text| text.to_ascii_lowercase()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::route_keys::{MESSAGE_TYPES, OPERATIONS};
    use super::*;

    #[test]
    fn every_allowed_word_has_its_variant() {
        let types: Vec<_> = MESSAGE_TYPES.iter().map(|text| MessageType::parse(text)).collect();
        assert_eq!(types, [MessageType::TaskSubmit, MessageType::TaskQuery, MessageType::TaskCancel]);
        let operations: Vec<_> = OPERATIONS.iter().map(|text| RouteOperation::parse(text)).collect();
        assert_eq!(operations, [RouteOperation::Publish, RouteOperation::Request, RouteOperation::Subscribe]);
        let peers: Vec<_> = ["any", "local", "anonymous", "uid:7", "gid:8"].map(Allow::parse).into();
        assert_eq!(peers, [Allow::Any, Allow::Local, Allow::Anonymous, Allow::Uid(7), Allow::Gid(8)]);
        assert_eq!(HeaderNames::from_texts(&["A-b".into()]), HeaderNames::These(vec!["a-b".into()]));
        assert_eq!(HeaderNames::from_texts(&["a".into(), "*".into()]), HeaderNames::All);
    }
}
