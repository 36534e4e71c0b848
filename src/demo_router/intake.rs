//! The router's check of a decide request, in its words.
//!
//! The order of the checks and the texts are as recorded where a recording shows them; the rest follows their manner.
//! Values are kept as they were written, so that a payload may nest as deep as it likes.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::mode::Behaviour;

/// The fewest bytes of a payload, in compact encoding.
const PAYLOAD_BYTES_MIN: usize = 10;
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// Texts longer than this are not measured again in compact encoding.
const MEASURED_BYTES_MAX: usize = 1 << 20;

/// A decide request that was accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Decide {
    /// Its id, which the answer gives back.
    pub request_id: String,
    /// Whose it is.
    pub tenant_id: String,
    /// Its trace, which the answer gives back.
    pub trace_id: Option<String>,
    /// Its policy, `default` when it names none.
    pub policy_id: String,
    /// Its key: a second request with it is not answered.
    pub idempotency_key: Option<String>,
    /// The user of its metadata.
    pub sticky_user: Option<String>,
    /// What it tells this router to do: `demo_router` in its task's payload.
    pub behaviour: Option<Behaviour>,
}

/// Why a decide request was not accepted, as the router says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: &'static str,
    intake_code: &'static str,
    message: String,
}

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// Checks a request.
pub fn check(payload: &[u8]) -> Result<Decide, Refusal> {
    if payload.is_empty() {
        return Err(Refusal::schema("missing_message"));
    }
    let body: Members<'_> = serde_json::from_slice(payload).map_err(|_| Refusal::schema("invalid_format"))?;
    match body.get("version").map(|version| read(version)) {
        None => {}
        Some(Value::String(version)) if version == "1" => {}
        Some(Value::String(version)) => return Err(Refusal::version(&version)),
        Some(_) => return Err(Refusal::internal("badarg")),
    }
    let request_id = required_text(&body, "request_id")?;
    let tenant_id = required_text(&body, "tenant_id")?;
    let trace_id = body.get("trace_id").map(|trace| trace_id(trace)).transpose()?;
    let task = body.get("task").ok_or_else(|| Refusal::field("missing_task"))?;
    let behaviour = check_task(task)?;
    check_flow(&body)?;
    let policy_id = match body.get("policy_id").map(|policy| read(policy)) {
        None => "default".to_owned(),
        Some(Value::String(policy)) if !policy.is_empty() => policy,
        Some(_) => return Err(Refusal::field("invalid_policy_id")),
    };
    for name in ["constraints", "metadata", "options"] {
        if body.get(name).is_some_and(|value| !value.get().starts_with('{')) {
            return Err(Refusal::field(&format!("invalid_{name}_format")));
        }
    }
    let idempotency_key = match body.get("idempotency_key").map(|key| read(key)) {
        None => None,
        Some(Value::String(key)) if key.len() > KEY_BYTES_MAX => {
            return Err(Refusal::field("idempotency_key_too_long"));
        }
        Some(Value::String(key)) if !key.is_empty() => Some(key),
        Some(_) => return Err(Refusal::field("invalid_idempotency_key")),
    };
    let metadata = body.get("metadata").and_then(|metadata| members(metadata));
    let sticky_user = metadata.as_ref().and_then(|metadata| metadata.get("user_id")).map(|user| read(user));
    let sticky_user = sticky_user.and_then(|user| user.as_str().map(str::to_owned));
    Ok(Decide { request_id, tenant_id, trace_id, policy_id, idempotency_key, sticky_user, behaviour })
}

fn check_task(task: &RawValue) -> Result<Option<Behaviour>, Refusal> {
    let task = members(task).ok_or_else(|| Refusal::field("invalid_task_format"))?;
    match task.get("type").map(|kind| read(kind)) {
        None => return Err(Refusal::field("missing_task_type")),
        Some(Value::String(kind)) if kind.is_empty() => return Err(Refusal::field("empty_task_type")),
        Some(Value::String(_)) => {}
        Some(_) => return Err(Refusal::field("invalid_task_type")),
    }
    let Some(payload) = task.get("payload") else {
        return match task.get("payload_ref").map(|place| read(place)) {
            Some(Value::String(place)) if !place.is_empty() => Ok(None),
            Some(_) => Err(Refusal::field("invalid_payload_ref")),
            None => Err(Refusal::field("missing_payload")),
        };
    };
    let members = members(payload).ok_or_else(|| Refusal::field("invalid_payload_format"))?;
    if compact_bytes(payload) < PAYLOAD_BYTES_MIN {
        return Err(Refusal::field("payload_too_small"));
    }
    members
        .get("demo_router")
        .map(|asked| Behaviour::read(&read(asked)))
        .transpose()
        .map_err(|problem| Refusal { code: "invalid_request", intake_code: "DEMO_ROUTER", message: problem })
}

fn check_flow(body: &Members<'_>) -> Result<(), Refusal> {
    let names = ["run_id", "flow_id", "step_id"];
    let Some(first) = names.iter().find(|name| body.contains_key(**name)) else { return Ok(()) };
    for name in names {
        let Some(id) = body.get(name) else {
            return Err(Refusal::field(&format!("{name}_required_when_{first}_present")));
        };
        let id = read(id);
        if !id.as_str().is_some_and(|id| is_uuid_4(id) || is_ulid(id)) {
            return Err(Refusal::field(&format!("invalid_{name}_format")));
        }
    }
    Ok(())
}

fn required_text(body: &Members<'_>, name: &str) -> Result<String, Refusal> {
    match body.get(name).map(|text| read(text)) {
        None => Err(Refusal::field(&format!("missing_{name}"))),
        Some(Value::String(text)) if text.is_empty() => Err(Refusal::field(&format!("empty_{name}"))),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Refusal::field(&format!("invalid_{name}"))),
    }
}

fn trace_id(trace: &RawValue) -> Result<String, Refusal> {
    let is_hex_32 = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match read(trace) {
        Value::String(text) if is_hex_32(&text) || is_uuid_4(&text) => Ok(text),
        _ => Err(Refusal::field("invalid_trace_id_format")),
    }
}

fn is_uuid_4(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12]
        && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
        && parts[2].starts_with('4')
        && parts[3].starts_with(['8', '9', 'a', 'b', 'A', 'B'])
}

fn is_ulid(text: &str) -> bool {
    text.len() == 26
        && text.starts_with(|first: char| ('0'..='7').contains(&first))
        && text.chars().all(|digit| "0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(digit))
}

/// A value as a tree; null for one that nests too deep for that, which is no text either.
fn read(value: &RawValue) -> Value {
    serde_json::from_str(value.get()).unwrap_or_default()
}

fn members(value: &RawValue) -> Option<Members<'_>> {
    serde_json::from_str(value.get()).ok()
}

/// The length of the payload, encoded again; what nests too deep or is too long for that is long enough in any case.
fn compact_bytes(payload: &RawValue) -> usize {
    if payload.get().len() > MEASURED_BYTES_MAX {
        return payload.get().len();
    }
    serde_json::from_str::<Value>(payload.get()).map_or(payload.get().len(), |tree| tree.to_string().len())
}

impl Decide {
    /// The `context` of its answer.
    pub(super) fn context(&self) -> Value {
        let mut context = json!({"request_id": self.request_id});
        if let Some(trace) = &self.trace_id {
            context["trace_id"] = trace.as_str().into();
        }
        context
    }

    /// What the workers report of it, in these shapes (a word of `RESULTS`).
    pub(super) fn results(&self, shapes: &str) -> Vec<Value> {
        let result = |version: &str| {
            let assignment = format!("{}-1", self.request_id);
            json!({
                "version": version, "assignment_id": assignment, "request_id": self.request_id,
                "tenant_id": self.tenant_id, "status": "success",
            })
        };
        let flat = || result("1");
        let enveloped = || json!({"version": "v1", "kind": "exec_result", "data": result("1.0")});
        match shapes {
            "flat" => vec![flat()],
            "envelope" => vec![enveloped()],
            "both" => vec![enveloped(), flat()],
            _ => Vec::new(),
        }
    }

    /// The body of a failure.
    pub(super) fn failure(&self, code: &str, message: &str, details: Option<Value>) -> Value {
        let mut body =
            json!({"ok": false, "error": {"code": code, "message": message}, "context": self.context()});
        if let Some(details) = details {
            body["error"]["details"] = details;
        }
        body
    }
}

impl Refusal {
    fn schema(what: &str) -> Self {
        let message = format!("Schema validation failed: {what}");
        Self { code: "invalid_request", intake_code: "SCHEMA_VALIDATION_FAILED", message }
    }

    fn field(what: &str) -> Self {
        let message = format!("Correlation fields validation failed: {what}");
        Self { code: "invalid_request", intake_code: "CORRELATION_FIELDS_INVALID", message }
    }

    fn version(version: &str) -> Self {
        let message = format!("Unsupported schema version: {version}, supported versions: [1]");
        Self { code: "invalid_request", intake_code: "VERSION_UNSUPPORTED", message }
    }

    fn internal(what: &str) -> Self {
        let message = format!("Internal validation error: {what}");
        Self { code: "internal", intake_code: "INTERNAL_VALIDATION_ERROR", message }
    }

    /// A choice that should stick to a user, without the store of such choices.
    pub(super) fn sticky(tenant: &str, user: &str) -> Self {
        let margin = " ".repeat(25);
        Self::internal(&format!(
            "exit:{{noproc,{{gen_server,call,\n{margin}[router_sticky_store,\n{margin} \
             {{get_provider,<<\"{tenant}\">>,<<\"{user}\">>}}]}}}}"
        ))
    }

    /// The body of the answer. The router does not know whose it is.
    pub fn body(&self) -> Value {
        json!({
            "ok": false,
            "error": {"code": self.code, "message": self.message, "intake_error_code": self.intake_code},
            "context": {"request_id": "undefined"},
        })
    }
}
