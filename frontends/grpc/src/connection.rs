//! One connection, from its first byte to its last: hyper under our bounds, and how it ends when the gateway
//! stops or nobody uses it.
//!
//! `tonic::transport::Server` is not used: it answers `grpc-timeout` in a way of its own and leaves most of these
//! bounds at their defaults.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use contract::{Error, Handshake, Origin, Pipeline};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::time::Instant;
use wire::attendant::{Attendant, Turn};
use wire::caps::Place;
use wire::departure::{Shared, Socket};
use wire::entrance::{Guest, Host};
use wire::listener::Listener;
use wire::watched::Watched;

use crate::answer::Answers;
use crate::pulse::{Hello, Pulse};
use crate::taking::{Taking, Takings};
use crate::{Door, Settings};

/// What a connection without a call gets to take its last answer, once it is to end.
const LAST_ANSWER: Duration = Duration::from_millis(500);
/// Bytes of the largest frame, the least that HTTP/2 allows (RFC 9113, section 6.5.2).
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of one stream that hyper holds until the client takes them.
const SEND_BYTES_MAX: usize = 256 * 1024;
/// Streams that were reset by us, for an error of the client's; then the connection ends (CVE-2024-2758 and kin).
const ERROR_RESETS_MAX: usize = 1024;
/// The least that hyper takes for HTTP/1.1.
const HTTP1_HEAD_BYTES_MIN: usize = 8192;
/// Headers of one request of HTTP/1.1.
const HTTP1_HEADERS_MAX: usize = 100;

/// The bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    handshake_timeout: Duration,
    write_timeout: Duration,
    control_frames_per_second_max: u32,
    idle_timeout: Duration,
    ping_interval: Duration,
    ping_timeout: Duration,
    streams_max: u32,
    resets_max: usize,
    window_bytes: u32,
    header_bytes_max: u32,
}

impl Bounds {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            handshake_timeout: settings.handshake_timeout,
            write_timeout: settings.write_timeout,
            control_frames_per_second_max: settings.control_frames_per_second_max,
            idle_timeout: settings.idle_timeout,
            ping_interval: settings.ping_interval,
            ping_timeout: settings.ping_timeout,
            streams_max: settings.concurrent_streams_max,
            resets_max: settings.pending_resets_max,
            window_bytes: settings.window_bytes,
            header_bytes_max: settings.header_bytes_max,
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // For gRPC-Web: without TLS browsers speak nothing else.
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.handshake_timeout)
            .max_buf_size(HTTP1_HEAD_BYTES_MIN.max(self.header_bytes_max as usize))
            .max_headers(HTTP1_HEADERS_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(self.window_bytes)
            .initial_connection_window_size(self.window_bytes)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_send_buf_size(SEND_BYTES_MAX)
            .max_concurrent_streams(self.streams_max)
            .max_pending_accept_reset_streams(self.resets_max)
            .max_local_error_reset_streams(ERROR_RESETS_MAX)
            .max_header_list_size(self.header_bytes_max)
            .keep_alive_interval(self.ping_interval)
            .keep_alive_timeout(self.ping_timeout);
        builder
    }
}

/// All that a connection is served with.
#[derive(Debug)]
pub(crate) struct Serving<P> {
    pub(crate) door: Arc<Door<P>>,
    pub(crate) answers: Answers<P>,
    pub(crate) bounds: Bounds,
}

impl<P> Clone for Serving<P> {
    fn clone(&self) -> Self {
        Self { door: Arc::clone(&self.door), answers: self.answers.clone(), bounds: self.bounds }
    }
}

impl<P, L> Host<L> for Serving<P>
where
    P: Pipeline,
    L: Listener<Stream: Socket, From: 'static>,
{
    const NAME: &'static str = crate::NAME;
    type Entry = Handshake;

    fn serve(
        &self,
        stream: L::Stream,
        guest: Guest<L::From, Handshake>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let Guest { origin, place, entry, .. } = guest;
        self.clone().converse(stream, origin, place, entry)
    }

    /// Before its hello there is no way to say more than the end.
    fn refusal(&self, _: &Error) -> Vec<u8> {
        Vec::new()
    }
}

impl<P: Pipeline> Serving<P> {
    /// Serves one connection to its end.
    async fn converse(self, stream: impl Socket, origin: Arc<Origin>, _place: Place, handshake: Handshake) {
        let Self { door, answers, bounds } = self;
        let (pulse, drain, meters) =
            (Pulse::default(), door.gate.drain.clone(), Arc::clone(&door.gate.meters));
        let (stream, turn) = (Shared::new(stream), Turn::default());
        let mut attendant = Attendant::new(turn.clone(), &stream.departure());
        let hello = Hello::new(
            bounds.handshake_timeout,
            bounds.control_frames_per_second_max,
            Arc::clone(&meters),
            handshake,
        );
        let watched = Watched::new(stream, hello, turn, meters, bounds.write_timeout);
        let (beat, budget) = (pulse.clone(), door.gate.budget.clone());
        let takings = Takings::default();
        let takings_of_answers = takings.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (answering, deciding) = (beat.answering(), beat.deciding());
            let (answers, origin) = (answers.clone(), Arc::clone(&origin));
            let (budget, takings) = (budget.clone(), takings_of_answers.clone());
            async move {
                let response = answers.answer(request, origin).await;
                drop(deciding);
                Ok::<_, Infallible>(response.map(|body| Taking::new(body, budget, takings, answering)))
            }
        });
        let builder = bounds.builder();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(watched), service));
        let mut attended = |context: &mut Context<'_>, connection: Pin<&mut _>| {
            attendant.poll(context, connection, || pulse.is_busy())
        };
        let ended = tokio::select! {
            ended = poll_fn(|context| attended(context, connection.as_mut())) => ended,
            () = takings.stalled(bounds.write_timeout) => {
                tracing::debug!(door = crate::NAME, "a client takes nothing of an answer");
                // GOAWAY, so that new calls go by another connection. Calls beside the one that waits are told what
                // became of them, within their deadlines; then what waits for this client is given up.
                connection.as_mut().graceful_shutdown();
                let until = Instant::now() + door.gate.timeouts.max;
                loop {
                    match tokio::time::timeout(LAST_ANSWER, poll_fn(|context| attended(context, connection.as_mut()))).await {
                        Ok(ended) => break ended,
                        Err(_) if pulse.is_deciding() && Instant::now() < until => {}
                        Err(_) => break Some(Ok(())),
                    }
                }
            }
            () = to_end(&pulse, bounds.idle_timeout, drain.leave()) => {
                // GOAWAY, and for HTTP/1.1 "connection: close": what is in flight is answered.
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
            Some(Err(error)) => tracing::debug!(door = crate::NAME, %error, "a connection ended badly"),
            None => tracing::debug!(door = crate::NAME, "a client vanished"),
        }
    }
}

/// Resolves when a connection is to end: at its moment when the gateway stops, or when nothing was called for a while.
async fn to_end(pulse: &Pulse, idle_timeout: Duration, leave: impl Future<Output = ()>) {
    let idle = async {
        loop {
            let calls = pulse.total();
            tokio::time::sleep(idle_timeout).await;
            if !pulse.is_busy() && pulse.total() == calls {
                break;
            }
        }
    };
    tokio::select! {
        () = leave => {}
        () = idle => {}
    }
}
