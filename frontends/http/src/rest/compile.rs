//! From settings to a table, or to all that is wrong with them.
//!
//! Everything that a request could meet is looked at here, so that a request meets none of it: what a template asks
//! for is there to be asked, what it becomes is JSON, and no two routes have the same method and paths.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue};
use contract::error::TABLE;
use contract::{Headers, Operation, Pattern, Subject};
use hyper::{Method, StatusCode};

use super::form::Form;
use super::path::PathTemplate;
use super::pointer::Pointer;
use super::shape::Shape;
use super::source::{Place, Source};
use super::table::{AnswerRule, BodyRule, Node, Route, Table, Token};
use super::template::Template;
use super::{FormSettings, METHODS, Of, Problem, RouteSettings};
use crate::openapi;
use crate::routes::{ENTRIES, Entry, index};

/// What is answered to a publish, unless a route says otherwise.
const ACCEPTED: &str = "{\"accepted\":true}";

impl Table {
    /// Compiles a table; `mounted` is what else is served on the port. Fails with every problem that was found.
    pub fn new(
        routes: &[RouteSettings],
        forms: &[FormSettings],
        default_tenant: &str,
        mounted: &[Entry],
    ) -> Result<Self, Vec<Problem>> {
        let mut work = Work { problems: Vec::new(), of: Of::Route(String::new()) };
        let forms: Vec<_> = forms.iter().map(|form| (&*form.name, work.form(form).map(Arc::new))).collect();
        let taken: Vec<_> = ENTRIES.iter().chain(mounted).collect();
        let mut compiled: Vec<Arc<Route>> = Vec::new();
        for settings in routes {
            let Some(route) = work.route(settings, &forms) else { continue };
            for entry in &taken {
                let theirs = PathTemplate::parse(entry.path);
                if theirs.is_ok_and(|theirs| theirs.overlaps(&route.path)) {
                    work.find(
                        "path",
                        format!("collides with {} {}, which the door itself has", entry.method, entry.path),
                    );
                }
            }
            let same =
                |known: &&Arc<Route>| known.method == route.method && known.path.has_shape_of(&route.path);
            if let Some(known) = compiled.iter().find(same) {
                let what =
                    format!("is for the same method and paths as {} of rest.{}", known.endpoint, known.name);
                work.find("path", what);
            }
            compiled.push(Arc::new(route));
        }
        if !work.problems.is_empty() {
            return Err(work.problems);
        }
        let mut root = Node::default();
        for route in &compiled {
            root.add(Arc::clone(route));
        }
        let document = openapi::document(&compiled).to_string().into();
        let index = index(mounted, &compiled);
        Ok(Self { root, routes: compiled, default_tenant: default_tenant.into(), index, document })
    }

    /// The table without routes.
    pub fn empty(mounted: &[Entry]) -> Self {
        Self::new(&[], &[], "", mounted).expect("nothing is wrong with nothing")
    }
}

/// What was found so far.
struct Work {
    problems: Vec<Problem>,
    of: Of,
}

impl Work {
    fn find(&mut self, key: &'static str, what: impl Into<String>) {
        self.problems.push(Problem { key, of: self.of.clone(), what: what.into() });
    }

    /// The value, or a problem of this key.
    fn take<T>(&mut self, key: &'static str, read: Result<T, String>) -> Option<T> {
        read.map_err(|what| self.find(key, what)).ok()
    }

    fn form(&mut self, settings: &FormSettings) -> Option<Form> {
        self.of = Of::Form(settings.name.clone());
        let before = self.problems.len();
        let body = self.take("body", Template::json(&settings.body, Place::Error));
        let headers =
            settings.headers.iter().filter_map(|line| self.take("headers", of_status(line))).collect();
        let codes = settings.codes.iter().filter_map(|line| self.take("codes", code(line))).collect();
        (self.problems.len() == before).then_some(())?;
        Some(Form { body: body?, headers, codes })
    }

    fn route(&mut self, settings: &RouteSettings, forms: &[(&str, Option<Arc<Form>>)]) -> Option<Route> {
        self.of = Of::Route(settings.name.clone());
        let before = self.problems.len();
        let method =
            METHODS.contains(&&*settings.method).then(|| settings.method.parse::<Method>().ok()).flatten();
        if method.is_none() {
            self.find("method", format!("is none of {}", METHODS.join(", ")));
        }
        let path = self.take("path", PathTemplate::parse(&settings.path));
        let names: Vec<&str> = path.iter().flat_map(PathTemplate::parameters).collect();
        let place = Place::Request(&names);
        let subject = self.subject(settings, place);
        let body = self.body(settings, place);
        let headers =
            settings.headers.iter().filter_map(|line| self.take("headers", header(line, place))).collect();
        let tenant_from = settings
            .tenant_from
            .iter()
            .filter_map(|text| self.take("tenant_from", Source::parse(text, place).map_err(cannot_be)))
            .collect();
        if settings.tenant_required && settings.tenant_from.is_empty() {
            self.find("tenant_required", "is set without tenant_from");
        }
        let answer = self.answer(settings, place);
        let form = settings.errors.as_deref().and_then(|wanted| {
            let found = forms.iter().find(|(name, _)| *name == wanted).map(|(_, form)| form.clone());
            if found.is_none() {
                self.find("errors", format!("is {wanted:?}, but there is no [rest_errors.{wanted}]"));
            }
            // What is wrong with the form is told with the form.
            found.flatten()
        });
        let (shape, filter_value) = self.shape(settings, place);
        let usual = if settings.operation == Some(Operation::Publish) {
            StatusCode::ACCEPTED
        } else {
            StatusCode::OK
        };
        let status = settings.status.map_or(Some(usual), |status| StatusCode::from_u16(status).ok());
        let Some(status) = status.filter(StatusCode::is_success) else {
            self.find("status", "is no status of a success");
            return None;
        };
        (self.problems.len() == before).then_some(())?;
        let summary = settings.summary.clone().unwrap_or_else(|| usual_summary(settings));
        Some(Route {
            name: settings.name.as_str().into(),
            method: method?,
            endpoint: settings.path.as_str().into(),
            summary: summary.into(),
            operation: settings.operation,
            subject: subject?,
            body: body?,
            headers,
            tenant_from,
            tenant_required: settings.tenant_required,
            answer: answer?,
            status,
            form,
            shape: shape.map(Arc::new),
            filter_value,
            path: path?,
        })
    }

    fn subject(&mut self, settings: &RouteSettings, place: Place<'_>) -> Option<Vec<Token>> {
        match (&settings.subject, settings.operation) {
            (None, None) => Some(Vec::new()),
            (Some(_), None) => {
                self.find("subject", "is set, but the gateway itself answers");
                None
            }
            (None, Some(_)) => {
                self.find("subject", "is not set");
                None
            }
            (Some(text), Some(operation)) => self.take("subject", subject(text, operation, place)),
        }
    }

    fn body(&mut self, settings: &RouteSettings, place: Place<'_>) -> Option<BodyRule> {
        match &*settings.body {
            "passed" => Some(BodyRule::Passed),
            "empty" => Some(BodyRule::Empty),
            template => {
                if !matches!(settings.operation, Some(Operation::Request | Operation::Publish)) {
                    self.find("body", "is set, but nothing is sent");
                }
                self.take("body", Template::json(template, place).map(BodyRule::Built))
            }
        }
    }

    fn answer(&mut self, settings: &RouteSettings, place: Place<'_>) -> Option<AnswerRule> {
        let text = &*settings.answer;
        let read = match (settings.operation, text) {
            (None, "whole") => {
                Err("is not set: the gateway itself answers, with a template of JSON".to_owned())
            }
            (None, template) => Template::json(template, Place::Status).map(AnswerRule::Built),
            (Some(Operation::Publish), "whole") => Template::json(ACCEPTED, place).map(AnswerRule::Built),
            (Some(Operation::Publish), template) => Template::json(template, place).map(AnswerRule::Built),
            (Some(_), "whole") => Ok(AnswerRule::Whole),
            (Some(Operation::Request), pointer) => Pointer::parse(pointer)
                .map(AnswerRule::Part)
                .map_err(|what| format!("is neither whole nor a pointer: {what}")),
            (Some(Operation::Subscribe), _) => {
                Err("is set, but the answer is events; see event_data".to_owned())
            }
        };
        self.take("answer", read)
    }

    fn shape(&mut self, settings: &RouteSettings, place: Place<'_>) -> (Option<Shape>, Option<Source>) {
        let set = [
            ("filter", !settings.filter.is_empty()),
            ("filter_value", settings.filter_value.is_some()),
            ("event_name", settings.event_name.is_some()),
            ("event_data", settings.event_data.is_some()),
        ];
        if settings.operation != Some(Operation::Subscribe) {
            for (key, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
                self.find(key, "is set, but the answer is no stream of events");
            }
            return (None, None);
        }
        if set[0].1 != set[1].1 {
            self.find("filter", "and filter_value come together");
        }
        let filter =
            settings.filter.iter().filter_map(|text| self.take("filter", Pointer::parse(text))).collect();
        let mut pointer =
            |key, text: &Option<String>| text.as_ref().and_then(|text| self.take(key, Pointer::parse(text)));
        let (name, data) =
            (pointer("event_name", &settings.event_name), pointer("event_data", &settings.event_data));
        let value = settings
            .filter_value
            .as_ref()
            .and_then(|text| self.take("filter_value", Source::parse(text, place).map_err(cannot_be)));
        (Some(Shape { filter, name, data }), value)
    }
}

fn cannot_be(mut what: String) -> String {
    what.insert_str(0, "has a source that cannot be: ");
    what
}

/// Splits a subject or pattern into tokens, each a literal or one placeholder, and checks it with the placeholders
/// filled in.
fn subject(text: &str, operation: Operation, place: Place<'_>) -> Result<Vec<Token>, String> {
    let (mut tokens, mut sample) = (Vec::new(), Vec::new());
    for token in text.split('.') {
        if let Some(name) = token.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            tokens.push(Token::From(Source::parse(name, place).map_err(cannot_be)?));
            sample.push("x");
        } else if token.contains(['{', '}']) {
            return Err(format!("has a placeholder that is not a whole token: {token}"));
        } else {
            tokens.push(Token::Literal(token.into()));
            sample.push(token);
        }
    }
    let sample = sample.join(".");
    let reserved = if operation == Operation::Subscribe {
        Pattern::parse(sample).map_err(|error| format!("is no pattern: {error}"))?.is_reserved()
    } else {
        Subject::parse(sample).map_err(|error| format!("is no subject: {error}"))?.is_reserved()
    };
    if reserved {
        return Err("is reserved: no peer reaches what starts with $ or _".to_owned());
    }
    Ok(tokens)
}

fn header(line: &str, place: Place<'_>) -> Result<(Box<str>, Template), String> {
    let (name, template) =
        line.split_once(':').ok_or_else(|| format!("has a line that is not Name: value: {line}"))?;
    if HeaderName::from_bytes(name.as_bytes()).is_err() || Headers::is_reserved(name) {
        return Err(format!("sets {name}, which no peer may set"));
    }
    let template = Template::text(template.trim(), place)?;
    Ok((name.into(), template))
}

fn of_status(line: &str) -> Result<(StatusCode, HeaderName, Template), String> {
    let wrong = || format!("has a line that is not status Name: value: {line}");
    let (status, rest) = line.split_once(' ').ok_or_else(wrong)?;
    let (name, value) = rest.split_once(':').ok_or_else(wrong)?;
    let status = status.parse::<u16>().ok().filter(|status| (400..600).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
    // What frames the answer is not a template's to say.
    if ["content-length", "transfer-encoding", "connection", "content-type"].contains(&name.as_str()) {
        return Err(format!("sets {name}, which is the door's"));
    }
    HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((status, name, Template::text(value.trim(), Place::Error)?))
}

fn code(line: &str) -> Result<(contract::Kind, Box<str>), String> {
    let (kind, word) =
        line.split_once('=').ok_or_else(|| format!("has an element that is not kind=code: {line}"))?;
    let row = TABLE.iter().find(|row| row.code == kind.trim());
    let row = row.ok_or_else(|| format!("names a kind of error that there is not: {kind}"))?;
    Ok((row.kind, word.trim().into()))
}

fn usual_summary(settings: &RouteSettings) -> String {
    let subject = settings.subject.as_deref().unwrap_or_default();
    match settings.operation {
        Some(Operation::Request) => format!("A request to {subject}."),
        Some(Operation::Publish) => format!("Publishes to {subject}."),
        Some(Operation::Subscribe) => format!("Events of {subject}."),
        None => "How the gateway stands.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, path: &str) -> RouteSettings {
        RouteSettings {
            name: name.to_owned(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            summary: None,
            operation: Some(Operation::Request),
            subject: Some("a.b".to_owned()),
            body: "passed".to_owned(),
            headers: Vec::new(),
            tenant_from: Vec::new(),
            tenant_required: false,
            answer: "whole".to_owned(),
            status: None,
            errors: None,
            filter: Vec::new(),
            filter_value: None,
            event_name: None,
            event_data: None,
        }
    }

    fn told(routes: &[RouteSettings], forms: &[FormSettings]) -> Vec<String> {
        let mounted = [Entry { method: "GET", path: "/v1/ws", summary: "" }];
        let problems = Table::new(routes, forms, "t", &mounted).err().unwrap_or_default();
        let name = |of: Of| match of {
            Of::Route(name) => name,
            Of::Form(name) => format!("({name})"),
        };
        problems
            .into_iter()
            .map(|problem| format!("{} {} {}", name(problem.of), problem.key, problem.what))
            .collect()
    }

    #[test]
    fn each_key_that_cannot_be_is_told_with_its_reason() {
        type Change = fn(&mut RouteSettings);
        let cases: &[(Change, &str)] = &[
            (|route| route.method = "get".into(), "r method is none of GET"),
            (|route| route.path = String::new(), "r path does not start with /"),
            (|route| route.subject = None, "r subject is not set"),
            (|route| route.subject = Some("a..b".into()), "r subject is no subject"),
            (|route| route.subject = Some("a.*".into()), "r subject is no subject"),
            (|route| route.subject = Some("$SYS.{x}".into()), "r subject is reserved"),
            (
                |route| route.subject = Some("a.x{x}".into()),
                "r subject has a placeholder that is not a whole token",
            ),
            (
                |route| route.subject = Some("a.{y}".into()),
                "r subject has a source that cannot be: {y} is not known; there are x",
            ),
            (|route| route.body = "{\"a\":}".into(), "r body is not JSON"),
            (|route| route.body = "{\"a\":{code}}".into(), "r body has a placeholder that cannot be"),
            (|route| route.headers = vec!["X-A".into()], "r headers has a line that is not Name: value"),
            (
                |route| route.headers = vec!["Nats-Msg-Id: {x}".into()],
                "r headers sets Nats-Msg-Id, which no peer may set",
            ),
            (|route| route.headers = vec!["X-A: {y}".into()], "r headers has a placeholder"),
            (|route| route.tenant_from = vec!["cookie:x".into()], "r tenant_from has a source"),
            (|route| route.tenant_required = true, "r tenant_required is set without tenant_from"),
            (|route| route.answer = "health".into(), "r answer is neither whole nor a pointer"),
            (|route| route.status = Some(404), "r status is no status of a success"),
            (
                |route| route.errors = Some("none".into()),
                "r errors is \"none\", but there is no [rest_errors.none]",
            ),
            (|route| route.filter = vec!["/a".into()], "r filter is set, but the answer is no stream"),
            (
                |route| route.event_data = Some("/a".into()),
                "r event_data is set, but the answer is no stream",
            ),
            (
                |route| {
                    route.operation = Some(Operation::Subscribe);
                    route.filter = vec!["/a".into()];
                },
                "r filter and filter_value come together",
            ),
            (
                |route| {
                    route.operation = Some(Operation::Subscribe);
                    route.event_name = Some("type".into());
                },
                "r event_name a JSON pointer starts with /",
            ),
            (
                |route| {
                    route.operation = Some(Operation::Subscribe);
                    route.answer = "/a".into();
                },
                "r answer is set, but the answer is events",
            ),
            (
                |route| {
                    route.operation = None;
                    route.answer = "{\"a\":{status}}".into();
                },
                "r subject is set, but the gateway itself answers",
            ),
            (
                |route| {
                    route.operation = None;
                    route.subject = None;
                },
                "r answer is not set: the gateway itself answers",
            ),
        ];
        for (change, expected) in cases {
            let mut route = route("r", "/a/{x}");
            change(&mut route);
            let told = told(&[route], &[]);
            assert!(told.len() == 1 && told[0].starts_with(expected), "{expected}: {told:?}");
        }
        assert!(told(&[route("r", "/a/{x}")], &[]).is_empty());
    }

    #[test]
    fn paths_that_collide_are_told_with_what_they_collide_with() {
        for taken in ["/openapi.json", "/v1/{x}", "/{x}", "/{x}/ws", "/v1/request/{s}", "/{a}/{b}/c"] {
            let told = told(&[route("r", taken)], &[]);
            assert!(!told.is_empty() && told[0].starts_with("r path collides with "), "{taken}: {told:?}");
        }
        let twice = told(&[route("one", "/a/{x}"), route("two", "/a/{y}"), route("three", "/a/b")], &[]);
        assert_eq!(twice, ["two path is for the same method and paths as /a/{x} of rest.one"]);
    }

    #[test]
    fn every_problem_of_a_form_is_told_once() {
        let form = FormSettings {
            name: "f".to_owned(),
            body: "{\"a\":{path}}".to_owned(),
            headers: ["200 X-A: 1", "429 X-A", "429 Content-Length: 1", "429 X-A: {x}"]
                .map(str::to_owned)
                .to_vec(),
            codes: ["nothing=a", "invalid"].map(str::to_owned).to_vec(),
        };
        let mut route = route("r", "/a");
        route.errors = Some("f".to_owned());
        let told = told(&[route], &[form]);
        assert_eq!(told.len(), 7, "{told:?}");
        assert!(told.iter().all(|told| told.starts_with("(f) ")), "{told:?}");
    }
}
