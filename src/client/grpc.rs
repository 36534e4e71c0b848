//! A session of `gateway.v1.Gateway` as a client speaks it (`docs/protocols/grpc.md`).

use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use contract::{Headers, Kind};
use grpc::client::{Over, Session, delivery};
use grpc::proto::session_request::What as Saying;
use grpc::proto::{
    Error, Header, Outcome, SessionCancel, SessionPing, SessionQuestion, SessionRequest, SessionSubscription,
    SessionUnsubscribe,
};
use grpc::shared::Told;

use super::{Call, Failure, Heard, Line, Lost, Say, What, failure};

/// The line: a session, whose messages say the same in other words.
#[derive(Debug)]
struct Sessions(Session);

/// Opens a session with the gateway at `address`.
pub(super) async fn session(address: SocketAddr) -> Result<Box<dyn Line>, Lost> {
    let session = Session::open(address).await.map_err(|over| match over {
        Over::Connect(source) => Lost::Connect { address: address.to_string(), source },
        over => lost(over),
    })?;
    Ok(Box::new(Sessions(session)))
}

fn lost(over: Over) -> Lost {
    match over {
        Over::Connect(error) => Lost::Broken(error),
        Over::Closed => Lost::Closed,
        Over::Broken(error) => Lost::Broken(std::io::Error::other(error)),
        Over::Ended(status) => Lost::Broken(std::io::Error::other(status)),
    }
}

impl Line for Sessions {
    fn say(&mut self, id: u64, say: &Say) -> Result<(), Failure> {
        let what = match say {
            Say::Request(call) => Saying::Request(question(call)),
            Say::Publish(call) => Saying::Publish(question(call)),
            Say::Subscribe(call) => {
                Saying::Subscribe(SessionSubscription { pattern: call.subject.clone(), ..Default::default() })
            }
            Say::Unsubscribe => Saying::Unsubscribe(SessionUnsubscribe {}),
            Say::Cancel => Saying::Cancel(SessionCancel {}),
            Say::Ping => Saying::Ping(SessionPing {}),
        };
        // One more than ours, as 0 says nothing in Protocol Buffers.
        self.0.say(SessionRequest { id: id.wrapping_add(1), what: Some(what) });
        Ok(())
    }

    fn poll_heard(&mut self, context: &mut Context<'_>) -> Poll<Result<Heard, Lost>> {
        let response = ready!(self.0.poll_heard(context)).map_err(lost)?;
        let unknown = || Lost::Protocol("a message of a session without a meaning".to_owned());
        let what = match response.what.ok_or_else(unknown)? {
            Told::Reply(reply) => {
                What::Reply { headers: headers(reply.headers)?, payload: reply.payload, more: reply.more }
            }
            Told::Accepted(_) => What::Accepted,
            Told::Delivery(bytes) => {
                let delivery = delivery(bytes).ok_or_else(unknown)?;
                let headers = headers(delivery.headers)?;
                What::Delivery { subject: delivery.subject, headers, payload: delivery.payload }
            }
            Told::Gap(gap) => What::Gap(Some(gap.lost).filter(|lost| *lost > 0)),
            Told::End(_) => What::End,
            Told::Error(error) => What::Failed(failed(error)),
            Told::Pong(_) => What::Pong,
            Told::Goaway(_) => What::GoAway,
        };
        Poll::Ready(Ok(Heard { id: response.id.checked_sub(1), what }))
    }
}

fn question(call: &Call) -> SessionQuestion {
    let header = |(name, value): (&bytestring::ByteString, &bytestring::ByteString)| Header {
        name: name.to_string(),
        value: value.to_string(),
    };
    SessionQuestion {
        subject: call.subject.clone(),
        headers: call.headers.iter().map(header).collect(),
        payload: call.payload.clone(),
        idempotent: call.idempotent,
        timeout_ms: call.timeout.map(|wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1)),
        traceparent: call.traceparent.clone().unwrap_or_default(),
        tracestate: String::new(),
    }
}

fn headers(list: Vec<Header>) -> Result<Headers, Lost> {
    let mut headers = Headers::new();
    for Header { name, value } in list {
        let added = headers.append_past_limits(name, value);
        added.map_err(|error| Lost::Protocol(format!("a header: {error}")))?;
    }
    Ok(headers)
}

fn failed(error: Error) -> Failure {
    let new = Failure::new(failure::kind(&error.kind), error.text);
    let outcome = match Outcome::try_from(error.outcome) {
        Ok(Outcome::NotSent) => contract::Outcome::NotSent,
        Ok(Outcome::Unknown) => contract::Outcome::Unknown,
        Ok(Outcome::Done) => contract::Outcome::Done,
        Ok(Outcome::Unspecified) | Err(_) => new.outcome,
    };
    let is_failed = new.kind == Kind::Failed;
    let (code, body) = error.failed.map_or((None, Bytes::new()), |failed| (Some(failed.code), failed.body));
    Failure {
        outcome,
        retry_after: error.retry_after_ms.map(|millis| Duration::from_millis(millis.into())),
        backend_code: code.filter(|_| is_failed),
        body,
        ..new
    }
}
