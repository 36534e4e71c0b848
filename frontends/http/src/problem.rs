//! What went wrong, as `application/problem+json` (RFC 9457).
//!
//! `type` is a name and no address: there is nothing to fetch. Its last part, the same as `kind`, is the string
//! code of the one error table, which is the contract; the status is HTTP's dialect of it.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use contract::{ByteBudget, Error, Scope, TraceContext};
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use serde::Serialize;
use serde_json::value::RawValue;
use wire::charged::charged;

use crate::payload::Payload;

/// The media type.
pub(crate) const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
/// What every `type` begins with.
pub(crate) const TYPE_PREFIX: &str = "urn:ipc-gateway:error:";

/// An error on its way to a client, with what HTTP knows beside it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    status: Option<StatusCode>,
    close: bool,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, status: None, close: false }
    }
}

impl Refused {
    /// An error after which the connection ends, because it is not known where the next request begins.
    pub(crate) fn closing(error: Error) -> Self {
        Self { error, status: None, close: true }
    }

    /// Says the status, where HTTP has one that fits better than the table's.
    #[must_use]
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status: Some(status), ..self }
    }

    /// The answer to what the door refuses by itself: a few hundred bytes.
    pub(crate) fn respond(&self, trace: &TraceContext) -> Response {
        self.answer(trace, |document| document)
    }

    /// The answer, whose bytes count until they are gone: a responder's no may be part of it.
    pub(crate) fn respond_within(&self, trace: &TraceContext, budget: &ByteBudget) -> Response {
        self.answer(trace, |document| charged(document, budget))
    }

    fn answer(&self, trace: &TraceContext, count: impl FnOnce(Bytes) -> Bytes) -> Response {
        let status = self.status.unwrap_or_else(|| status(&self.error));
        let document = count(document(&self.error, status, Some(trace)).into());
        let mut response = Response::new(Body::from(document));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM);
        plain(headers);
        if let Some(wait) = self.error.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        if self.close || self.error.kind().row().scope == Scope::Connection {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// What every answer of the door's own says: not to be kept, not to be guessed about.
pub(crate) fn plain(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// The bytes that turn a connection away before its first request is read.
pub(crate) fn before_any_request(error: &Error) -> Vec<u8> {
    let status = status(error);
    let body = document(error, status, None);
    let retry =
        error.retry_after().map_or_else(String::new, |wait| format!("retry-after: {}\r\n", seconds(wait)));
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\n{retry}connection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
    )
    .into_bytes()
}

/// The document.
pub(crate) fn document(error: &Error, status: StatusCode, trace: Option<&TraceContext>) -> String {
    #[derive(Serialize)]
    struct Document<'a> {
        r#type: String,
        title: String,
        status: u16,
        detail: &'a str,
        kind: &'a str,
        outcome: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u128>,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        backend_code: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        body_base64: Option<String>,
    }
    let code = error.kind().code();
    let failed = error.as_failed();
    let (body, body_base64) = match failed.map(|failed| Payload::of(&failed.body)) {
        Some(Payload::Json(json)) => (Some(json), None),
        Some(Payload::Bytes(bytes)) => (None, Some(Payload::base64(bytes))),
        Some(Payload::Empty) | None => (None, None),
    };
    let document = Document {
        r#type: format!("{TYPE_PREFIX}{code}"),
        title: code.replace('_', " "),
        status: status.as_u16(),
        detail: error.text(),
        kind: code,
        outcome: error.outcome().code(),
        retry_after_ms: error.retry_after().map(|wait| wait.as_millis()),
        trace_id: trace.map(|trace| trace.trace_id().to_string()),
        backend_code: failed.map(|failed| &*failed.code),
        body,
        body_base64,
    };
    serde_json::to_string(&document).expect("a document of texts and numbers can be written")
}

/// The error's status; one that says no error (a backend may have said anything) gives way to the table's.
pub(crate) fn status(error: &Error) -> StatusCode {
    let shown = StatusCode::from_u16(error.http()).ok().filter(|status| status.as_u16() >= 400);
    shown.unwrap_or_else(|| StatusCode::from_u16(error.kind().row().http).expect("the table holds statuses"))
}

/// Whole seconds, rounded up: a client that comes back earlier would come in vain.
pub(crate) fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use contract::{Failed, Kind};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_document_says_all_that_is_known() {
        let error = Error::new(Kind::RateLimited, "too fast").with_retry_after(Duration::from_millis(1500));
        let trace = TraceContext::start();
        let document: Value = serde_json::from_str(&document(&error, status(&error), Some(&trace))).unwrap();
        let expected = json!({
            "type": "urn:ipc-gateway:error:rate_limited", "title": "rate limited", "status": 429,
            "detail": "too fast", "kind": "rate_limited", "outcome": "not_sent", "retry_after_ms": 1500,
            "trace_id": trace.trace_id().to_string(),
        });
        assert_eq!(document, expected);
        let response = Refused::from(error).respond(&trace);
        assert_eq!(response.status().as_u16(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert!(!response.headers().contains_key("connection"));
    }

    #[test]
    fn the_backends_no_keeps_its_status_code_and_body() {
        let failed = |body: &'static str, http| {
            let failed = Failed { body: body.into(), code: "nope".into(), http, grpc: 2, counts: false };
            let error = Error::failed(failed, "no");
            serde_json::from_str::<Value>(&document(&error, status(&error), None)).unwrap()
        };
        let json = failed("{\"a\":1.0}", 404);
        assert_eq!(
            (&json["status"], &json["backend_code"], &json["body"]),
            (&json!(404), &json!("nope"), &json!({"a": 1.0}))
        );
        let text = failed("\u{1}", 200);
        assert_eq!(
            (&text["status"], &text["body_base64"], text.get("body")),
            (&json!(502), &json!("AQ=="), None)
        );
    }

    #[test]
    fn the_cause_is_not_told() {
        let error = Error::new(Kind::Unavailable, "no connection").with_cause("nats://user:pw@host");
        assert!(!document(&error, status(&error), None).contains("pw"));
    }

    #[test]
    fn a_connection_is_turned_away_in_whole_http() {
        let error = Error::new(Kind::Overloaded, "full").with_retry_after(Duration::from_millis(1));
        let text = String::from_utf8(before_any_request(&error)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        assert!(head.contains("retry-after: 1\r\n"), "{head}");
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
    }
}
