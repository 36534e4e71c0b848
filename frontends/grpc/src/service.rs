//! The methods of `gateway.v1.Gateway`: decode, call, encode.

use std::pin::Pin;
use std::sync::Arc;

use contract::{Error, Kind, Message, Outcome, Pipeline, QueuePolicy, QueueWish, Reply, Target};
use futures_util::stream::{self, Stream};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use prost::Message as _;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::Door;
use crate::asking;
use crate::calls::{Head, Question, mismatched, pattern, subject};
use crate::events::{Events, Hall, over};
use crate::proto::gateway_server::Gateway;
use crate::proto::{
    PublishManyRequest, PublishManyResponse, PublishRequest, PublishResponse, RequestRequest,
    RequestResponse, RequestStreamRequest, RequestStreamResponse, SessionRequest, SubscribeRequest,
};
use crate::session;
use crate::shared::{self, SubscribeResponse};

/// The service. Cloning shares the door.
#[derive(Debug)]
pub(crate) struct Service<P>(pub(crate) Arc<Door<P>>);

impl<P> Clone for Service<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<P: Pipeline> Gateway for Service<P> {
    type RequestStreamStream = Answers<RequestStreamResponse>;
    type SubscribeStream = Answers<SubscribeResponse>;
    type SessionStream = session::Told;

    async fn request(&self, request: Request<RequestRequest>) -> Result<Response<RequestResponse>, Status> {
        let (door, head) = (&*self.0, Head::of(&request));
        let (metadata, _, message) = request.into_parts();
        let _charge = head.arrived.take(message.encoded_len());
        let answered = async {
            let RequestRequest { subject: name, headers, payload, idempotent } = message;
            let target = Target::Request(subject(name)?);
            let headers = asking::headers(&door.request_names, metadata.as_ref(), headers)?;
            let question = Question { target, headers, payload, idempotent, parts: false, queue: None };
            match door.call(&head, question).await? {
                Reply::Message(message) => door.reply(message),
                Reply::Accepted => Ok(Response::new(RequestResponse::default())),
                Reply::Stream(_) => {
                    let text = "the answer is a stream: ask with RequestStream or in a Session";
                    Err(Error::new(Kind::Unsupported, text).with_outcome(Outcome::Unknown))
                }
            }
        };
        answered.await.map_err(|error| door.status(&error, &head.trace))
    }

    async fn request_stream(
        &self,
        request: Request<RequestStreamRequest>,
    ) -> Result<Response<Self::RequestStreamStream>, Status> {
        let (door, head) = (&*self.0, Head::of(&request));
        let (metadata, _, message) = request.into_parts();
        let _charge = head.arrived.take(message.encoded_len());
        let answered = async {
            let RequestStreamRequest { subject: name, headers, payload, idempotent } = message;
            let target = Target::Request(subject(name)?);
            let headers = asking::headers(&door.request_names, metadata.as_ref(), headers)?;
            let question = Question { target, headers, payload, idempotent, parts: true, queue: None };
            Ok(match door.call(&head, question).await? {
                Reply::Message(message) => {
                    let (metadata, reply, _) = door.reply(message)?.into_parts();
                    let RequestResponse { headers, payload } = reply;
                    let part = RequestStreamResponse { headers, payload, gap: None };
                    let one: Self::RequestStreamStream = Box::pin(stream::iter([Ok(part)]));
                    Response::from_parts(metadata, one, tonic::Extensions::default())
                }
                Reply::Stream(deliveries) => {
                    let events = Events::new(deliveries, head.until(), &head.trace, &door.hall());
                    Response::new(Box::pin(events) as Self::RequestStreamStream)
                }
                Reply::Accepted => Response::new(Box::pin(stream::empty()) as Self::RequestStreamStream),
            })
        };
        answered.await.map_err(|error| door.status(&error, &head.trace))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let (door, head) = (&*self.0, Head::of(&request));
        let (metadata, _, message) = request.into_parts();
        let _charge = head.arrived.take(message.encoded_len());
        let answered = async {
            let PublishRequest { subject: name, headers, payload, idempotent } = message;
            let target = Target::Publish(subject(name)?);
            let headers = asking::headers(&door.request_names, metadata.as_ref(), headers)?;
            let question = Question { target, headers, payload, idempotent, parts: false, queue: None };
            door.call(&head, question).await
        };
        match answered.await {
            Ok(_) => Ok(Response::new(PublishResponse {})),
            Err(error) => Err(door.status(&error, &head.trace)),
        }
    }

    async fn publish_many(
        &self,
        request: Request<Streaming<PublishManyRequest>>,
    ) -> Result<Response<PublishManyResponse>, Status> {
        let (door, head) = (&*self.0, Head::of(&request));
        let mut messages = request.into_inner();
        let mut accepted = 0;
        loop {
            let message = match messages.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(Response::new(PublishManyResponse { accepted })),
                Err(status) => return Err(door.decoded(status, &head.trace)),
            };
            let _charge = head.arrived.take(message.encoded_len());
            let published = async {
                if head.until().is_some_and(|until| until <= tokio::time::Instant::now()) {
                    return Err(over().with_outcome(Outcome::NotSent));
                }
                let PublishManyRequest { subject: name, headers, payload, idempotent } = message;
                let target = Target::Publish(subject(name)?);
                let headers = asking::headers(&door.request_names, &HeaderMap::new(), headers)?;
                let question = Question { target, headers, payload, idempotent, parts: false, queue: None };
                door.call(&head, question).await
            };
            if let Err(error) = published.await {
                let so_far = [("accepted", accepted.to_string())];
                return Err(door.telling.status_with(&error, &head.trace, &so_far));
            }
            accepted += 1;
        }
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (door, head) = (&*self.0, Head::of(&request));
        let (metadata, _, message) = request.into_parts();
        let answered = async {
            let target = Target::Subscribe(pattern(message.pattern)?);
            let headers = asking::headers(&door.request_names, metadata.as_ref(), Vec::new())?;
            let queue = message.queue.map(queue_wish).transpose()?;
            let question = Question {
                target,
                headers,
                payload: bytes::Bytes::new(),
                idempotent: true,
                parts: false,
                queue,
            };
            match door.call(&head, question).await? {
                Reply::Stream(deliveries) => {
                    Ok(Events::new(deliveries, head.until(), &head.trace, &door.hall()))
                }
                Reply::Accepted | Reply::Message(_) => Err(mismatched()),
            }
        };
        match answered.await {
            Ok(events) => Ok(Response::new(Box::pin(events))),
            Err(error) => Err(door.status(&error, &head.trace)),
        }
    }

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let head = Head::of(&request);
        Ok(Response::new(session::open(Arc::clone(&self.0), head, request.into_inner())))
    }
}

/// What a client asks of its queue.
pub(crate) fn queue_wish(wish: crate::proto::QueueWish) -> Result<QueueWish, Error> {
    use crate::proto::QueuePolicy as Wished;
    let policy = match Wished::try_from(wish.policy) {
        Ok(Wished::Unspecified) => None,
        Ok(Wished::DropOldest) => Some(QueuePolicy::DropOldest),
        Ok(Wished::LatestBySubject) => Some(QueuePolicy::LatestBySubject),
        Ok(Wished::Disconnect) => Some(QueuePolicy::Disconnect),
        Err(_) => return Err(Error::new(Kind::Invalid, "this queue policy is not known here")),
    };
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(QueueWish { policy, messages_max: wish.messages_max.map(size), bytes_max: wish.bytes_max.map(size) })
}

impl<P: Pipeline> Door<P> {
    /// A responder's message: its payload untouched, its headers in the message, and as metadata as far as they
    /// are listed.
    fn reply(&self, message: Message) -> Result<Response<RequestResponse>, Error> {
        let mut metadata = HeaderMap::new();
        for (name, value) in message.headers.iter() {
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
            if !self.response_names.gives(name.as_str()) || asking::is_binary(name.as_str()) {
                continue;
            }
            // What HTTP cannot hold is in the message nevertheless.
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                metadata.append(name, value);
            }
        }
        let reply = RequestResponse { headers: shared::headers(&message.headers), payload: message.payload };
        if reply.encoded_len() > self.message_bytes_max {
            return Err(reply_too_large());
        }
        let metadata = MetadataMap::from_headers(metadata);
        Ok(Response::from_parts(metadata, reply, tonic::Extensions::default()))
    }

    pub(crate) fn hall(&self) -> Hall<'_> {
        Hall {
            drain: &self.gate.drain,
            meters: &self.gate.meters,
            telling: self.telling,
            message_bytes_max: self.message_bytes_max,
        }
    }
}

/// A reply that no message may be as large as.
pub(crate) fn reply_too_large() -> Error {
    let text = "the reply is larger than grpc.message_bytes_max";
    Error::new(Kind::TooLarge, text).with_outcome(Outcome::Done)
}
