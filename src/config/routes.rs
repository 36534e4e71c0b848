//! The settings of one route, in the words of the route table.
//!
//! What a route leaves open is filled in from the sections here, so that the table has no second source.

use contract::{MessageType, Operation, Pattern, QueueBounds, QueuePolicy, Subject};

use super::resolved::Resolved;
use super::route_keys::MESSAGE_TYPES;
use super::route_rules;
use super::sections::rate;
use crate::backend::replies::ReplyBounds;
use crate::profiles::{Profile, beamline_admin, beamline_results, beamline_router};
use crate::route::{Principal, RouteSettings};

/// `[routes.<name>]`.
pub(super) fn route(settings: &Resolved, name: &str) -> RouteSettings {
    let path = |key: &str| format!("routes.{name}.{key}");
    let own_limit = |key: &str| settings.int_if_set(&path(key)).filter(|limit| *limit > 0);
    let timeout = settings.millis_if_set(&path("timeout_ms"));
    let calls_max = own_limit("calls_max");
    let payload_bytes_max = settings.int("limits.payload_bytes_max");
    let queue = QueueBounds {
        policy: queue_policy(settings.text(&path("queue_policy"))),
        messages_max: settings
            .int_if_set(&path("queue_messages_max"))
            .unwrap_or_else(|| settings.int("hub.queue_messages_max")),
        bytes_max: settings
            .int_if_set(&path("queue_bytes_max"))
            .unwrap_or_else(|| settings.int("hub.queue_bytes_max")),
    };
    RouteSettings {
        name: name.to_owned(),
        patterns: settings.texts(&path("patterns")).into_iter().map(pattern).collect(),
        message_types: settings.texts(&path("message_types")).iter().map(|text| message_type(text)).collect(),
        subject: settings.text_if_set(&path("subject")).map(subject),
        cancel_subject: settings.text_if_set(&path("cancel_subject")).map(subject),
        refuse: settings.text_if_set(&path("refuse")).map(Into::into),
        operations: settings.texts(&path("operations")).iter().map(|text| operation(text)).collect(),
        allow: settings.texts(&path("allow")).iter().map(|text| principal(text)).collect(),
        timeout: timeout
            .unwrap_or_else(|| settings.millis("limits.timeout_ms"))
            .min(settings.millis("limits.timeout_ms_max")),
        payload_bytes_min: settings.int(&path("payload_bytes_min")),
        payload_bytes_max: settings.int_if_set(&path("payload_bytes_max")).unwrap_or(payload_bytes_max),
        rate: rate(settings, &path("rate_per_second"), &path("rate_burst")),
        calls_max,
        streams_max: own_limit("streams_max"),
        queue,
        replies: replies(settings, name, queue),
        headers: settings.texts(&path("headers")),
        breaker: route_rules::breaker(settings, name),
        retry: route_rules::retry(settings, name),
        idempotency: route_rules::idempotency(settings, name),
        adaptive: route_rules::adaptive(settings, name, calls_max),
        pressure: route_rules::pressure(settings, name),
        profile: profile(settings, name),
    }
}

/// The bounds of an answer of many messages, which waits for its reader in a queue like any stream.
fn replies(settings: &Resolved, name: &str, queue: QueueBounds) -> Option<ReplyBounds> {
    let path = |key: &str| format!("routes.{name}.{key}");
    let messages_max = settings.int(&path("replies_max"));
    (messages_max > 1).then(|| ReplyBounds {
        messages_max,
        bytes_max: settings.int(&path("replies_bytes_max")),
        gap: settings.millis(&path("reply_gap_timeout_ms")),
        total: settings.millis(&path("replies_timeout_ms")),
        queue_messages_max: queue.messages_max,
        queue_bytes_max: queue.bytes_max,
    })
}

fn profile(settings: &Resolved, name: &str) -> Profile {
    let path = |key: &str| format!("routes.{name}.{key}");
    match settings.text(&path("profile")) {
        "raw" => Profile::Raw,
        beamline_router::NAME => Profile::BeamlineRouterV1(beamline_router::Settings {
            default_tenant: settings.text("identity.default_tenant").into(),
            default_task_type: settings.text(&path("default_task_type")).into(),
            envelope_bytes_max: settings.int(&path("envelope_bytes_max")),
            assignment_allowed: settings.bool(&path("assignment_allowed")),
        }),
        beamline_admin::NAME => Profile::BeamlineAdminV1,
        beamline_results::NAME => Profile::BeamlineResultsV1(beamline_results::Settings {
            default_tenant: settings.text("identity.default_tenant").into(),
            keys_max: settings.int(&path("results_keys_max")),
        }),
        other => unreachable!("the kind does not allow {other}"),
    }
}

// The kinds of these keys allow no other texts, and a test walks through all that they allow.

fn pattern(text: String) -> Pattern {
    Pattern::parse(text).expect("the kind allows patterns only")
}

pub(super) fn subject(text: &str) -> Subject {
    Subject::parse(text).expect("the kind allows subjects only")
}

fn message_type(text: &str) -> MessageType {
    let known = MESSAGE_TYPES.iter().find(|known| **known == text);
    MessageType(known.expect("the kind allows these words only"))
}

fn operation(text: &str) -> Operation {
    let known = Operation::ALL.into_iter().find(|known| known.name() == text);
    known.expect("the kind allows these words only")
}

fn queue_policy(text: &str) -> QueuePolicy {
    QueuePolicy::parse(text).expect("the kind allows these words only")
}

fn principal(text: &str) -> Principal {
    let number = |text: &str| text.parse().expect("the kind allows numbers only");
    match text.split_once(':') {
        Some(("uid", id)) => Principal::Uid(number(id)),
        Some(("gid", id)) => Principal::Gid(number(id)),
        _ if text == "any" => Principal::Any,
        _ if text == "local" => Principal::Local,
        _ if text == "loopback" => Principal::Loopback,
        _ if text == "anonymous" => Principal::Anonymous,
        _ => unreachable!("the kind does not allow {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::route_keys::{OPERATIONS, QUEUE_POLICIES};
    use super::*;

    #[test]
    fn every_allowed_word_has_its_meaning() {
        let types: Vec<_> = MESSAGE_TYPES.iter().map(|text| message_type(text).0).collect();
        assert_eq!(types, MESSAGE_TYPES);
        let operations: Vec<_> = OPERATIONS.iter().map(|text| operation(text)).collect();
        assert_eq!(operations, Operation::ALL);
        let policies: Vec<_> = QUEUE_POLICIES.iter().map(|text| queue_policy(text)).collect();
        assert_eq!(policies, QueuePolicy::ALL);
        let principals = ["any", "local", "loopback", "anonymous", "uid:7", "gid:8"].map(principal);
        let expected = [
            Principal::Any,
            Principal::Local,
            Principal::Loopback,
            Principal::Anonymous,
            Principal::Uid(7),
            Principal::Gid(8),
        ];
        assert_eq!(principals, expected);
    }
}
