//! What a subcommand tells, and whom: payloads and JSON to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

use bytes::Bytes;
use contract::{Headers, Kind};
use serde_json::{Map, Value, json};

use crate::client::Failure;

/// Both outputs, and what is known of them.
pub(super) struct Console<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) complaints: &'a mut dyn Write,
    /// Whether standard output is a terminal.
    pub(super) out_is_terminal: bool,
    /// Whether standard error is a terminal, for what only a person at it wants to see.
    pub(super) complaints_are_seen: bool,
    colour: bool,
}

impl<'a> Console<'a> {
    /// With `plain`, nothing is coloured (<https://no-color.org>).
    pub(super) fn new(out: &'a mut dyn Write, complaints: &'a mut dyn Write, plain: bool) -> Self {
        let complaints_are_seen = io::stderr().is_terminal();
        Self {
            out,
            complaints,
            out_is_terminal: io::stdout().is_terminal(),
            complaints_are_seen,
            colour: complaints_are_seen && !plain,
        }
    }

    /// A payload as it is; with `apart`, ended by a newline so that the next one does not touch it.
    pub(super) fn payload(&mut self, payload: &[u8], apart: bool) -> io::Result<()> {
        self.out.write_all(payload)?;
        if apart && !payload.ends_with(b"\n") {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }

    /// A JSON object on a line of its own, with the payload at its end.
    pub(super) fn object(&mut self, members: &Value, payload: Option<&Bytes>) -> io::Result<()> {
        let text = members.to_string();
        let Some(payload) = payload else {
            writeln!(self.out, "{text}")?;
            return self.out.flush();
        };
        let text = text.strip_suffix('}').unwrap_or(&text);
        let comma = if text == "{" { "" } else { "," };
        if wire::json::validate(payload).is_ok() {
            write!(self.out, "{text}{comma}\"payload\":")?;
            self.out.write_all(&wire::json::one_line(payload.clone()))?;
            writeln!(self.out, "}}")?;
        } else {
            use base64::Engine as _;
            let payload = base64::engine::general_purpose::STANDARD.encode(payload);
            writeln!(self.out, "{text}{comma}\"payload_base64\":\"{payload}\"}}")?;
        }
        self.out.flush()
    }

    /// One line about what went wrong.
    pub(super) fn complain(&mut self, line: &str) -> io::Result<()> {
        let name = if self.colour { "\u{1b}[31mipc-gateway\u{1b}[0m" } else { "ipc-gateway" };
        writeln!(self.complaints, "{name}: {}", one_line(line))
    }

    /// One line about how it went.
    pub(super) fn note(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.complaints, "{}", one_line(line))
    }
}

/// A text that another party chose, without what would make it two lines or move the cursor.
fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// What to do about a failure.
pub(super) fn advice(failure: &Failure) -> String {
    if let Some(wait) = failure.retry_after {
        return format!("try again in {}", super::span::format(wait));
    }
    match failure.kind {
        Kind::Malformed | Kind::Invalid => "correct what is sent",
        Kind::Unsupported => "another --via may know it",
        Kind::TooLarge => "send less",
        Kind::Unauthenticated | Kind::Denied => {
            "the operator can allow it: routes.NAME.allow, ipc.allow_uids"
        }
        Kind::NotFound => "see the routes with `ipc-gateway config`",
        Kind::TimedOut => "give it more time with --timeout, or look at the service",
        Kind::Unavailable => "see the connections with `ipc-gateway status`",
        Kind::NoResponders => "start a service that listens on this subject",
        Kind::RateLimited | Kind::Overloaded | Kind::CircuitOpen | Kind::Draining => "try again later",
        Kind::Failed => "this is the service's own answer",
        Kind::Conflict => "use an id or a key that is free",
        Kind::Cancelled => "ask again",
        Kind::SlowConsumer => "read faster, or narrow the pattern",
        Kind::Internal => "the gateway's log says more",
    }
    .to_owned()
}

/// A failure as JSON.
pub(super) fn failure_json(failure: &Failure) -> Value {
    let mut error = json!({
        "kind": failure.kind.code(),
        "outcome": failure.outcome.code(),
        "message": failure.text,
    });
    if let Some(wait) = failure.retry_after {
        error["retry_after_ms"] = json!(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    }
    if let Some(code) = &failure.backend_code {
        error["backend_code"] = json!(code);
    }
    error
}

/// Headers as JSON: a text a name, or a list of texts where a name repeats.
pub(super) fn headers_json(headers: &Headers) -> Value {
    let mut object = Map::new();
    for (name, value) in headers.iter() {
        match object.get_mut(&**name) {
            None => drop(object.insert(name.to_string(), json!(&**value))),
            Some(Value::Array(values)) => values.push(json!(&**value)),
            Some(first) => *first = json!([first.take(), &**value]),
        }
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tell: impl FnOnce(&mut Console<'_>)) -> String {
        let (mut out, mut complaints) = (Vec::new(), Vec::new());
        tell(&mut Console::new(&mut out, &mut complaints, true));
        out.extend(complaints);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_payload_is_a_member_of_its_object() {
        let members = json!({"ok": true});
        let object =
            |payload: &'static [u8]| told(|console| console.object(&members, Some(&payload.into())).unwrap());
        assert_eq!(object(b"{\"a\":\n1}"), "{\"ok\":true,\"payload\":{\"a\": 1}}\n");
        assert_eq!(object(b"\xff"), "{\"ok\":true,\"payload_base64\":\"/w==\"}\n");
        assert_eq!(told(|console| console.object(&members, None).unwrap()), "{\"ok\":true}\n");
    }

    #[test]
    fn a_foreign_text_cannot_write_lines_of_its_own() {
        let line = told(|console| console.complain("a\nb\u{1b}[2Jc").unwrap());
        assert_eq!(line, "ipc-gateway: a b [2Jc\n");
    }

    #[test]
    fn repeated_headers_are_a_list() {
        let mut headers = Headers::new();
        for (name, value) in [("A", "1"), ("B", "2"), ("A", "3"), ("A", "4")] {
            headers.append(name, value).unwrap();
        }
        assert_eq!(headers_json(&headers), json!({"A": ["1", "3", "4"], "B": "2"}));
    }
}
