//! The form of errors that an interface has: a body by a template, and headers by status.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use contract::{ByteBudget, Error, Kind, TraceContext};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use serde_json::json;
use wire::charged::charged;

use super::Standing;
use super::source::{Facts, Given, Known, Value};
use super::template::{Missing, Template, quoted};
use crate::answer::JSON;
use crate::problem::{Refused, seconds};

/// A form that is in force.
#[derive(Debug)]
pub(crate) struct Form {
    pub(super) body: Template,
    pub(super) headers: Vec<(StatusCode, HeaderName, Template)>,
    pub(super) codes: Vec<(Kind, Box<str>)>,
}

/// The facts of an error.
#[derive(Clone, Copy)]
struct Told<'a> {
    error: &'a Error,
    status: StatusCode,
    trace: &'a TraceContext,
    endpoint: &'a str,
    /// The form's own words for kinds.
    codes: &'a [(Kind, Box<str>)],
    /// Whether parts of the request's body are in it.
    echoes: bool,
}

/// An error of more bytes has nothing of the request's body in it. What a client names its request by is far less.
const ECHO_BYTES_MAX: usize = 16 * 1024;

impl Form {
    /// The answer: as any other, with the body and the headers of this form.
    pub(crate) fn respond(
        &self,
        refused: &Refused,
        trace: &TraceContext,
        endpoint: &str,
        given: &impl Given,
        budget: &ByteBudget,
    ) -> Response {
        let mut response = refused.respond(trace);
        let told = self.told(&refused.error, response.status(), trace, endpoint);
        *response.body_mut() = Body::from(charged(self.text(told, given).into(), budget));
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        for (status, name, template) in &self.headers {
            if *status != told.status {
                continue;
            }
            let value = template.fill_text(&Known { given, facts: told }, Missing::Empty).ok().flatten();
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    /// An error that ends a stream, on one line.
    pub(crate) fn line(
        &self,
        error: &Error,
        trace: &TraceContext,
        endpoint: &str,
        given: &impl Given,
    ) -> String {
        let told = self.told(error, crate::problem::status(error), trace, endpoint);
        self.text(told, given).replace(['\r', '\n'], " ")
    }

    fn told<'a>(
        &'a self,
        error: &'a Error,
        status: StatusCode,
        trace: &'a TraceContext,
        endpoint: &'a str,
    ) -> Told<'a> {
        Told { error, status, trace, endpoint, codes: &self.codes, echoes: true }
    }

    /// What a client sent is given back in a part only: an error is no echo.
    fn text(&self, told: Told<'_>, given: &impl Given) -> String {
        let fill = |facts| {
            let known = Known { given, facts };
            self.body.fill(&known, Missing::Empty).expect("what is missing in an error is left empty")
        };
        let text = fill(told);
        if text.len() <= ECHO_BYTES_MAX {
            return text;
        }
        fill(Told { echoes: false, ..told })
    }
}

impl Told<'_> {
    fn code(&self) -> &str {
        let own = self.error.as_failed().map(|failed| &*failed.code).filter(|code| !code.is_empty());
        let word = || self.codes.iter().find(|(kind, _)| *kind == self.error.kind()).map(|(_, word)| &**word);
        own.or_else(word).unwrap_or(self.error.kind().code())
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        self.error.retry_after().map(seconds)
    }

    /// What is known beside the text, as an object.
    fn details(&self) -> String {
        let Some(rate) = self.error.rate_per_second() else { return "{}".to_owned() };
        json!({
            "endpoint": self.endpoint,
            "limit": rate,
            "retry_after_seconds": self.retry_after_seconds(),
        })
        .to_string()
    }
}

impl Facts for Told<'_> {
    fn tells_request(&self) -> bool {
        self.echoes
    }

    fn answer(&self) -> &[u8] {
        self.error.as_failed().map_or(&[], |failed| &failed.body)
    }

    fn fact(&self, word: &str) -> Option<Value<'_>> {
        let text = |text| Some(Value::Text(Cow::Borrowed(text)));
        let number = |number: u64| Value::Json(number.to_string().into());
        match word {
            "code" => text(self.code()),
            "kind" => text(self.error.kind().code()),
            "message" => text(self.error.text()),
            "status" => Some(number(self.status.as_u16().into())),
            "outcome" => text(self.error.outcome().code()),
            "details" => Some(Value::Json(self.details().into())),
            "endpoint" => text(self.endpoint),
            "trace_id" => Some(Value::Text(self.trace.trace_id().to_string().into())),
            "limit" => self.error.rate_per_second().map(|rate| number(rate.get().into())),
            "retry_after_seconds" => self.retry_after_seconds().map(number),
            "reset_unix_seconds" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                self.retry_after_seconds().map(|wait| number(now.saturating_add(wait)))
            }
            _ => None,
        }
    }
}

/// The facts of the gateway's own answer.
impl Facts for Standing {
    fn fact(&self, word: &str) -> Option<Value<'_>> {
        let healthy = if self.connected { "healthy" } else { "degraded" };
        Some(match word {
            "status" => Value::Text(healthy.into()),
            "version" => Value::Text(env!("CARGO_PKG_VERSION").into()),
            "connected" => Value::Json(self.connected.to_string().into()),
            "time" => Value::Json(quoted(&self.time)),
            _ => return None,
        })
    }
}
