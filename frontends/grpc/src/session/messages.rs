//! Between the messages of a session and the words of a conversation.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use contract::{Error, Headers, Kind, TraceContext};
use prost::Message as _;
use wire::{Id, Inbound, Outbound, Question};

use crate::calls::{pattern, subject};
use crate::events::gap;
use crate::proto::session_request::What;
use crate::proto::{
    SessionAccepted, SessionEnd, SessionGoaway, SessionPong, SessionQuestion, SessionReply, SessionRequest,
    SessionSubscription,
};
use crate::service::{queue_wish, reply_too_large};
use crate::shared::{self, SessionResponse, Told};
use crate::{asking, status};

/// What a client says. An error comes with the id to answer.
pub(super) fn inbound(message: SessionRequest) -> Result<Inbound, (Option<Id>, Error)> {
    // 0 is what a field is that nobody set.
    let id = (message.id > 0).then_some(Id::Number(message.id));
    parse(id.clone(), message.what).map_err(|error| (id, error))
}

fn parse(id: Option<Id>, what: Option<What>) -> Result<Inbound, Error> {
    let needed = || id.clone().ok_or_else(|| Error::new(Kind::Malformed, "an id above 0 is needed"));
    Ok(match what {
        Some(What::Request(asked)) => {
            let (name, question) = question(asked)?;
            Inbound::Request { id: needed()?, subject: subject(name)?, question }
        }
        Some(What::Publish(asked)) => {
            let (name, question) = question(asked)?;
            Inbound::Publish { id, subject: subject(name)?, question }
        }
        Some(What::Subscribe(SessionSubscription { pattern: name, queue, position })) => {
            let queue = queue.map(queue_wish).transpose()?;
            let position = Some(position).filter(|position| !position.is_empty());
            let question = Question { queue, position, ..Question::default() };
            Inbound::Subscribe { id: needed()?, pattern: pattern(name)?, question }
        }
        Some(What::Unsubscribe(_)) => Inbound::Unsubscribe { id: needed()? },
        Some(What::Cancel(_)) => Inbound::Cancel { id: needed()? },
        Some(What::Ping(_)) => Inbound::Ping { id, payload: Bytes::new() },
        None => return Err(Error::new(Kind::Malformed, "the message says nothing that is known here")),
    })
}

fn question(asked: SessionQuestion) -> Result<(String, Question), Error> {
    let SessionQuestion { subject, headers: own, payload, idempotent, timeout_ms, traceparent, tracestate } =
        asked;
    if timeout_ms == Some(0) {
        return Err(Error::new(Kind::Invalid, "timeout_ms is at least 1; leave it out for the default"));
    }
    let mut headers = Headers::new();
    asking::add(&mut headers, own)?;
    let state = Some(ByteString::from(tracestate)).filter(|state| !state.is_empty());
    // A trace that cannot be read is no reason to refuse: a new one is started (W3C Trace Context, 3.2.2).
    let trace = TraceContext::parse(&traceparent, state.as_ref()).ok();
    let timeout = timeout_ms.map(|millis| Duration::from_millis(millis.into()));
    Ok((subject, Question { headers, payload, timeout, idempotent, trace, ..Question::default() }))
}

/// What a client is told, in a message of at most `bytes_max` bytes: a reply that is larger becomes an error
/// `too_large` with the outcome `done`, a delivery becomes a gap of one, and a failure loses the responder's body.
pub(super) fn told(told: &Outbound<'_>, bytes_max: usize) -> SessionResponse {
    let (id, what) = match told {
        Outbound::Accepted { id } => (Some(*id), Told::Accepted(SessionAccepted {})),
        Outbound::Reply { id, message, more } => {
            let headers = shared::headers(&message.headers);
            let payload = message.payload.clone();
            (Some(*id), Told::Reply(SessionReply { headers, payload, more: *more }))
        }
        Outbound::Error { id, error } => (*id, Told::Error(status::message(error))),
        Outbound::Delivery { id, delivery } => (Some(*id), Told::Delivery(shared::delivery(delivery))),
        Outbound::Gap { id, lost } => (Some(*id), Told::Gap(gap(*lost))),
        Outbound::End { id } => (Some(*id), Told::End(SessionEnd {})),
        Outbound::Pong { id, .. } => (*id, Told::Pong(SessionPong {})),
        Outbound::GoAway { retry_after } => {
            let retry_after_ms = status::milliseconds(*retry_after);
            (None, Told::Goaway(SessionGoaway { retry_after_ms }))
        }
        Outbound::Welcome { .. } => unreachable!("a session has no hello"),
    };
    let id = match id {
        Some(Id::Number(number)) => *number,
        Some(Id::Text(_)) => unreachable!("a session hears numbers only, and makes up no ids"),
        None => 0,
    };
    let mut response = SessionResponse { id, what: Some(what) };
    if response.encoded_len() > bytes_max {
        response.what = response.what.map(smaller);
    }
    response
}

fn smaller(told: Told) -> Told {
    match told {
        Told::Reply(_) => Told::Error(status::message(&reply_too_large())),
        Told::Delivery(_) => Told::Gap(gap(Some(NonZeroU64::MIN))),
        Told::Error(mut error) => {
            if let Some(failed) = &mut error.failed {
                failed.body = Bytes::new();
            }
            Told::Error(error)
        }
        small => small,
    }
}
