//! From a reply to an answer of HTTP.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use contract::{ByteBudget, Message};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};

use crate::names::HeaderNames;
use crate::problem;
use wire::charged::charged;

/// The media type of what begins like JSON.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A publish was handed on: 202, as no more is known.
pub(crate) fn accepted() -> Response {
    json(StatusCode::ACCEPTED, Bytes::from_static(b"{\"accepted\":true}"))
}

/// A document of the door's own.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    problem::plain(response.headers_mut());
    response
}

/// A responder's message: its payload untouched, its headers as far as they are listed.
pub(crate) fn message(message: Message, names: &HeaderNames, budget: &ByteBudget) -> Response {
    let mut headers = HeaderMap::new();
    names.give(&message.headers, &mut headers);
    headers.insert(CONTENT_TYPE, content_type(&message));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let mut response = Response::new(Body::from(charged(message.payload, budget)));
    *response.headers_mut() = headers;
    response
}

/// What the responder says, else JSON for what begins like it: looking at one byte costs nothing, and whoever
/// must know parses it anyway.
fn content_type(message: &Message) -> HeaderValue {
    let said = message.headers.get("content-type").filter(|said| !said.is_empty());
    if let Some(said) = said.and_then(|said| HeaderValue::from_str(said).ok()) {
        return said;
    }
    let first = message.payload.iter().find(|byte| !byte.is_ascii_whitespace());
    if matches!(first, Some(b'{' | b'[' | b'"')) { JSON } else { BYTES }
}

#[cfg(test)]
mod tests {
    use contract::Headers;

    use super::*;

    fn answered(headers: &[(&'static str, &'static str)], payload: &'static str) -> Response {
        let mut list = Headers::new();
        for (name, value) in headers {
            list.append(*name, *value).unwrap();
        }
        let names = HeaderNames::of_answers(&["x-a".to_owned()]);
        message(Message { headers: list, payload: payload.into() }, &names, &ByteBudget::new(0))
    }

    #[test]
    fn the_content_type_is_the_responders_or_guessed_from_the_first_byte() {
        let of = |headers, payload| answered(headers, payload).headers()["content-type"].clone();
        assert_eq!(of(&[("Content-Type", "text/csv")], "{}"), "text/csv");
        assert_eq!(of(&[("content-type", "")], " \n[1]"), "application/json");
        assert_eq!(of(&[], "{"), "application/json");
        assert_eq!(of(&[], "hello"), "application/octet-stream");
        assert_eq!(of(&[], ""), "application/octet-stream");
    }

    #[test]
    fn only_listed_headers_come_back() {
        let response = answered(&[("X-A", "1"), ("x-a", "2"), ("X-B", "3")], "");
        let values: Vec<_> = response.headers().get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert!(!response.headers().contains_key("x-b"));
    }
}
