//! The settings of a configured REST route, and those of a form of errors that such routes name.
//!
//! What stands in templates is the HTTP door's to read, so most of these are texts here, and are checked when the door
//! compiles them.

use super::family::Family;
use super::key::Key;
use super::value::Kind;

/// What a route may do.
pub(super) const OPERATIONS: &[&str] = &["request", "publish", "subscribe", "status"];
/// The methods that a route may have.
pub(super) const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE"];

/// `[rest.<name>]`.
pub(super) static REST: Family = Family {
    name: "rest",
    one: "a REST route",
    heading: "Paths of the HTTP door and what they are in subjects.",
    introduction: "\
# REST routes: paths of the HTTP door, each with what it is in subjects. Any table [rest.<name>] is one; there
# are none without a file. Who may use one and how often is said by the route of its subject, above. What the
# templates may hold is in docs/protocols/rest.md.
",
    keys: REST_KEYS,
    built_in: &[],
};

/// `[rest_errors.<name>]`.
pub(super) static REST_ERRORS: Family = Family {
    name: "rest_errors",
    one: "a form of errors",
    heading: "How errors are told on REST routes that name one.",
    introduction: "\
# Forms of errors: what goes wrong on REST routes that name one is told so, and not as a problem document.
",
    keys: FORM_KEYS,
    built_in: &[],
};

const REST_KEYS: &[Key] = &[
    Key::new("method", Kind::Choice(METHODS), "Its method. HEAD is answered where GET is.").default_to("GET"),
    Key::new(
        "path",
        Kind::Text,
        "Its path; a segment in braces stands for any text that is not empty, and names it. Needed.",
    )
    .example("/api/v1/orders/{order}"),
    Key::new("summary", Kind::Text, "What it does, for GET / and the OpenAPI document.")
        .example("The state of an order."),
    Key::new(
        "operation",
        Kind::Choice(OPERATIONS),
        "What it does to its subject; status: the gateway itself answers, by the template in answer.",
    )
    .default_to("request"),
    Key::new(
        "subject",
        Kind::Text,
        "Its subject, or pattern; a token may be a placeholder, which then has to be one token. Needed, but for \
         status.",
    )
    .example("orders.v1.{order}.state"),
    Key::new(
        "body",
        Kind::Text,
        "What is sent. passed: the body of the request (of a GET, nothing); empty: nothing; anything else is a \
         template of JSON.",
    )
    .default_to("passed"),
    Key::new(
        "headers",
        Kind::List(&Kind::Text),
        "Headers that are sent, each Name: template, as far as the subject's route lets them pass.",
    )
    .default_to("[]"),
    Key::new(
        "tenant_from",
        Kind::List(&Kind::Text),
        "Sources, such as header:X-Tenant-ID, that must name the tenant of who asks, as far as they are there.",
    )
    .default_to("[]"),
    Key::new("tenant_required", Kind::Bool, "Whether one of the sources in tenant_from must be there.")
        .default_to("false"),
    Key::new(
        "answer",
        Kind::Text,
        "What is answered. whole: what the responder says; a JSON pointer: that part of it, as it was written; for \
         publish and status a template of JSON.",
    )
    .default_to("whole"),
    Key::new(
        "status",
        Kind::Int { min: 200, max: 299, unit: "" },
        "The status of a success, instead of 200, or 202 for a publish.",
    )
    .example("201"),
    Key::new("errors", Kind::Text, "The table [rest_errors.<name>] by which errors are told, instead of a problem.")
        .example("plain"),
    Key::new(
        "filter",
        Kind::List(&Kind::Text),
        "Of a subscription: JSON pointers. A message passes if the first part that is there is filter_value.",
    )
    .default_to("[]"),
    Key::new("filter_value", Kind::Text, "Of a subscription: the source of the text that messages must have.")
        .example("query:customer"),
    Key::new("event_name", Kind::Text, "Of a subscription: the JSON pointer to an event's name, instead of message.")
        .example("/type"),
    Key::new(
        "event_data",
        Kind::Text,
        "Of a subscription: the JSON pointer to an event's data, instead of the message with its subject.",
    )
    .example("/data"),
];

const FORM_KEYS: &[Key] = &[
    Key::new("body", Kind::Text, "The body, a template of JSON. Needed.")
        .example(r#"{"error":"{code}","message":"{message}"}"#),
    Key::new(
        "headers",
        Kind::List(&Kind::Text),
        "Headers beside it, each status Name: template; one whose placeholder is not known is left out.",
    )
    .default_to("[]"),
    Key::new(
        "codes",
        Kind::List(&Kind::Text),
        "What {code} is for the kinds of errors in docs/protocols/errors.md, each kind=code. A responder's own code \
         stays.",
    )
    .default_to("[]"),
];
