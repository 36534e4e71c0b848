//! The admin pages: what each path answers.
//!
//! The guard speaks first, so that a stranger learns nothing, not even which paths there are. Bodies are JSON,
//! except the metrics. A request's body means nothing here and is never read; as what follows it on the
//! connection could then be taken for a request, such a connection ends with its answer.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Map, Value, json};
use wire::site::{Refusal, Site};

use super::Status;
use super::clock::rfc3339;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Prometheus' text exposition format.
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The answer to one request; hyper leaves the body out for HEAD.
pub(super) fn answer<B: Body>(
    request: &Request<B>,
    site: &Site,
    status: &dyn Status,
) -> Response<Full<Bytes>> {
    let mut response = match check(site, request) {
        Ok(()) => page(request.method(), request.uri().path(), status),
        Err(refusal) => {
            tracing::debug!(%refusal, "an admin request was refused");
            let code = if refusal.is_malformed() { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN };
            json_page(code, &json!({"error": refusal.code(), "message": refusal.to_string()}))
        }
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !request.body().is_end_stream() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether who asks may be answered.
fn check<B>(site: &Site, request: &Request<B>) -> Result<(), Refusal> {
    let authority = request.uri().authority().map(Authority::as_str);
    site.check(authority, |name| request.headers().get_all(name).iter().map(HeaderValue::as_bytes))
}

fn page(method: &Method, path: &str, status: &dyn Status) -> Response<Full<Bytes>> {
    let make = match path {
        "/" => index,
        "/health" => health,
        "/ready" => ready,
        "/metrics" => metrics,
        _ => return lost(path),
    };
    if method == Method::GET || method == Method::HEAD {
        return make(status);
    }
    let mut response = json_page(
        StatusCode::METHOD_NOT_ALLOWED,
        &json!({"error": "method_not_allowed", "message": "only GET and HEAD are answered here"}),
    );
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn index(_: &dyn Status) -> Response<Full<Bytes>> {
    json_page(
        StatusCode::OK,
        &json!({
            "name": "ipc-gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "pages": {
                "/health": "whether the process is alive",
                "/ready": "whether it can serve now, and why not",
                "/metrics": "what was counted, for Prometheus",
            },
        }),
    )
}

fn health(status: &dyn Status) -> Response<Full<Bytes>> {
    let mut body = stamped(status.health());
    body.entry("status").or_insert_with(|| "healthy".into());
    json_page(StatusCode::OK, &Value::Object(body))
}

fn ready(status: &dyn Status) -> Response<Full<Bytes>> {
    let (is_ready, told) = status.ready();
    let (code, word, message) = if is_ready {
        (StatusCode::OK, "healthy", "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unhealthy", "not ready")
    };
    let mut body = stamped(told);
    body.insert("status".into(), word.into());
    body.entry("message").or_insert_with(|| message.into());
    json_page(code, &Value::Object(body))
}

fn metrics(status: &dyn Status) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, PROMETHEUS, status.metrics())
}

fn lost(path: &str) -> Response<Full<Bytes>> {
    // The path is the peer's text: quoted by JSON, and bounded with the head.
    json_page(
        StatusCode::NOT_FOUND,
        &json!({"error": "not_found", "message": format!("there is no {path} here; / lists what there is")}),
    )
}

/// The object that was told, with the moment; anything but an object is kept under `detail`.
fn stamped(told: Value) -> Map<String, Value> {
    let mut body = match told {
        Value::Object(body) => body,
        Value::Null => Map::new(),
        other => Map::from_iter([("detail".to_owned(), other)]),
    };
    body.entry("timestamp").or_insert_with(|| rfc3339(SystemTime::now()).into());
    body
}

fn json_page(code: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    respond(code, JSON, format!("{body}\n"))
}

fn respond(code: StatusCode, content_type: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
