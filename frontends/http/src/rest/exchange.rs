//! One request of a configured route, from its head to its answer.
//!
//! What the head alone forbids is told first (a tenant that is not one's own), then the body is read, and the rest is
//! the pipeline's to say. What cannot be made into a request at all, such as a parameter that is missing, is refused
//! here, as there is no subject yet whose route could say more.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use bytestring::ByteString;
use contract::{
    Error, Headers, Identity, Kind, Message, Operation, Origin, Outcome, Pattern, Pipeline, Reply, Subject,
    Target, TraceContext,
};
use hyper::header::{ALLOW, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use super::path;
use super::source::{Given, Known, Source, malformed};
use super::table::{AnswerRule, BodyRule, Found, Route, Table, Token};
use super::template::{Missing, lacking};
use crate::events::{Events, Manner, Of};
use crate::problem::Refused;
use crate::routes::{Asked, STREAM, accepts_events, call, not_acceptable, origin, settle};
use crate::{Door, answer, asking, body};

const NOT_HERE: &str = "there is no such path; GET / says what there is";

/// Answers what the door itself has no path for.
pub(crate) async fn serve<P: Pipeline>(door: &Door<P>, request: Request) -> Response {
    let trace = asking::trace(request.headers());
    let table = door.table();
    let Ok(found) = table.find(request.method(), request.uri().path()) else {
        let refused = Refused::from(malformed("the path is not percent-encoded UTF-8"));
        return settle(door, Err(refused), &trace);
    };
    let (route, parameters, allow) = match found {
        Found::Route(route, parameters) => (route, parameters, None),
        Found::OtherMethods(methods, first) => (first, Vec::new(), Some(methods)),
        Found::Nothing => return Refused::from(Error::new(Kind::NotFound, NOT_HERE)).respond(&trace),
    };
    let (parts, body) = request.into_parts();
    let mut sent = Sent {
        origin: Arc::clone(origin(&parts)),
        query: path::query(parts.uri.query().unwrap_or_default()),
        table,
        path: parameters,
        headers: parts.headers,
        body: Bytes::new(),
    };
    let answered = if allow.is_none() {
        route.answer(door, &mut sent, body, &trace).await
    } else {
        let error = Error::new(Kind::Unsupported, "this path has another method; see Allow");
        Err(Refused::from(error).with_status(StatusCode::METHOD_NOT_ALLOWED))
    };
    let mut response = match (answered, &route.form) {
        (Err(refused), Some(form)) => {
            crate::routes::count(door, &refused);
            form.respond(&refused, &trace, &route.endpoint, &sent, &door.gate.budget)
        }
        (answered, _) => settle(door, answered, &trace),
    };
    if let Some(allow) = allow {
        let methods: Vec<_> = allow.iter().map(Method::as_str).collect();
        let allow = HeaderValue::try_from(methods.join(", ")).expect("methods are tokens");
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// What the door refuses by itself is counted like what broke its protocol, since no rule sees it.
fn refuse<P>(door: &Door<P>, error: Error) -> Refused {
    tracing::debug!(door = "http", %error, "a request of a configured route was refused");
    if error.kind() != Kind::Malformed {
        door.gate.meters.protocol_errors_total.increment();
    }
    error.into()
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    origin: Arc<Origin>,
    table: Arc<Table>,
    path: Vec<String>,
    query: Result<Vec<(String, String)>, path::Malformed>,
    headers: HeaderMap,
    /// As far as it was read.
    body: Bytes,
}

impl Given for Sent {
    fn path(&self) -> &[String] {
        &self.path
    }

    fn query(&self) -> Result<&[(String, String)], Error> {
        self.query.as_deref().map_err(|_| malformed("the query is not percent-encoded UTF-8"))
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn identity(&self) -> &Identity {
        &self.origin.identity
    }

    fn tenant(&self) -> &str {
        self.table.tenant_of(&self.origin.identity)
    }

    fn request(&self) -> &[u8] {
        &self.body
    }
}

impl Route {
    async fn answer<P: Pipeline>(
        self: &Arc<Self>,
        door: &Door<P>,
        sent: &mut Sent,
        body: Body,
        trace: &TraceContext,
    ) -> Result<Response, Refused> {
        let begun = Instant::now();
        let refused = |error| refuse(door, error);
        self.check_tenant(sent).map_err(refused)?;
        let Some(operation) = self.operation else { return self.stand(door, sent) };
        let filter = self.filter_value.as_ref().map(|source| self.text(source, sent)).transpose();
        let filter = filter.map_err(refused)?;
        let target = self.target(operation, sent).map_err(refused)?;
        let is_request = operation == Operation::Request;
        let asked_parts = is_request && accepts_events(&sent.headers);
        let safe = matches!(self.method, Method::GET | Method::PUT | Method::DELETE);
        let mut asked = Asked {
            headers: door.request_headers.take(&sent.headers)?,
            timeout: asking::timeout(&sent.headers)?,
            // RFC 9110, 9.2.2, unless the client says otherwise.
            idempotent: asking::said_idempotent(&sent.headers)?.unwrap_or(safe),
            parts: asked_parts,
        };
        self.add_headers(&mut asked.headers, sent).map_err(refused)?;
        let (payload, charge) = match &self.body {
            BodyRule::Built(template) => {
                (template.fill(sent, Missing::Refused(&self.parameters())).map_err(refused)?.into(), None)
            }
            BodyRule::Passed if self.takes_body() => {
                let (bytes, charge) =
                    body::read(body, door.body_bounds(begun, &asked), &door.gate.budget).await?;
                // An error may tell a part of it.
                sent.body = bytes.clone();
                (bytes, Some(charge))
            }
            BodyRule::Passed | BodyRule::Empty => (Bytes::new(), None),
        };
        let received = asked.received(begun);
        let reply = call(door, target, (asked, received), (payload, charge), &sent.origin, trace).await;
        match reply
            .map_err(|refused| if is_request { not_acceptable(refused, asked_parts) } else { refused })?
        {
            Reply::Message(message) => self.message(door, message),
            Reply::Accepted => self.built(sent),
            Reply::Stream(stream) if !is_request || asked_parts => {
                let of = match operation {
                    Operation::Subscribe if sent.headers.contains_key("last-event-id") => Of::Resumed,
                    Operation::Subscribe => Of::Subscription,
                    Operation::Request | Operation::Publish => Of::Request,
                };
                let manner = Manner { route: Arc::clone(self), filter, sent: sent.clone() };
                Ok(Events::respond(stream, of, trace, &door.hall(), Some(Box::new(manner))))
            }
            Reply::Stream(_) => {
                let error = Error::new(Kind::Unsupported, STREAM).with_outcome(Outcome::Unknown);
                Err(not_acceptable(error.into(), false))
            }
        }
    }

    /// Every source that names a tenant must name the peer's own.
    fn check_tenant(&self, sent: &Sent) -> Result<(), Error> {
        let mut named = false;
        for source in &self.tenant_from {
            let Some(value) = source.find(sent)? else { continue };
            named = true;
            if value.as_text() != sent.tenant() {
                let what = source.name(&self.parameters());
                return Err(Error::new(
                    Kind::Denied,
                    format!("{what} names a tenant that is not the peer's"),
                ));
            }
        }
        if self.tenant_required && !named {
            Err(lacking(&self.tenant_from, &self.parameters()))
        } else {
            Ok(())
        }
    }

    /// How the gateway stands.
    fn stand<P: Pipeline>(&self, door: &Door<P>, sent: &Sent) -> Result<Response, Refused> {
        let AnswerRule::Built(template) = &self.answer else {
            return Err(Error::new(Kind::Internal, "the gateway's own answer has no template").into());
        };
        let status = Known { given: sent, facts: (door.stand.0)() };
        Ok(answer::json(self.status, template.fill(&status, Missing::Empty)?.into()))
    }

    fn built(&self, sent: &Sent) -> Result<Response, Refused> {
        let AnswerRule::Built(template) = &self.answer else { return Ok(answer::accepted()) };
        Ok(answer::json(self.status, template.fill(sent, Missing::Empty)?.into()))
    }

    /// The responder's answer, or the part of it that is asked for, byte for byte.
    fn message<P: Pipeline>(&self, door: &Door<P>, mut message: Message) -> Result<Response, Refused> {
        let part = match &self.answer {
            AnswerRule::Part(pointer) => Some(pointer.find(&message.payload).ok_or_else(|| {
                Error::new(Kind::Failed, "the responder's answer lacks the part that is asked for")
            })?),
            AnswerRule::Whole | AnswerRule::Built(_) => None,
        };
        let part = part.map(|part| message.payload.slice_ref(part.get().as_bytes()));
        let is_part = part.is_some();
        message.payload = part.unwrap_or(message.payload);
        let mut response = answer::message(message, &door.response_headers, &door.gate.budget);
        if is_part {
            // What the responder says of the whole is not so of a part.
            response.headers_mut().insert(hyper::header::CONTENT_TYPE, answer::JSON);
            response.headers_mut().remove(hyper::header::ETAG);
        }
        *response.status_mut() = self.status;
        Ok(response)
    }

    fn target(&self, operation: Operation, sent: &Sent) -> Result<Target, Error> {
        let mut text = String::new();
        for token in &self.subject {
            if !text.is_empty() {
                text.push('.');
            }
            match token {
                Token::Literal(literal) => text.push_str(literal),
                Token::From(source) => {
                    let value = self.text(source, sent)?;
                    // One token, so that no value reaches a subject of another shape, and no wildcard widens a pattern.
                    if value.contains('.') || Subject::parse(value.as_str()).is_err() {
                        let what = source.name(&self.parameters());
                        return Err(Error::new(Kind::Invalid, format!("{what} is no token of a subject")));
                    }
                    text.push_str(&value);
                }
            }
        }
        let wrong = |error: contract::SubjectError| Error::new(Kind::Invalid, error.to_string());
        Ok(match operation {
            Operation::Request => Target::Request(Subject::parse(text).map_err(wrong)?),
            Operation::Publish => Target::Publish(Subject::parse(text).map_err(wrong)?),
            Operation::Subscribe => Target::Subscribe(Pattern::parse(text).map_err(wrong)?),
        })
    }

    /// What a source says, which must be there.
    fn text(&self, source: &Source, sent: &Sent) -> Result<String, Error> {
        let value = source.find(sent)?.map(|value| value.as_text().into_owned());
        value.ok_or_else(|| lacking(std::slice::from_ref(source), &self.parameters()))
    }

    /// A header whose sources are not there is left out.
    fn add_headers(&self, headers: &mut Headers, sent: &Sent) -> Result<(), Error> {
        for (name, template) in &self.headers {
            let Some(value) = template.fill_text(sent, Missing::Refused(&self.parameters()))? else {
                continue;
            };
            headers.retain(|known, _| !known.eq_ignore_ascii_case(name));
            headers
                .append(ByteString::from(&**name), value)
                .map_err(|error| Error::new(Kind::Invalid, format!("the header {name}: {error}")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Sent {
    /// A request of nobody's, with these parameters in its query.
    pub(crate) fn example(table: Arc<Table>, query: &str) -> Self {
        let identity = Identity::new("anonymous", contract::Method::Anonymous);
        let address = contract::PeerAddress::Unix;
        Self {
            origin: Arc::new(Origin { door: "http", identity, address, connection: 1 }),
            table,
            path: Vec::new(),
            query: path::query(query),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }
}
