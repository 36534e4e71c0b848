//! The profile of the Beamline router, version 1: its decide body around what a client sends (`docs/beamline.md`).
//!
//! The router reads the body alone and refuses what it does not like, sometimes by silence. So the body is built
//! here from what the gateway knows, and of the client's JSON only what the router is known to take gets in. The
//! client's JSON is validated once, its members are found by one more look without making a tree, and values are copied into the one
//! allocation of the body as they were written.

mod answer;
mod compact;
mod ids;
mod key;
mod members;

use std::io::Write as _;
use std::sync::Arc;

use contract::{Error, Kind, Method, Request, Subject};
use serde_json::value::RawValue;

use self::members::{Body, Task};

pub use self::answer::{decode, statuses};
pub use self::key::idempotency_key;

/// The word for it in the configuration.
pub const NAME: &str = "beamline-router-v1";
/// The fewest bytes that the router takes as a task's payload, in compact encoding.
pub const PAYLOAD_BYTES_MIN: usize = 10;
/// What the body adds to a payload, a tenant and a type, at most, when nothing else is in it.
const FRAME_BYTES: usize = 256;

/// What a route says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The tenant of local and anonymous peers.
    pub default_tenant: Arc<str>,
    /// The task's type where the client gives none.
    pub default_task_type: Arc<str>,
    /// Most bytes of the whole body.
    pub envelope_bytes_max: usize,
    /// Whether a client may set `push_assignment` and `assignment_subject`.
    pub assignment_allowed: bool,
}

/// Puts the decide body around the request's payload. Fails with `invalid` when the payload is not JSON or says
/// something that the router refuses, and with `too_large` when the body is; nothing is sent then.
pub fn encode(settings: &Settings, request: &mut Request) -> Result<(), Error> {
    let too_large = |bytes: usize| {
        let max = settings.envelope_bytes_max;
        Error::new(Kind::TooLarge, format!("the decide body has {bytes} bytes or more, {max} are allowed"))
    };
    if request.payload.len() > settings.envelope_bytes_max {
        return Err(too_large(request.payload.len()));
    }
    wire::json::validate(&request.payload)
        .map_err(|error| Error::new(Kind::Invalid, format!("the payload is not JSON: {error}")))?;
    let whole = std::str::from_utf8(&request.payload).expect("valid JSON is UTF-8");
    // What JSON takes for white space (RFC 8259, section 2).
    let out = Draft::of(settings, request, whole.trim_matches([' ', '\t', '\n', '\r']))?.0;
    if out.len() > settings.envelope_bytes_max {
        return Err(too_large(out.len()));
    }
    request.payload = out.into();
    Ok(())
}

/// The body as it grows.
struct Draft(Vec<u8>);

impl Draft {
    fn of(settings: &Settings, request: &Request, whole: &str) -> Result<Self, Error> {
        let body = if whole.starts_with('{') { Body::read(whole.as_bytes())? } else { Body::default() };
        let tenant = tenant_of(&settings.default_tenant, request);
        let bytes = whole.len() + tenant.len() + settings.default_task_type.len() + FRAME_BYTES;
        let mut draft = Self(Vec::with_capacity(bytes));
        draft.text(r#"{"version":"1","request_id":"#);
        if let Some(id) = [body.request_id, body.task_id].into_iter().flatten().find(|id| is_filled_text(id))
        {
            draft.text(id.get());
        } else {
            // Of this request alone and the same in each attempt, so that the router can tell a second one from a second
            // request.
            let trace = &request.trace;
            write!(draft.0, r#""{}-{}""#, trace.trace_id(), trace.span_id())
                .expect("memory takes everything");
        }
        draft.text(r#","tenant_id":"#);
        draft.quoted(tenant);
        write!(draft.0, r#","trace_id":"{}""#, request.trace.trace_id()).expect("memory takes everything");
        draft.text(r#","task":{"type":"#);
        if let Some(task) = body.task.filter(|task| is_object(task)) {
            draft.task(settings, &body, &Task::read(task.get().as_bytes())?)?;
            draft.rest(settings, &body)?;
        } else {
            draft.task_type(settings, &body);
            draft.payload(Some(whole));
            draft.text("}");
        }
        draft.text("}");
        Ok(draft)
    }

    fn task(&mut self, settings: &Settings, body: &Body<'_>, task: &Task<'_>) -> Result<(), Error> {
        match task.kind.filter(|kind| !is_null(kind)) {
            Some(kind) if is_filled_text(kind) => self.text(kind.get()),
            Some(kind) if !is_text(kind) => return Err(invalid("task.type must be a text")),
            _ => self.task_type(settings, body),
        }
        match (task.payload, task.payload_ref.filter(|place| !is_null(place))) {
            (Some(_), Some(_)) => return Err(invalid("task has both payload and payload_ref")),
            (None, Some(place)) if !is_filled_text(place) => {
                return Err(invalid("task.payload_ref must be a text that is not empty"));
            }
            (None, Some(place)) => self.member("payload_ref", place),
            (payload, None) => self.payload(payload.map(RawValue::get)),
        }
        self.text("}");
        Ok(())
    }

    /// The type where the task has none of its own.
    fn task_type(&mut self, settings: &Settings, body: &Body<'_>) {
        match [body.task_type, body.command].into_iter().flatten().find(|kind| is_filled_text(kind)) {
            Some(kind) => self.text(kind.get()),
            None => self.quoted(&settings.default_task_type),
        }
    }

    /// The payload, wrapped unless the router takes it as it is.
    fn payload(&mut self, payload: Option<&str>) {
        self.text(r#","payload":"#);
        match payload {
            Some(payload) if payload.starts_with('{') && compact::fills(payload, PAYLOAD_BYTES_MIN) => {
                self.text(payload);
            }
            payload => {
                self.text(r#"{"data":"#);
                self.text(payload.unwrap_or("null"));
                self.text("}");
            }
        }
    }

    /// The members beside the task that the router is known to take.
    fn rest(&mut self, settings: &Settings, body: &Body<'_>) -> Result<(), Error> {
        if let Some(policy) = body.policy_id.filter(|policy| !is_null(policy)) {
            if !is_filled_text(policy) {
                return Err(invalid("policy_id must be a text that is not empty"));
            }
            self.member("policy_id", policy);
        }
        let flow = [("run_id", body.run_id), ("flow_id", body.flow_id), ("step_id", body.step_id)];
        if flow.iter().any(|(_, id)| id.is_some_and(|id| !is_null(id))) {
            for (name, id) in flow {
                let id = id.filter(|id| ids::is_flow_id(id));
                let text = "run_id, flow_id and step_id come together, each a UUID of version 4 or a ULID";
                self.member(name, id.ok_or_else(|| invalid(text))?);
            }
        }
        let objects =
            [("constraints", body.constraints), ("metadata", body.metadata), ("options", body.options)];
        for (name, object) in objects {
            let Some(object) = object.filter(|object| !is_null(object)) else { continue };
            if !is_object(object) {
                return Err(invalid("constraints, metadata and options must be objects"));
            }
            self.member(name, object);
        }
        if settings.assignment_allowed { self.assignment(body) } else { Ok(()) }
    }

    fn assignment(&mut self, body: &Body<'_>) -> Result<(), Error> {
        if let Some(push) = body.push_assignment.filter(|push| !is_null(push)) {
            if !matches!(push.get(), "true" | "false") {
                return Err(invalid("push_assignment must be true or false"));
            }
            self.member("push_assignment", push);
        }
        if let Some(subject) = body.assignment_subject.filter(|subject| !is_null(subject)) {
            let parsed = serde_json::from_str::<String>(subject.get()).ok();
            let parsed = parsed.and_then(|text| Subject::parse(text).ok());
            if parsed.is_none_or(|subject| subject.is_reserved()) {
                return Err(invalid("assignment_subject must be a subject that is not reserved"));
            }
            self.member("assignment_subject", subject);
        }
        Ok(())
    }

    fn member(&mut self, name: &str, value: &RawValue) {
        for text in [",\"", name, "\":", value.get()] {
            self.text(text);
        }
    }

    fn quoted(&mut self, text: &str) {
        serde_json::to_writer(&mut self.0, text).expect("memory takes every text");
    }

    fn text(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// The identity's own tenant, never the client's word. A way of knowing peers that comes later has to say here
/// whether its peers may do without one.
pub(super) fn tenant_of<'a>(default: &'a str, request: &'a Request) -> &'a str {
    let identity = &request.origin.identity;
    let own = identity.tenant.as_deref().filter(|tenant| !tenant.is_empty());
    match identity.method {
        Method::Anonymous | Method::Local => own.unwrap_or(default),
    }
}

fn invalid(text: &'static str) -> Error {
    Error::new(Kind::Invalid, text)
}

// Raw values are valid JSON without white space around them, so the first byte says what they are.

fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

fn is_text(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

fn is_filled_text(value: &RawValue) -> bool {
    is_text(value) && value.get().len() > 2
}

#[cfg(test)]
mod tests;
