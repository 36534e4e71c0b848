//! A worker's result as it comes: flat, or in an envelope.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The version of a flat result.
const FLAT_VERSIONS: [&str; 2] = ["1", "1.0"];
/// The version of an envelope.
const ENVELOPE_VERSION: &str = "v1";
/// The kind of an envelope that holds a result.
const ENVELOPE_KIND: &str = "exec_result";

/// What is read of a result.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WorkerResult<'a> {
    /// The flat result within its envelope; `None` if it came flat.
    pub(super) flat: Option<&'a [u8]>,
    /// Of which request; may be empty if the assignment is not.
    pub(super) request_id: Cow<'a, str>,
    /// Of which assignment; may be empty if the request is not.
    pub(super) assignment_id: Cow<'a, str>,
    /// Of which tenant, if it says so.
    pub(super) tenant_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Flat<'a> {
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    request_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    assignment_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tenant_id: Option<Cow<'a, str>>,
}

impl<'a> WorkerResult<'a> {
    /// Reads either shape; `None` for what is neither, or names neither a request nor an assignment.
    pub(super) fn read(payload: &'a [u8]) -> Option<Self> {
        let envelope: Envelope<'a> = serde_json::from_slice(payload).ok()?;
        if envelope.version != ENVELOPE_VERSION {
            return Self::of(payload, None);
        }
        let kind: String = serde_json::from_str(envelope.kind?.get()).ok()?;
        let data = envelope.data?.get().as_bytes();
        if kind == ENVELOPE_KIND { Self::of(data, Some(data)) } else { None }
    }

    fn of(text: &'a [u8], flat: Option<&'a [u8]>) -> Option<Self> {
        let found: Flat<'a> = serde_json::from_slice(text).ok()?;
        let (request_id, assignment_id) =
            (found.request_id.unwrap_or_default(), found.assignment_id.unwrap_or_default());
        let is_known = FLAT_VERSIONS.contains(&&*found.version);
        let is_named = !request_id.is_empty() || !assignment_id.is_empty();
        let tenant_id = found.tenant_id;
        (is_known && is_named).then_some(Self { flat, request_id, assignment_id, tenant_id })
    }
}
