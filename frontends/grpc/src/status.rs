//! What went wrong, as a status of gRPC with details.
//!
//! The code is the error table's; `grpc-status-details-bin` holds a `google.rpc.Status` whose details are an
//! `ErrorInfo` (the kind is the contract), a `RetryInfo` where there is a hint, and a `gateway.v1.Failed` where a
//! responder said no. The four messages of `google.rpc` and `google.protobuf` that this takes are written here:
//! they have been frozen for years, and a crate of all of them is larger than their use.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use contract::{Error, Failed, Outcome, TraceContext};
use prost::Message;
use tonic::{Code, Status};

use crate::proto;

/// The domain of every `ErrorInfo`.
pub(crate) const DOMAIN: &str = "ipc-gateway";
/// Bytes of the longest text: a status is a header, and clients take 8 KiB of them.
const TEXT_BYTES_MAX: usize = 1024;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Span>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Any {
    fn of(name: &str, message: &impl Message) -> Self {
        Self { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
    }
}

/// How failures are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Telling {
    /// Bytes of a responder's body that are told in the details of a status.
    pub(crate) body_bytes_max: usize,
}

impl Telling {
    /// The status of a call.
    pub(crate) fn status(self, error: &Error, trace: &TraceContext) -> Status {
        self.status_with(error, trace, &[])
    }

    /// The same with more metadata in its `ErrorInfo`.
    pub(crate) fn status_with(self, error: &Error, trace: &TraceContext, more: &[(&str, String)]) -> Status {
        let (code, text) = (code(error), clip(error.text()));
        let outcome = error.outcome().code().to_owned();
        let mut metadata = BTreeMap::from([
            ("outcome".to_owned(), outcome),
            ("trace_id".to_owned(), trace.trace_id().to_string()),
        ]);
        metadata.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let reason = error.kind().code().to_ascii_uppercase();
        let info = ErrorInfo { reason, domain: DOMAIN.to_owned(), metadata };
        let mut details = vec![Any::of("google.rpc.ErrorInfo", &info)];
        if let Some(wait) = error.retry_after() {
            let retry = RetryInfo { retry_delay: Some(span(wait)) };
            details.push(Any::of("google.rpc.RetryInfo", &retry));
        }
        if let Some(failed) = error.as_failed() {
            let mut failed = proto_failed(failed);
            if failed.body.len() > self.body_bytes_max {
                failed.body = Bytes::new();
            }
            details.push(Any::of("gateway.v1.Failed", &failed));
        }
        let status = RpcStatus { code: code as i32, message: text.to_owned(), details };
        Status::with_details(code, text, status.encode_to_vec().into())
    }
}

/// The error's code; one that says no error (a responder may have said anything) gives way to the table's.
fn code(error: &Error) -> Code {
    match Code::from_i32(error.grpc().into()) {
        Code::Ok => Code::from_i32(error.kind().row().grpc.into()),
        code => code,
    }
}

/// An error within a session.
pub(crate) fn message(error: &Error) -> proto::Error {
    let outcome = match error.outcome() {
        Outcome::NotSent => proto::Outcome::NotSent,
        Outcome::Unknown => proto::Outcome::Unknown,
        Outcome::Done => proto::Outcome::Done,
    };
    proto::Error {
        kind: error.kind().code().to_owned(),
        grpc_code: (code(error) as i32).unsigned_abs(),
        outcome: outcome.into(),
        text: error.text().to_owned(),
        retry_after_ms: error.retry_after().map(milliseconds),
        failed: error.as_failed().map(proto_failed),
    }
}

fn proto_failed(failed: &Failed) -> proto::Failed {
    let body = failed.body.clone();
    proto::Failed { code: failed.code.to_string(), body_bytes: body.len() as u64, body }
}

/// A duration in milliseconds, never zero: "at once" would read as "not said".
pub(crate) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}

fn span(duration: Duration) -> Span {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Span { seconds, nanos: i32::try_from(duration.subsec_nanos()).expect("below a thousand million") }
}

fn clip(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use contract::Kind;

    use super::*;

    fn details(status: &Status) -> Vec<Any> {
        RpcStatus::decode(status.details()).unwrap().details
    }

    #[test]
    fn a_status_says_the_kind_the_outcome_and_when_to_retry() {
        let error = Error::new(Kind::RateLimited, "too fast").with_retry_after(Duration::from_millis(1500));
        let trace = TraceContext::start();
        let status = Telling { body_bytes_max: 10 }.status_with(&error, &trace, &[("accepted", "3".into())]);
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "too fast"));
        let details = details(&status);
        let info = ErrorInfo::decode(&*details[0].value).unwrap();
        assert_eq!((&*info.reason, &*info.domain), ("RATE_LIMITED", DOMAIN));
        assert_eq!((&*info.metadata["outcome"], &*info.metadata["accepted"]), ("not_sent", "3"));
        assert_eq!(info.metadata["trace_id"], trace.trace_id().to_string());
        let retry = RetryInfo::decode(&*details[1].value).unwrap().retry_delay.unwrap();
        assert_eq!((retry.seconds, retry.nanos, details.len()), (1, 500_000_000, 2));
    }

    #[test]
    fn a_responders_no_keeps_its_code_and_a_body_that_fits() {
        let failed = |body: &'static str, grpc| {
            let failed = Failed { body: body.into(), code: "nope".into(), http: 404, grpc, counts: false };
            Telling { body_bytes_max: 4 }.status(&Error::failed(failed, "no"), &TraceContext::start())
        };
        let status = failed("{  }", 5);
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(details(&status)[1].type_url, "type.googleapis.com/gateway.v1.Failed");
        let told = proto::Failed::decode(&*details(&status)[1].value).unwrap();
        assert_eq!((&*told.code, &told.body[..], told.body_bytes), ("nope", &b"{  }"[..], 4));
        // "No error" is no code for a no, and a large body is not told.
        let status = failed("{   }", 0);
        assert_eq!(status.code(), Code::Unknown);
        let told = proto::Failed::decode(&*details(&status)[1].value).unwrap();
        assert_eq!((told.body.len(), told.body_bytes), (0, 5));
    }

    #[test]
    fn the_cause_is_not_told_and_a_text_is_bounded() {
        let error = Error::new(Kind::Unavailable, "é".repeat(2000)).with_cause("nats://user:pw@host");
        let status = Telling { body_bytes_max: 0 }.status(&error, &TraceContext::start());
        assert_eq!(status.message().len(), 1024);
        assert!(!String::from_utf8_lossy(status.details()).contains("pw"));
    }
}
