//! The `OpenAPI` 3.1 document of the door, built from the list of routes and the one error table, so that it
//! cannot know a path or an error that the program does not.

use std::sync::Arc;

use contract::error::TABLE;
use serde_json::{Map, Value, json};

use crate::problem::TYPE_PREFIX;
use crate::rest::table::Route;
use crate::routes::ENTRIES;

/// The document, with what is configured beside what is built in.
pub(crate) fn document(configured: &[Arc<Route>]) -> Value {
    let mut paths = Map::new();
    for entry in ENTRIES {
        let path = paths.entry(entry.path).or_insert_with(|| json!({}));
        path[entry.method.to_ascii_lowercase()] = operation(entry.path, entry.summary);
    }
    for route in configured {
        let path = paths.entry(&*route.endpoint).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = of_route(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "IPC Gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Request, publish and subscribe on NATS over HTTP. See docs/protocols/http.md.",
        },
        "paths": paths,
        "components": { "schemas": { "Problem": problem(), "Message": message() } },
    })
}

fn operation(path: &str, summary: &str) -> Value {
    let name = match path {
        "/" => "index",
        "/openapi.json" => "openapi",
        "/v1/request/{subject}" => "request",
        "/v1/publish/{subject}" => "publish",
        "/v1/subscribe" => "subscribeToQuery",
        _ => "subscribe",
    };
    let mut operation = json!({
        "operationId": name, "summary": summary, "parameters": parameters(name), "responses": responses(name),
    });
    if matches!(name, "request" | "publish") {
        let anything = json!({ "schema": {} });
        operation["requestBody"] =
            json!({ "description": "The payload, opaque.", "content": { "*/*": anything } });
    }
    operation
}

/// What is known of a configured route: its parameters and the media of its answers. What is in them is its
/// responder's to say.
fn of_route(route: &Route) -> Value {
    let (query, headers) = route.asks();
    let parameter = |place: &str, name: &str, required: bool| json!({ "name": name, "in": place, "required": required, "schema": { "type": "string" } });
    let parameters: Vec<_> = route
        .parameters()
        .into_iter()
        .map(|name| parameter("path", name, true))
        .chain(query.into_iter().map(|name| parameter("query", name, false)))
        .chain(headers.into_iter().map(|name| parameter("header", name, false)))
        .collect();
    let media = if route.is_stream() { "text/event-stream" } else { "*/*" };
    let mut responses = json!({ route.status.as_str(): {
        "description": route.summary, "content": { media: { "schema": {} } },
    } });
    let content = match &route.form {
        Some(_) => json!({ "application/json": { "schema": { "type": "object" } } }),
        None => {
            json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } })
        }
    };
    responses["default"] = json!({ "description": "What went wrong.", "content": content });
    let mut operation = json!({
        "operationId": format!("rest_{}", route.name), "summary": route.summary, "parameters": parameters,
        "responses": responses,
    });
    if route.takes_body() {
        operation["requestBody"] = json!({ "content": { "*/*": { "schema": {} } } });
    }
    operation
}

fn parameters(name: &str) -> Value {
    let text = json!({ "type": "string" });
    let header = |name: &str, description: &str| json!({ "name": name, "in": "header", "description": description, "schema": text });
    let subject = |place: &str, name: &str, description: &str| json!({ "name": name, "in": place, "required": true, "description": description, "schema": text });
    let timeout = header("X-Request-Timeout", "Deadline: milliseconds, or a number with ms, s or m.");
    let parent = header("traceparent", "W3C Trace Context.");
    let resumed =
        header("Last-Event-ID", "Sent by a client that was here before: it is told of a gap first.");
    let pattern = "A NATS pattern; * stands for one token, > (%3E) at the end for the rest.";
    match name {
        "request" | "publish" => json!([
            subject("path", "subject", "A NATS subject."),
            timeout,
            header("Idempotency-Key", "Says that the request may be done twice."),
            header("X-Idempotent", "true says that the request may be done twice."),
            parent,
        ]),
        "subscribe" => json!([subject("path", "pattern", pattern), parent, resumed]),
        "subscribeToQuery" => json!([subject("query", "pattern", pattern), parent, resumed]),
        _ => json!([]),
    }
}

fn responses(name: &str) -> Value {
    let content = |media: &str, schema: Value| json!({ media: { "schema": schema } });
    let mut responses = match name {
        "request" => {
            json!({ "200": {
                "description": "The reply's payload; of a reply of many messages, for who accepts it, events named \
                    message (data: Message), end and error (data: Problem).",
                "content": { "*/*": { "schema": {} }, "text/event-stream": { "schema": { "type": "string" } } },
            } })
        }
        "publish" => json!({ "202": {
            "description": "Handed to a live connection of the backend: no more is promised.",
            "content": content("application/json", json!({
                "type": "object", "required": ["accepted"], "properties": { "accepted": { "const": true } },
            })),
        } }),
        "subscribe" | "subscribeToQuery" => json!({ "200": {
            "description": "Events named message (data: Message), gap, end and error (data: Problem).",
            "content": content("text/event-stream", json!({ "type": "string" })),
        } }),
        _ => json!({ "200": {
            "description": "A JSON object.", "content": content("application/json", json!({ "type": "object" })),
        } }),
    };
    // One entry stands for every status of the table, and for those that a backend chooses for itself.
    responses["default"] = json!({
        "description": "What went wrong.",
        "headers": { "Retry-After": { "description": "Whole seconds.", "schema": { "type": "integer" } } },
        "content": content("application/problem+json", json!({ "$ref": "#/components/schemas/Problem" })),
    });
    responses
}

fn problem() -> Value {
    let codes: Vec<_> = TABLE.iter().map(|row| row.code).collect();
    let types: Vec<_> = codes.iter().map(|code| format!("{TYPE_PREFIX}{code}")).collect();
    let usual: Vec<_> = TABLE.iter().map(|row| format!("{} {}", row.code, row.http)).collect();
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "kind", "outcome"],
        "additionalProperties": false,
        "properties": {
            "type": { "enum": types },
            "title": { "type": "string" },
            "status": {
                "type": "integer", "minimum": 400, "maximum": 599,
                "description": format!("Usually, by kind: {}.", usual.join(", ")),
            },
            "detail": { "type": "string", "description": "For people." },
            "kind": { "enum": codes, "description": "For programs: the contract." },
            "outcome": {
                "enum": ["not_sent", "unknown", "done"],
                "description": "What became of the request: it has not happened, it may have, a responder dealt with it.",
            },
            "retry_after_ms": { "type": "integer" },
            "trace_id": { "type": "string" },
            "backend_code": { "type": "string", "description": "With kind failed: the responder's own code." },
            "body": { "description": "With kind failed: the responder's body, if it is JSON." },
            "body_base64": { "type": "string", "description": "With kind failed: the body, if it is not." },
        },
    })
}

fn message() -> Value {
    let value =
        json!({ "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] });
    json!({
        "type": "object",
        "required": ["subject"],
        "additionalProperties": false,
        "properties": {
            "subject": { "type": "string" },
            "headers": { "type": "object", "additionalProperties": value },
            "payload": { "description": "The payload, if it is JSON." },
            "payload_base64": { "type": "string", "description": "The payload, if it is not." },
        },
    })
}
