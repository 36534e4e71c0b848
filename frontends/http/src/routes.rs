//! What there is on the door's port, and what each of it does.
//!
//! [`ENTRIES`] says it once: `/` shows it, the `OpenAPI` document describes it, and a test walks it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, Version};
use axum::response::Response;
use axum::routing::{get, post};
use contract::{
    Charge, DoorMeters, Error, Headers, Kind, Origin, Outcome, Pattern, Pipeline, Reply, Subject,
    SubjectError, Target, TraceContext,
};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

use crate::events::{Events, Hall, Of};
use crate::problem::Refused;
use crate::rest::exchange;
use crate::rest::table::Route;
use crate::{Door, answer, asking, body};

/// One thing that there is.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its method.
    pub method: &'static str,
    /// Its path; a part in braces stands for one that the client chooses.
    pub path: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
}

/// All that the door has of its own.
pub(crate) const ENTRIES: [Entry; 6] = [
    Entry { method: "GET", path: "/", summary: "What is here." },
    Entry { method: "GET", path: "/openapi.json", summary: "This interface as an OpenAPI document." },
    Entry {
        method: "POST",
        path: "/v1/request/{subject}",
        summary: "Sends the body as a request to a subject and answers with the reply.",
    },
    Entry { method: "POST", path: "/v1/publish/{subject}", summary: "Publishes the body to a subject." },
    Entry {
        method: "GET",
        path: "/v1/subscribe/{pattern}",
        summary: "Subscribes to a pattern: Server-Sent Events.",
    },
    Entry {
        method: "GET",
        path: "/v1/subscribe",
        summary: "The same, with the pattern as a query parameter.",
    },
];

/// Smaller answers gain nothing: one packet either way.
const GZIP_BYTES_MIN: u16 = 1024;
/// How long a browser may remember what it may ask.
const PREFLIGHT_AGE: Duration = Duration::from_mins(10);

/// The door's own routes and what is mounted beside them.
pub(crate) fn router<P: Pipeline>(
    door: &Arc<Door<P>>,
    mounted: Router,
    cors_origins: &[String],
    gzip: bool,
) -> Router {
    let mut router = Router::new()
        .route("/", get(entries::<P>))
        .route("/openapi.json", get(document::<P>))
        .route("/v1/request/{subject}", post(request::<P>))
        .route("/v1/publish/{subject}", post(publish::<P>))
        .route("/v1/subscribe/{pattern}", get(subscribe::<P>))
        .route("/v1/subscribe", get(subscribe_to_query::<P>))
        .fallback(configured::<P>)
        .with_state(Arc::clone(door))
        .merge(mounted)
        .method_not_allowed_fallback(async || {
            let error = Error::new(Kind::Unsupported, "this path has another method; see Allow");
            Refused::from(error).with_status(StatusCode::METHOD_NOT_ALLOWED).respond(&TraceContext::start())
        });
    if gzip {
        let worth_it = SizeAbove::new(GZIP_BYTES_MIN.into()).and(is_json);
        let layer = CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest);
        router = router.layer(layer.compress_when(worth_it));
    }
    if !cors_origins.is_empty() {
        router = router.layer(cors(cors_origins));
    }
    router
}

/// What `GET /` says.
pub(crate) fn index(mounted: &[Entry], configured: &[Arc<Route>]) -> Bytes {
    let entries = ENTRIES.iter().chain(mounted);
    let entries =
        entries.map(|entry| json!({ "method": entry.method, "path": entry.path, "summary": entry.summary }));
    let configured = configured.iter().map(
        |route| json!({ "method": route.method.as_str(), "path": route.endpoint, "summary": route.summary }),
    );
    let entries: Vec<_> = entries.chain(configured).collect();
    json!({ "name": "ipc-gateway", "version": env!("CARGO_PKG_VERSION"), "paths": entries })
        .to_string()
        .into()
}

/// Event streams are left alone, since a compressor holds back what should be read at once.
fn is_json(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let said = headers.get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}

/// Whose pages may read the answers. No credentials: there are none that a browser would send by itself.
fn cors(origins: &[String]) -> CorsLayer {
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(ExposeHeaders::any())
        .max_age(PREFLIGHT_AGE)
}

async fn entries<P: Pipeline>(State(door): State<Arc<Door<P>>>) -> Response {
    answer::json(StatusCode::OK, door.table().index.clone())
}

async fn document<P: Pipeline>(State(door): State<Arc<Door<P>>>) -> Response {
    answer::json(StatusCode::OK, door.table().document.clone())
}

/// What the door has no path of its own for.
async fn configured<P: Pipeline>(State(door): State<Arc<Door<P>>>, request: Request) -> Response {
    exchange::serve(&door, request).await
}

type Named = Result<Path<String>, PathRejection>;

async fn request<P: Pipeline>(State(door): State<Arc<Door<P>>>, named: Named, request: Request) -> Response {
    let trace = asking::trace(request.headers());
    let accepts_events = accepts_events(request.headers());
    let answered = async {
        let sent = send(&door, Target::Request(subject(named)?), request, &trace).await;
        match sent.map_err(|refused| not_acceptable(refused, accepts_events))? {
            Reply::Message(message) => {
                Ok(answer::message(message, &door.response_headers, &door.gate.budget))
            }
            Reply::Accepted => Ok(answer::accepted()),
            Reply::Stream(stream) if accepts_events => {
                Ok(Events::respond(stream, Of::Request, &trace, &door.hall(), None))
            }
            Reply::Stream(_) => {
                let error = Error::new(Kind::Unsupported, STREAM).with_outcome(Outcome::Unknown);
                Err(not_acceptable(error.into(), false))
            }
        }
    };
    settle(&door, answered.await, &trace)
}

async fn publish<P: Pipeline>(State(door): State<Arc<Door<P>>>, named: Named, request: Request) -> Response {
    let trace = asking::trace(request.headers());
    let answered = async {
        send(&door, Target::Publish(subject(named)?), request, &trace).await?;
        Ok(answer::accepted())
    };
    settle(&door, answered.await, &trace)
}

async fn subscribe<P: Pipeline>(
    State(door): State<Arc<Door<P>>>,
    named: Named,
    request: Request,
) -> Response {
    let trace = asking::trace(request.headers());
    let name = named.map(|Path(name)| name).map_err(|_| malformed("the pattern in the path is not UTF-8"));
    let answered = listen(&door, name, request, &trace).await;
    settle(&door, answered, &trace)
}

async fn subscribe_to_query<P: Pipeline>(
    State(door): State<Arc<Door<P>>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    request: Request,
) -> Response {
    let trace = asking::trace(request.headers());
    let name = match query {
        Ok(Query(pairs)) => match <[_; 1]>::try_from(pairs) {
            // What is not UTF-8 was replaced on the way here, and is not what the client meant.
            Ok([(_, pattern)]) if pattern.contains(char::REPLACEMENT_CHARACTER) => {
                Err(malformed("the pattern in the query is not UTF-8"))
            }
            Ok([(key, pattern)]) if key == "pattern" => Ok(pattern),
            _ => Err(malformed("the query is one parameter: pattern")),
        },
        Err(_) => Err(malformed("the query cannot be read")),
    };
    let answered = listen(&door, name, request, &trace).await;
    settle(&door, answered, &trace)
}

/// What is told to a client that does not accept the stream that came.
pub(crate) const STREAM: &str = "the answer is a stream: accept text/event-stream to read it";

/// The status of HTTP (RFC 9110, section 15.5.7) where only what the client accepts stands in the way.
pub(crate) fn not_acceptable(refused: Refused, accepts_events: bool) -> Refused {
    let is_about_streams = [STREAM, contract::Request::PARTS_NEEDED].contains(&refused.error.text());
    if is_about_streams && !accepts_events {
        return refused.with_status(StatusCode::NOT_ACCEPTABLE);
    }
    refused
}

fn malformed(text: &'static str) -> Refused {
    Error::new(Kind::Malformed, text).into()
}

fn subject(named: Named) -> Result<Subject, Refused> {
    let Path(name) = named.map_err(|_| malformed("the subject in the path is not UTF-8"))?;
    Subject::parse(name).map_err(invalid)
}

fn invalid(error: SubjectError) -> Refused {
    Error::new(Kind::Invalid, error.to_string()).into()
}

/// Writes the answer, or what went wrong.
pub(crate) fn settle<P>(
    door: &Door<P>,
    answered: Result<Response, Refused>,
    trace: &TraceContext,
) -> Response {
    answered.unwrap_or_else(|refused| {
        count(door, &refused);
        refused.respond_within(trace, &door.gate.budget)
    })
}

/// Counts what broke the protocol.
pub(crate) fn count<P>(door: &Door<P>, refused: &Refused) {
    if refused.error.kind() == Kind::Malformed {
        door.gate.meters.protocol_errors_total.increment();
    }
}

/// Sends a request's body.
async fn send<P: Pipeline>(
    door: &Door<P>,
    target: Target,
    request: Request,
    trace: &TraceContext,
) -> Result<Reply, Refused> {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    // What the head alone says is wrong is told before the body is awaited.
    let asked = Asked {
        headers: door.request_headers.take(&parts.headers)?,
        timeout: asking::timeout(&parts.headers)?,
        idempotent: asking::idempotent(&parts.headers)?,
        parts: accepts_events(&parts.headers),
    };
    let (payload, charge) = body::read(body, door.body_bounds(begun, &asked), &door.gate.budget).await?;
    let received = asked.received(begun);
    call(door, target, (asked, received), (payload, Some(charge)), origin(&parts), trace).await
}

/// Subscribes. A body of such a request means nothing and is not read.
async fn listen<P: Pipeline>(
    door: &Door<P>,
    name: Result<String, Refused>,
    request: Request,
    trace: &TraceContext,
) -> Result<Response, Refused> {
    let pattern = Pattern::parse(name?).map_err(invalid)?;
    let (parts, _) = request.into_parts();
    let of = if parts.headers.contains_key("last-event-id") { Of::Resumed } else { Of::Subscription };
    let asked = Asked {
        headers: door.request_headers.take(&parts.headers)?,
        timeout: asking::timeout(&parts.headers)?,
        idempotent: true,
        parts: false,
    };
    let (asked, target) = ((asked, Instant::now()), Target::Subscribe(pattern));
    match call(door, target, asked, (Bytes::new(), None), origin(&parts), trace).await? {
        Reply::Stream(stream) => Ok(Events::respond(stream, of, trace, &door.hall(), None)),
        Reply::Accepted | Reply::Message(_) => {
            Err(Error::new(Kind::Internal, "a subscription was not answered with a stream").into())
        }
    }
}

/// What the headers of a request ask for.
pub(crate) struct Asked {
    pub(crate) headers: Headers,
    pub(crate) timeout: Option<Duration>,
    pub(crate) idempotent: bool,
    /// Whether an answer of many messages can be told.
    pub(crate) parts: bool,
}

impl Asked {
    /// From when on the time of a request counts whose head came at `begun`: from then if the client says how much it
    /// has, and from now, when the body is whole, if it is the route's to say.
    pub(crate) fn received(&self, begun: Instant) -> Instant {
        if self.timeout.is_some() { begun } else { Instant::now() }
    }
}

impl<P> Door<P> {
    /// The bounds of the body of a request whose head came at `begun`.
    pub(crate) fn body_bounds(&self, begun: Instant, asked: &Asked) -> body::Bounds {
        let deadline = asked.timeout.map(|_| self.gate.deadline(begun, asked.timeout));
        body::Bounds { bytes_max: self.payload_bytes_max, timeout: self.body_timeout, deadline }
    }
}

/// Calls the pipeline. Hyper drops this future when the peer goes away, and with it all that the request holds.
pub(crate) async fn call<P: Pipeline>(
    door: &Door<P>,
    target: Target,
    (asked, received): (Asked, Instant),
    (payload, _charge): (Bytes, Option<Charge>),
    origin: &Arc<Origin>,
    trace: &TraceContext,
) -> Result<Reply, Refused> {
    let request = contract::Request {
        target,
        headers: asked.headers,
        payload,
        received,
        deadline: door.gate.deadline(received, asked.timeout),
        idempotent: asked.idempotent,
        ordered: false,
        parts: asked.parts,
        queue: None,
        trace: trace.clone(),
        origin: Arc::clone(origin),
    };
    let mut waiting = Waiting::new(&door.gate.meters);
    let outcome = door.gate.pipeline.clone().call(request).await;
    waiting.answered = true;
    Ok(outcome?)
}

/// Who is at the other end.
pub(crate) fn origin(parts: &Parts) -> &Arc<Origin> {
    parts.extensions.get::<Arc<Origin>>().expect("every connection has an origin")
}

/// Counts a request until it is answered or its peer has gone.
struct Waiting<'a> {
    meters: &'a DoorMeters,
    answered: bool,
}

impl<'a> Waiting<'a> {
    fn new(meters: &'a DoorMeters) -> Self {
        meters.in_flight.add(1);
        Self { meters, answered: false }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.meters.in_flight.add(-1);
        // A panic is counted as one.
        if !self.answered && !std::thread::panicking() {
            self.meters.vanished_total.increment();
        }
    }
}

/// Whether the client says that it reads event streams. `*/*` does not: it is said by who reads one answer.
pub(crate) fn accepts_events(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|range| {
        let kind = range.split(';').next().unwrap_or_default().trim_ascii();
        kind.eq_ignore_ascii_case("text/event-stream")
    })
}

impl<P> Door<P> {
    pub(crate) fn hall(&self) -> Hall<'_> {
        Hall {
            drain: &self.gate.drain,
            keep_alive: self.event_keep_alive,
            budget: &self.gate.budget,
            meters: &self.gate.meters,
        }
    }
}
