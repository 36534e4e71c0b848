//! The yardstick: plain NATS without a gateway, the same load with the same headers from a client of the same
//! library to the same server and responder.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use contract::{Headers, Kind, Subject};
use futures_util::Stream;
use futures_util::stream::FuturesUnordered;

use super::{Row, Serving, by_subject};
use crate::backend::nats::direct::Direct;
use crate::bench::plan::Target;
use crate::client::{Failure, Heard, Line, Lost, Say, What};

pub(super) const ROW: Row = Row {
    name: "direct",
    about: "plain NATS without a gateway",
    serving: Serving::Own,
    open: |target| Box::pin(open(target)),
    say: by_subject,
};

async fn open(target: &Target) -> Result<Box<dyn Line>, String> {
    let servers = target.nats.as_deref().ok_or("it needs the address of NATS: --nats-url URL")?;
    let subject = Subject::parse(target.subject.as_str()).map_err(|error| error.to_string())?;
    let client = Direct::connect(servers, subject).await?;
    Ok(Box::new(DirectLine { client, in_flight: FuturesUnordered::new() }))
}

type Answer = Pin<Box<dyn Future<Output = (u64, Result<Bytes, Kind>)> + Send>>;

/// A client of NATS in the shape of a line.
struct DirectLine {
    client: Direct,
    in_flight: FuturesUnordered<Answer>,
}

impl Line for DirectLine {
    fn say(&mut self, id: u64, say: &Say) -> Result<(), Failure> {
        let Say::Request(call) = say else {
            return Err(Failure::new(Kind::Unsupported, "the yardstick knows requests only"));
        };
        let answer = self.client.request(call.payload.clone());
        self.in_flight.push(Box::pin(async move { (id, answer.await) }));
        Ok(())
    }

    fn poll_heard(&mut self, context: &mut Context<'_>) -> Poll<Result<Heard, Lost>> {
        let Some((id, answer)) = ready!(Pin::new(&mut self.in_flight).poll_next(context)) else {
            // Nothing was asked; whoever asks polls again.
            return Poll::Pending;
        };
        let what = match answer {
            Ok(payload) => What::Reply { headers: Headers::new(), payload, more: false },
            Err(kind) => What::Failed(Failure::new(kind, "")),
        };
        Poll::Ready(Ok(Heard { id: Some(id), what }))
    }
}

impl fmt::Debug for DirectLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DirectLine").field("in_flight", &self.in_flight.len()).finish_non_exhaustive()
    }
}
