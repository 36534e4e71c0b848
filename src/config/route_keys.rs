//! The settings of a route, and the routes that exist without any file.
//!
//! Apart from the other keys because their first name is free: each key here stands for one setting in every
//! table `[routes.<name>]`, and its default may differ from route to route.

use super::family::{BuiltIn, Family};
use super::key::{Key, same};
use super::keys::breaker::{CONSECUTIVE, OPEN_MS, SLOW_MS, VOLUME};
use super::keys::idempotency::WINDOW_MS;
use super::keys::retry::{ATTEMPT_MS, ATTEMPTS};
use super::keys::{BURST, PERCENT, QUEUE_BYTES, QUEUE_MESSAGES, RATE, TIMEOUT_MS};
use super::value::Kind;
use crate::profiles::Profile;

/// The verbs of a request that a route can name.
pub(super) const OPERATIONS: &[&str] = &["publish", "request", "subscribe"];
/// The task types of version 1.
pub(super) const MESSAGE_TYPES: &[&str] = &["task_submit", "task_query", "task_cancel"];

/// What may happen when a listener is slow.
pub(super) const QUEUE_POLICIES: &[&str] = &["drop_oldest", "latest_by_subject", "disconnect"];

/// The keys of one route; their paths lack `routes.<name>.`.
pub static ROUTE_KEYS: &[Key] = &[
    Key::new(
        "patterns",
        Kind::List(&Kind::Pattern),
        "NATS patterns of the subjects that this route is for; the most exact pattern of all routes \
         wins.",
    )
    .default_to("[]"),
    Key::new(
        "message_types",
        Kind::List(&Kind::Choice(MESSAGE_TYPES)),
        "Version 1 task types that this route is for.",
    )
    .default_to("[]"),
    Key::new("subject", Kind::Subject, "Where requests of this route go, whatever subject they name.")
        .example("orders.v1.place"),
    Key::new(
        "cancel_subject",
        Kind::Subject,
        "Where responders are told that a request which was sent is given up: its client took it back or went, \
         or its time is over.",
    )
    .example("orders.v1.cancel"),
    Key::new(
        "refuse",
        Kind::Text,
        "Its requests are not sent but answered unsupported with this text, once it is known who asks.",
    )
    .example("this service has no such request"),
    Key::new("operations", Kind::List(&Kind::Choice(OPERATIONS)), "What may be done on this route.")
        .default_to("publish,request,subscribe"),
    Key::new(
        "allow",
        Kind::List(&Kind::Peer),
        "Who may use it. local: whoever may connect to the Unix socket; loopback: whoever reaches the gateway \
         over TCP from this machine, without identity; anonymous: a peer without identity from anywhere.",
    )
    .default_to("local"),
    Key::new(
        "timeout_ms",
        TIMEOUT_MS,
        "Default and upper bound of a request's deadline on this route, instead of limits.timeout_ms.",
    )
    .example("5000"),
    Key::new("payload_bytes_min", BYTES, "Smallest payload.").default_to("0"),
    Key::new("payload_bytes_max", BYTES, "Largest payload, instead of limits.payload_bytes_max.")
        .example("1048576"),
    Key::new("rate_per_second", RATE, "Requests a second on this route.").default_to("0"),
    Key::new("rate_burst", BURST, "Requests that may come at once above that rate.").default_to("0"),
    Key::new(
        "calls_max",
        Kind::Int { min: 0, max: 1_000_000, unit: "requests, 0 = no limit of its own" },
        "Requests in progress on this route.",
    )
    .default_to("0"),
    Key::new(
        "streams_max",
        Kind::Int { min: 0, max: 1_000_000, unit: "streams, 0 = no limit of its own" },
        "Open streams on this route.",
    )
    .default_to("0"),
    Key::new(
        "queue_policy",
        Kind::Choice(QUEUE_POLICIES),
        "What happens when a listener is slower than its messages: the oldest go and it is told how many; a \
         newer message replaces the unread one of its subject; or its stream ends.",
    )
    .default_to("drop_oldest"),
    Key::new(
        "queue_messages_max",
        QUEUE_MESSAGES,
        "Unread messages kept for one listener, instead of hub.queue_messages_max.",
    )
    .example("64"),
    Key::new(
        "queue_bytes_max",
        QUEUE_BYTES,
        "Bytes of unread messages kept for one listener, instead of hub.queue_bytes_max.",
    )
    .example("1048576"),
    Key::new(
        "replies_max",
        Kind::Int { min: 1, max: 1_000_000, unit: "messages, 1 = one answer only" },
        "Messages that may answer one request: above 1 its answers are streams where the responder says that more \
         follow, and only clients that can take a stream may ask. What waits for a slow client is bounded as any \
         listener's queue.",
    )
    .default_to("1"),
    Key::new(
        "replies_bytes_max",
        Kind::Int { min: 1024, max: 1 << 40, unit: "bytes" },
        "Bytes of all messages of such an answer.",
    )
    .default_to("67108864"),
    Key::new("reply_gap_timeout_ms", TIMEOUT_MS, "Longest silence between two messages of such an answer.")
        .default_to("5000"),
    Key::new(
        "replies_timeout_ms",
        Kind::Int { min: 100, max: 86_400_000, unit: "ms" },
        "Longest time from the request to the last message of such an answer; timeout_ms is for its first.",
    )
    .default_to("60000"),
    Key::new("breaker_enabled", Kind::Bool, "Whether it has a breaker, instead of breaker.enabled.")
        .example("false"),
    Key::new(
        "breaker_volume_min",
        VOLUME,
        "Calls below which no share of them is judged, instead of breaker.volume_min.",
    )
    .example("20"),
    Key::new(
        "breaker_error_percent",
        PERCENT,
        "Share of the backend's faults that opens its circuit, instead of breaker.error_percent.",
    )
    .example("50"),
    Key::new(
        "breaker_consecutive_max",
        CONSECUTIVE,
        "Faults in a row that open its circuit, instead of breaker.consecutive_max.",
    )
    .example("10"),
    Key::new("breaker_slow_ms", SLOW_MS, "From when on a call is slow, instead of breaker.slow_ms.")
        .example("1000"),
    Key::new("breaker_open_ms", OPEN_MS, "How long its circuit stays open, instead of breaker.open_ms.")
        .example("5000"),
    Key::new(
        "retry_attempts_max",
        ATTEMPTS,
        "Attempts after the first of an idempotent request, instead of retry.attempts_max.",
    )
    .example("2"),
    Key::new(
        "retry_attempt_timeout_ms",
        ATTEMPT_MS,
        "What an attempt may take that another can follow, instead of retry.attempt_timeout_ms.",
    )
    .example("1000"),
    Key::new(
        "idempotency",
        Kind::Bool,
        "Whether it looks at idempotency keys: what comes under one is executed once, and answered with what came of \
         it.",
    )
    .default_to("false"),
    Key::new(
        "idempotency_window_ms",
        WINDOW_MS,
        "How long an answer is kept under its key, instead of idempotency.window_ms.",
    )
    .example("600000"),
    Key::new(
        "calls_adaptive",
        Kind::Bool,
        "Whether its limit of requests follows their latency, instead of concurrency.adaptive.",
    )
    .example("true"),
    Key::new(
        "backpressure_subject",
        Kind::Subject,
        "Where its responder is asked how much it can take. Not set: nowhere.",
    )
    .example("orders.v1.status.backpressure"),
    Key::new("backpressure_enabled", Kind::Bool, "Whether it is asked, instead of backpressure.enabled.")
        .example("false"),
    Key::new(
        "headers",
        Kind::List(&Kind::Header),
        "Headers that a peer may pass on; * stands for every one that is not reserved.",
    )
    .default_to("[]"),
    Key::new(
        "profile",
        Kind::Choice(Profile::NAMES),
        "What its responder wants around a payload. raw: nothing; beamline-router-v1: the decide body of the \
         Beamline router; beamline-admin-v1: JSON, and the router's way to say no; beamline-results-v1: subscriptions \
         to the results of its workers. The keys below are for them.",
    )
    .default_to("raw"),
    Key::new(
        "default_task_type",
        Kind::Text,
        "Type of a task in the profile's body whose client names none by task_type or command.",
    )
    .default_to("task"),
    Key::new("envelope_bytes_max", BYTES, "Largest payload with what the profile puts around it.")
        .default_to("1048576"),
    Key::new(
        "assignment_allowed",
        Kind::Bool,
        "Whether a client may set push_assignment and assignment_subject, which make the router publish, to any \
         subject that is not reserved.",
    )
    .default_to("false"),
    Key::new(
        "results_keys_max",
        Kind::Int { min: 1, max: 1_000_000, unit: "results" },
        "Workers' results that each stream remembers, so that their duplicates are left out.",
    )
    .default_to("1024"),
];

const BYTES: Kind = Kind::Int { min: 0, max: 64 * 1024 * 1024, unit: "bytes" };

/// `[routes.<name>]`.
pub(super) static ROUTES: Family = Family {
    name: "routes",
    one: "a route",
    heading: "Which requests go where, and who may send them.",
    introduction: "\
# Routes: which requests go where, and who may send them. Any table [routes.<name>] is one more. The two below
# exist without this file; patterns = [] and message_types = [] switch one off. A reload puts all of this in
# force.
",
    keys: ROUTE_KEYS,
    built_in: BUILT_IN_ROUTES,
};

/// The built-in routes. `patterns = []` and `message_types = []` switch a route off.
pub(super) static BUILT_IN_ROUTES: &[BuiltIn] = &[
    BuiltIn {
        name: "decide",
        doc: "The three task types of version 1.",
        defaults: &[
            ("patterns", "beamline.router.v1.decide"),
            ("message_types", "task_submit,task_query,task_cancel"),
            ("subject", "beamline.router.v1.decide"),
            ("operations", "request"),
            ("allow", "local,loopback"),
            ("timeout_ms", "5000"),
            // What a router that decides some tens a second can answer within the five seconds.
            ("calls_max", "128"),
            ("backpressure_subject", "beamline.router.v1.status.backpressure"),
            ("headers", "*"),
            ("idempotency", "true"),
            ("profile", "beamline-router-v1"),
        ],
        old_names: &[
            ("subject", &[same("CGW_IPC_ROUTER_SUBJECT"), same("ROUTER_DECIDE_SUBJECT")]),
            ("timeout_ms", &[same("ROUTER_REQUEST_TIMEOUT_MS")]),
        ],
    },
    BuiltIn {
        name: "local",
        doc: "Every subject that is not reserved, for peers on this machine.",
        // One circuit over all subjects would punish every service for one.
        defaults: &[
            ("patterns", ">"),
            ("allow", "local,loopback"),
            ("breaker_enabled", "false"),
            ("headers", "*"),
        ],
        old_names: &[],
    },
];
