//! What every call passes before and behind its method: whose it is, until when, and what becomes of it when the
//! method itself never sees it.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use contract::{Error, Kind, Origin, Outcome, Pipeline, TraceContext};
use futures_util::FutureExt;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower_http::cors::{AllowHeaders, AllowOrigin, Cors, CorsLayer};
use tower_layer::Layer;
use tower_service::Service;

use crate::arrived::{Arrived, Arriving};
use crate::calls::Head;
use crate::{Door, asking};

/// The media type of gRPC; what begins so is gRPC or gRPC-Web (gRPC over HTTP2, "Content-Type").
const GRPC: &str = "application/grpc";
/// And of gRPC-Web.
const GRPC_WEB: &str = "application/grpc-web";
/// How long a browser may remember what it may ask.
const PREFLIGHT_AGE: std::time::Duration = std::time::Duration::from_mins(10);
/// Methods that run as long as their client goes on talking, before any answer.
const TALKING: [&str; 1] = ["/gateway.v1.Gateway/PublishMany"];

/// Answers the calls of every connection. Cloning shares the door.
#[derive(Debug)]
pub(crate) struct Answers<P> {
    door: Arc<Door<P>>,
    service: Cors<GrpcWebService<Calls<P>>>,
}

impl<P> Clone for Answers<P> {
    fn clone(&self) -> Self {
        Self { door: Arc::clone(&self.door), service: self.service.clone() }
    }
}

impl<P: Pipeline> Answers<P> {
    /// Answers by `routes`; `origins` are those whose pages may read the answers.
    pub(crate) fn new(door: &Arc<Door<P>>, routes: Routes, origins: &[String]) -> Self {
        let calls = Calls { door: Arc::clone(door), routes };
        let service = cors(origins).layer(GrpcWebLayer::new().layer(calls));
        Self { door: Arc::clone(door), service }
    }

    /// Answers one call: the guard first, so that a stranger learns nothing, not even which methods there are.
    pub(crate) async fn answer<B>(&self, request: Request<B>, origin: Arc<Origin>) -> Response<Body>
    where
        B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Err(error) = self.guard(request.version(), request.uri().authority(), request.headers()) {
            self.door.gate.meters.protocol_errors_total.increment();
            tracing::debug!(door = crate::NAME, %error, "a call was refused");
            let status = self.door.telling.status(&error, &TraceContext::start());
            let mut response = status.into_http();
            *response.status_mut() = match error.kind() {
                Kind::Malformed => StatusCode::BAD_REQUEST,
                _ => StatusCode::FORBIDDEN,
            };
            return response;
        }
        if !is_grpc(request.headers()) && request.method() != Method::OPTIONS {
            // gRPC over HTTP2: a server may answer what is not gRPC with 415, so that no client takes it for gRPC.
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(origin);
        let Ok(response) = self.service.clone().call(request).await;
        response
    }

    /// Refuses pages of other sites and names that are not ours. Only what a browser can send is looked at: without
    /// TLS it speaks HTTP/1.1 alone, and what it sends by HTTP/2 is gRPC-Web or says where it is from. So a client
    /// in a cluster may use any name for the gateway.
    fn guard(
        &self,
        version: Version,
        authority: Option<&Authority>,
        headers: &HeaderMap,
    ) -> Result<(), Error> {
        let a_page_may_have_sent_it = version != Version::HTTP_2
            || headers.contains_key(ORIGIN)
            || headers.contains_key("sec-fetch-site")
            || content_type(headers).starts_with(GRPC_WEB);
        if !a_page_may_have_sent_it {
            return Ok(());
        }
        let authority = authority.map(Authority::as_str);
        let values = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
        self.door.site.check(authority, values).map_err(|refusal| {
            let kind = if refusal.is_malformed() { Kind::Malformed } else { Kind::Denied };
            Error::new(kind, refusal.to_string())
        })
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default()
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = content_type(headers).strip_prefix(GRPC);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';', '-']))
}

/// Whose pages may read the answers. No credentials: there are none that a browser would send by itself.
fn cors(origins: &[String]) -> CorsLayer {
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let told = ["grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-encoding"];
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(told.map(HeaderName::from_static))
        .max_age(PREFLIGHT_AGE)
}

/// The methods, with a head for each call and a bound on its time.
#[derive(Debug)]
struct Calls<P> {
    door: Arc<Door<P>>,
    routes: Routes,
}

impl<P> Clone for Calls<P> {
    fn clone(&self) -> Self {
        Self { door: Arc::clone(&self.door), routes: self.routes.clone() }
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<P: Pipeline> Service<Request<Body>> for Calls<P> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { door, routes } = self.clone();
        Box::pin(async move {
            let trace = asking::trace(request.headers());
            let answered = dispatch(&door, routes, request, trace.clone()).await;
            Ok(answered.unwrap_or_else(|error| door.status(&error, &trace).into_http()))
        })
    }
}

/// Calls a method within its time. Dropping the future, as hyper does when the client resets the call, takes it
/// back.
async fn dispatch<P: Pipeline>(
    door: &Door<P>,
    mut routes: Routes,
    mut request: Request<Body>,
    trace: TraceContext,
) -> Result<Response<Body>, Error> {
    let received = Instant::now();
    let timeout = asking::timeout(request.headers())?;
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        let text = "the deadline of the call had passed when it arrived";
        return Err(Error::new(Kind::TimedOut, text).with_outcome(Outcome::NotSent));
    }
    let origin = request.extensions_mut().remove::<Arc<Origin>>().expect("every connection has an origin");
    let arrived = Arrived::new(&door.gate.budget, door.message_bytes_max);
    let (counted, telling) = (arrived.clone(), door.telling);
    let message = arrived.clone();
    let head = Head { received, timeout, trace: trace.clone(), origin, arrived };
    // The method answers within its own deadline; this is for a client that does not finish its message.
    let due = if TALKING.contains(&request.uri().path()) {
        head.until()
    } else {
        Some(door.gate.deadline(received, timeout))
    };
    request.extensions_mut().insert(head);
    let request = request.map(|body| Body::new(Arriving::new(body, counted, telling)));
    let calling = AssertUnwindSafe(routes.call(request)).catch_unwind();
    let answered = match due {
        Some(due) => timeout_at(due, calling).await,
        None => Ok(calling.await),
    };
    match answered {
        Ok(Ok(Ok(response))) => Ok(door.completed(response, &trace)),
        Ok(Err(panic)) => Err(panicked(door, &*panic)),
        Err(_) if message.was_taken() => {
            Err(Error::new(Kind::TimedOut, "no answer within the deadline of the call"))
        }
        Err(_) => {
            let text = "the message did not arrive within the deadline of the call";
            Err(Error::new(Kind::TimedOut, text).with_outcome(Outcome::NotSent))
        }
    }
}

fn panicked<P>(door: &Door<P>, panic: &(dyn Any + Send)) -> Error {
    // The panic hook has told where.
    door.gate.meters.panics_total.increment();
    let panic = wire::inflight::Panicked::of(panic);
    tracing::error!(door = crate::NAME, "a request panicked: {panic}");
    Error::new(Kind::Internal, "a fault of the gateway").with_cause(panic)
}

impl<P> Door<P> {
    /// Counts and completes an answer that tonic made itself, because no method ever saw the call: ours have
    /// details.
    fn completed(&self, response: Response<Body>, trace: &TraceContext) -> Response<Body> {
        let headers = response.headers();
        if !headers.contains_key("grpc-status") || headers.contains_key("grpc-status-details-bin") {
            return response;
        }
        let Some(status) = Status::from_header_map(headers) else { return response };
        match self.decoded(status.clone(), trace) {
            better if better.code() != status.code() => better.into_http(),
            _ => response,
        }
    }

    /// The status of a message that could not be read. Says that it was too large as others say it, where tonic says
    /// that it was out of range.
    pub(crate) fn decoded(&self, status: Status, trace: &TraceContext) -> Status {
        match status.code() {
            Code::OutOfRange => {
                self.gate.meters.protocol_errors_total.increment();
                let text = format!("a message has at most {} bytes", self.message_bytes_max);
                self.telling.status(&Error::new(Kind::TooLarge, text), trace)
            }
            Code::Internal | Code::ResourceExhausted | Code::Unimplemented => {
                self.gate.meters.protocol_errors_total.increment();
                status
            }
            _ => status,
        }
    }
}
