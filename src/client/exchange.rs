//! One exchange of HTTP/1.1: a question in the form of a request, and what its answer says.
//!
//! A connection is driven by whoever waits for its answer, in the same poll: there is no task behind it.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use contract::{Headers, Kind};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Call, Failure, Lost, Say, What, json, ws};

/// Bytes of the longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Headers that are HTTP's own: no responder is heard through them, and nobody sets them by hand.
const OWN: [&str; 10] = [
    "cache-control",
    "connection",
    "content-length",
    "date",
    "host",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "vary",
    "x-content-type-options",
];

/// Something said, as a request.
#[derive(Debug)]
pub(super) struct Asked {
    request: Request<Full<Bytes>>,
    /// What an answer without a body to speak of stands for.
    means: Means,
}

/// What 2xx means.
#[derive(Clone, Copy, Debug)]
enum Means {
    Reply,
    Accepted,
    Pong,
}

/// What an exchange comes to.
#[derive(Debug)]
pub(super) enum Answer {
    /// All of it.
    Whole(What),
    /// A stream of events.
    Events(Incoming),
}

impl Asked {
    /// Puts it into words of HTTP. `host` is a host and a port.
    pub(super) fn new(say: &Say, host: &str) -> Result<Self, Failure> {
        let (means, method, path, call) = match say {
            Say::Request(call) => (Means::Reply, Method::POST, path("/v1/request/", call), Some(call)),
            Say::Publish(call) => (Means::Accepted, Method::POST, path("/v1/publish/", call), Some(call)),
            Say::Subscribe(call) => {
                (Means::Accepted, Method::GET, path("/v1/subscribe?pattern=", call), Some(call))
            }
            Say::Ping => (Means::Pong, Method::GET, "/".to_owned(), None),
            Say::Cancel => {
                return Err(Failure::unsupported("HTTP takes a request back by closing its connection"));
            }
            Say::Unsubscribe => return Err(Failure::unsupported("there is no such subscription")),
        };
        let payload = call.map(|call| call.payload.clone()).unwrap_or_default();
        let wrong = |what: String| Failure::new(Kind::Invalid, what);
        let mut request = Request::new(Full::new(payload));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| wrong(format!("the subject: {error}")))?;
        let headers = request.headers_mut();
        headers.insert(HOST, host.parse().map_err(|error| wrong(format!("the host: {error}")))?);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*, text/event-stream"));
        let Some(call) = call else { return Ok(Self { request, means }) };
        for (name, value) in call.headers.iter() {
            let known = HeaderName::from_bytes(name.as_bytes());
            let (Ok(known), Ok(value)) = (known, HeaderValue::from_bytes(value.as_bytes())) else {
                return Err(wrong(format!("HTTP cannot carry the header {name}")));
            };
            if OWN.contains(&known.as_str()) {
                return Err(wrong(format!("the header {name} is HTTP's own")));
            }
            headers.append(known, value);
        }
        if let Some(timeout) = call.timeout {
            let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
            headers.insert("x-request-timeout", milliseconds.into());
        }
        if call.idempotent && matches!(say, Say::Request(_) | Say::Publish(_)) {
            headers.insert("x-idempotent", HeaderValue::from_static("true"));
        }
        if let Some(parent) = &call.traceparent {
            let parent = parent.parse().map_err(|error| wrong(format!("the trace: {error}")))?;
            headers.insert("traceparent", parent);
        }
        Ok(Self { request, means })
    }
}

/// A subject behind a prefix, with everything that is not unreserved (RFC 3986 section 2.3) written as `%XX`.
fn path(prefix: &str, call: &Call) -> String {
    let mut path = prefix.to_owned();
    for byte in call.subject.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(byte.into());
        } else {
            write!(path, "%{byte:02X}").expect("a string takes everything");
        }
    }
    path
}

/// A connection, which carries one exchange at a time.
#[derive(Debug)]
pub(super) struct Lane {
    sender: SendRequest<Full<Bytes>>,
    wire: Wire,
}

/// What moves the bytes of a connection.
#[derive(Debug)]
struct Wire {
    connection: Connection<TokioIo<TcpStream>, Full<Bytes>>,
    /// Whether the connection has ended; it is not to be polled again then.
    over: bool,
}

impl Wire {
    /// Moves bytes until `waited` is there. It fails when the connection has ended and `waited` cannot come
    /// any more: nobody would wake it.
    async fn drive<T>(&mut self, waited: impl Future<Output = T>) -> Result<T, Lost> {
        let mut waited = pin!(waited);
        poll_fn(|context| {
            // Before, for what came meanwhile, and after, for what has to go.
            for _ in 0..2 {
                if !self.over {
                    // What went wrong is told to whoever waits for the answer.
                    self.over = Pin::new(&mut self.connection).poll(context).is_ready();
                }
                if let Poll::Ready(there) = waited.as_mut().poll(context) {
                    return Poll::Ready(Ok(there));
                }
            }
            if self.over { Poll::Ready(Err(Lost::Closed)) } else { Poll::Pending }
        })
        .await
    }
}

impl Lane {
    /// Connects.
    pub(super) async fn connect(address: &str) -> Result<Self, Lost> {
        let socket = ws::connect(address).await?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await.map_err(broken)?;
        Ok(Self { sender, wire: Wire { connection, over: false } })
    }

    /// Whether another exchange can begin.
    async fn is_ready(&mut self) -> bool {
        let Self { sender, wire } = self;
        matches!(wire.drive(sender.ready()).await, Ok(Ok(()))) && !self.wire.over
    }

    /// Whether nothing more can be asked.
    pub(super) fn is_over(&self) -> bool {
        self.wire.over
    }

    /// The next piece of a body; `None` is its end.
    pub(super) async fn piece(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, Lost> {
        loop {
            match self.wire.drive(body.frame()).await? {
                None => return Ok(None),
                Some(Err(error)) => return Err(broken(error)),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    async fn answer(&mut self, response: Response<Incoming>, means: Means) -> Result<Answer, Lost> {
        let (head, body) = response.into_parts();
        let status = head.status;
        let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if status.is_success() && kind.starts_with(b"text/event-stream") {
            return Ok(Answer::Events(body));
        }
        let is_problem = kind.starts_with(b"application/problem+json");
        let body = self.wire.drive(Limited::new(body, ANSWER_BYTES_MAX).collect()).await?;
        let payload = body.map_err(|error| Lost::Broken(io::Error::other(error)))?.to_bytes();
        if !status.is_success() {
            if is_problem {
                return Ok(Answer::Whole(What::Failed(json::problem(&payload)?)));
            }
            return Err(Lost::Protocol(format!("{status} without a word of this gateway's")));
        }
        Ok(Answer::Whole(match means {
            Means::Reply => What::Reply { headers: responders(&head.headers)?, payload, more: false },
            Means::Accepted => What::Accepted,
            Means::Pong => What::Pong,
        }))
    }
}

/// What a responder said in headers.
fn responders(from: &HeaderMap) -> Result<Headers, Lost> {
    let mut headers = Headers::new();
    for (name, value) in from {
        if !OWN.contains(&name.as_str()) {
            headers
                .append_past_limits(name.as_str(), &*String::from_utf8_lossy(value.as_bytes()))
                .map_err(|error| Lost::Protocol(error.to_string()))?;
        }
    }
    Ok(headers)
}

/// Asks, by a connection that is kept or by a new one, and gives it back.
pub(super) async fn exchange(
    kept: Option<Lane>,
    address: Arc<str>,
    asked: Asked,
) -> Result<(Lane, Answer), Lost> {
    let Asked { mut request, means } = asked;
    if let Some(mut lane) = kept
        && lane.is_ready().await
    {
        match lane.wire.drive(lane.sender.try_send_request(request)).await? {
            Ok(response) => {
                let answer = lane.answer(response, means).await?;
                return Ok((lane, answer));
            }
            // The gateway ended an idle connection just then, and nothing of the request was sent.
            Err(mut error) => match error.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(broken(error.into_error())),
            },
        }
    }
    let mut lane = Lane::connect(&address).await?;
    let response = lane.wire.drive(lane.sender.send_request(request)).await?.map_err(broken)?;
    let answer = lane.answer(response, means).await?;
    Ok((lane, answer))
}

fn broken(error: hyper::Error) -> Lost {
    if error.is_incomplete_message() { Lost::Closed } else { Lost::Broken(io::Error::other(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_segment_whatever_is_in_it() {
        let call = Call { subject: "a.*.>/..%ä".to_owned(), ..Call::default() };
        assert_eq!(path("/", &call), "/a.%2A.%3E%2F..%25%C3%A4");
    }

    #[test]
    fn a_header_that_would_break_the_request_is_refused() {
        for (name, value) in [("Content-Length", "3"), ("X(A)", "1"), ("Transfer-Encoding", "chunked")] {
            let mut headers = Headers::new();
            headers.append_past_limits(name, value).unwrap();
            let call = Call { subject: "a".to_owned(), headers, ..Call::default() };
            let refused = Asked::new(&Say::Request(call), "localhost").unwrap_err();
            assert_eq!(refused.kind, Kind::Invalid, "{name}");
        }
    }
}
