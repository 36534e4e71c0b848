//! One connection, from its first byte to its last: hyper under our bounds, and how it ends when the gateway
//! stops.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use contract::{Error, Frontend, Handshake, Kind, Pipeline, TraceContext};
use futures_util::FutureExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

use crate::problem::Refused;
use crate::pulse::{Answering, Heads, Pulse};
use crate::{Door, HttpDoor, NoMount, Settings, guard, problem};
use wire::attendant::{Attendant, Turn};
use wire::caps::Place;
use wire::departure::{Departure, Shared};
use wire::entrance::{Guest, Host};
use wire::watched::Watched;

/// What a connection without a request in work gets to take its last answer, once the gateway stops.
const LAST_ANSWER: Duration = Duration::from_millis(500);

/// Who is at the other end: among the extensions of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Tells when it leaves.
    pub departure: Departure,
    /// Its place under the cap, until the last clone is dropped.
    _place: Arc<Place>,
}

/// The bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    header_timeout: Duration,
    write_timeout: Duration,
    keep_alive: Duration,
    headers_max: usize,
    header_bytes_max: usize,
}

impl Bounds {
    pub(crate) fn of<M>(settings: &Settings<M>) -> Self {
        Self {
            header_timeout: settings.header_timeout,
            write_timeout: settings.write_timeout,
            keep_alive: settings.keep_alive,
            headers_max: settings.headers_max,
            header_bytes_max: settings.header_bytes_max,
        }
    }
}

/// All that a connection is served with.
#[derive(Debug)]
pub(crate) struct Serving<P> {
    pub(crate) door: Arc<Door<P>>,
    pub(crate) router: Router,
    pub(crate) bounds: Bounds,
}

impl<P> Clone for Serving<P> {
    fn clone(&self) -> Self {
        Self { door: Arc::clone(&self.door), router: self.router.clone(), bounds: self.bounds }
    }
}

impl<P: Pipeline> Host<TcpListener> for Serving<P> {
    const NAME: &'static str = HttpDoor::<NoMount>::NAME;
    type Entry = Handshake;

    fn serve(
        &self,
        stream: TcpStream,
        guest: Guest<SocketAddr, Handshake>,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.clone().converse(stream, guest)
    }

    fn refusal(&self, error: &Error) -> Vec<u8> {
        problem::before_any_request(error)
    }
}

impl<P: Pipeline> Serving<P> {
    /// Serves one connection to its end.
    async fn converse(self, stream: TcpStream, guest: Guest<SocketAddr, Handshake>) {
        let Guest { origin, from: address, place, entry: handshake } = guest;
        let Self { door, router, bounds } = self;
        let (pulse, drain, meters) = (Pulse::new(), door.gate.drain.clone(), Arc::clone(&door.gate.meters));
        let (stream, turn) = (Shared::new(stream), Turn::default());
        let departure = stream.departure();
        let mut attendant = Attendant::new(turn.clone(), &departure);
        let peer = Peer { address, departure, _place: Arc::new(place) };
        let heads = Heads::new(pulse.clone(), bounds.header_timeout);
        let watched = Watched::new(stream, heads, turn, Arc::clone(&meters), bounds.write_timeout);
        let (beat, stopping) = (pulse.clone(), drain.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            // Its first head is whole.
            handshake.finish();
            let answering = beat.answering();
            request.extensions_mut().insert(Arc::clone(&origin));
            request.extensions_mut().insert(peer.clone());
            let (door, router, beat, stopping) =
                (Arc::clone(&door), router.clone(), beat.clone(), stopping.clone());
            async move {
                let mut response = answer(&door, router, request.map(Body::new)).await;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    beat.upgraded();
                } else if stopping.is_draining() {
                    // The goodbye of HTTP/1.1: who has an answer anyway need not wait for its moment.
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response.map(|body| Watching { body, _answering: answering }))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Runs while a connection is idle as well; a head that has begun is the transport's to watch.
            .header_read_timeout(bounds.keep_alive.max(bounds.header_timeout))
            .max_buf_size(bounds.header_bytes_max)
            .max_headers(bounds.headers_max)
            .serve_connection(TokioIo::new(watched), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut attended = |context: &mut Context<'_>, connection: Pin<&mut _>| {
            attendant.poll(context, connection, || pulse.is_answering())
        };
        let ended = tokio::select! {
            ended = poll_fn(|context| attended(context, connection.as_mut())) => ended,
            () = drain.leave() => {
                connection.as_mut().graceful_shutdown();
                loop {
                    match tokio::time::timeout(LAST_ANSWER, poll_fn(|context| attended(context, connection.as_mut()))).await {
                        Ok(ended) => break ended,
                        Err(_) if pulse.is_busy() => {}
                        Err(_) => break Some(Ok(())),
                    }
                }
            }
        };
        match ended {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                if error.is_parse() {
                    meters.protocol_errors_total.increment();
                }
                tracing::debug!(door = "http", %error, "a connection ended badly");
            }
            None => tracing::debug!(door = "http", "a peer vanished"),
        }
    }
}

/// Answers one request: the guard first, so that a stranger learns nothing, not even which paths there are.
async fn answer<P: Pipeline>(door: &Door<P>, mut router: Router, request: Request<Body>) -> Response {
    if let Err(refused) = guard::check(&door.site, &request) {
        door.gate.meters.protocol_errors_total.increment();
        tracing::debug!(door = "http", error = %refused.error, "a request was refused");
        return refused.respond(&TraceContext::start());
    }
    let answered = AssertUnwindSafe(router.call(request)).catch_unwind().await;
    match answered {
        Ok(Ok(response)) => response,
        Err(_) => {
            // The panic hook has told where.
            door.gate.meters.panics_total.increment();
            tracing::error!(door = "http", "a request panicked");
            let error = Error::new(Kind::Internal, "a fault of the gateway");
            Refused::closing(error).respond(&TraceContext::start())
        }
    }
}

pin_project_lite::pin_project! {
    /// A body that keeps the connection busy until it is written.
    struct Watching {
        #[pin]
        body: Body,
        _answering: Answering,
    }
}

impl HttpBody for Watching {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.project().body.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
