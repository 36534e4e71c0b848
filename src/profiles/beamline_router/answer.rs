//! The router's answers: a success stays as it is, `"ok":false` becomes the error kind `failed` with the statuses of
//! one table.
//!
//! In its refusals the router often does not know which request it answers (`"request_id":"undefined"`), so nothing of
//! the body is compared with the request: the reply inbox has done that.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use contract::{Error, Failed, Reply};
use serde_json::value::RawValue;

use super::members::{Answer, Fault};

/// Unknown codes that are remembered, so that each is logged once.
const UNKNOWN_CODES_MAX: usize = 64;

/// The code of a refusal that says none.
const CODE_UNKNOWN: &str = "failed";

/// The HTTP status, the gRPC status code, and whether a breaker counts it, for each code of the router. `None` for a
/// code that is not known: then they are 502, 2 and no.
pub fn statuses(code: &str) -> Option<(u16, u8, bool)> {
    Some(match code {
        "invalid_request" => (400, 3, false),
        "unauthorized" => (401, 16, false),
        "validator_blocked" => (403, 7, false),
        "policy_not_found" => (404, 5, false),
        "decision_failed" => (500, 13, false),
        "internal" => (500, 13, true),
        "extension_not_found" | "extension_error" => (502, 14, false),
        "post_processor_failed" => (502, 13, false),
        "extension_unavailable" => (503, 14, false),
        "extension_timeout" => (504, 4, false),
        _ => return None,
    })
}

/// Reads the answer to a decide request.
pub fn decode(answer: Result<Reply, Error>) -> Result<Reply, Error> {
    match answer {
        Ok(Reply::Message(message)) => match refusal(&message.payload) {
            Some(error) => Err(error),
            None => Ok(Reply::Message(message)),
        },
        // A no of the headers: the body may say more about it.
        Err(error) => Err(error.as_failed().and_then(|failed| refusal(&failed.body)).unwrap_or(error)),
        other => other,
    }
}

fn refusal(body: &Bytes) -> Option<Error> {
    let answer = Answer::read(body).ok()?;
    answer.ok.filter(|ok| ok.get() == "false")?;
    let fault = answer.error.and_then(|error| Fault::read(error.get().as_bytes()).ok()).unwrap_or_default();
    let code = fault.code.and_then(text).filter(|code| !code.is_empty());
    let code = code.unwrap_or_else(|| CODE_UNKNOWN.to_owned());
    let (http, grpc, counts) = statuses(&code).unwrap_or_else(|| {
        note(&code);
        (502, 2, false)
    });
    let message =
        fault.message.and_then(text).unwrap_or_else(|| "the router answered with an error".to_owned());
    Some(Error::failed(Failed { body: body.clone(), code: code.into(), http, grpc, counts }, message))
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Logs a code that is not known, once.
fn note(code: &str) {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.len() < UNKNOWN_CODES_MAX && seen.insert(code.to_owned()) {
        tracing::warn!(code, "the router answered with a code that is not known; it is shown as 502");
    }
}
