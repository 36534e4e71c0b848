//! The two messages that carry deliveries, written by hand so that a delivery is encoded once and shared.
//!
//! Where `gateway.proto` says `Delivery delivery`, a field of bytes stands here: an embedded message and a string
//! of bytes are the same on the wire (Protocol Buffers, Encoding, "Submessages"). The bytes are those of a
//! [`proto::Delivery`], made by whoever needs them first. A test compares the fields with the descriptors.

use std::sync::Arc;

use bytes::Bytes;
use contract::{Delivery, Format, Headers};
use prost::Message;

use crate::proto;

/// `gateway.v1.SubscribeResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct SubscribeResponse {
    /// One of them.
    #[prost(oneof = "Event", tags = "1, 2")]
    pub event: Option<Event>,
}

/// What a subscription yields.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Event {
    /// A `gateway.v1.Delivery`, encoded.
    #[prost(bytes = "bytes", tag = "1")]
    Delivery(Bytes),
    /// Messages were lost here.
    #[prost(message, tag = "2")]
    Gap(proto::Gap),
}

/// `gateway.v1.SessionResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct SessionResponse {
    /// The id of what it is about; 0 with goaway.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// One of them.
    #[prost(oneof = "Told", tags = "2, 3, 4, 5, 6, 7, 8, 9")]
    pub what: Option<Told>,
}

/// What a client is told in a session.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Told {
    /// The answer to a request, or a part of it.
    #[prost(message, tag = "2")]
    Reply(proto::SessionReply),
    /// A publish was handed on, or a subscription is in force.
    #[prost(message, tag = "3")]
    Accepted(proto::SessionAccepted),
    /// A `gateway.v1.Delivery`, encoded.
    #[prost(bytes = "bytes", tag = "4")]
    Delivery(Bytes),
    /// Messages were lost here.
    #[prost(message, tag = "5")]
    Gap(proto::Gap),
    /// A subscription, or a reply in parts, is complete.
    #[prost(message, tag = "6")]
    End(proto::SessionEnd),
    /// It failed.
    #[prost(message, tag = "7")]
    Error(proto::Error),
    /// The answer to a ping.
    #[prost(message, tag = "8")]
    Pong(proto::SessionPong),
    /// The gateway stops.
    #[prost(message, tag = "9")]
    Goaway(proto::SessionGoaway),
}

/// The delivery as a `gateway.v1.Delivery`, the same bytes for all who get it.
pub(crate) fn delivery(delivery: &Arc<Delivery>) -> Bytes {
    delivery.encoded(Format::Grpc, |delivery| {
        let message = proto::Delivery {
            subject: delivery.subject.as_str().to_owned(),
            headers: headers(&delivery.headers),
            payload: delivery.payload.clone(),
            position: delivery.position.clone().unwrap_or_default(),
        };
        message.encode_to_vec().into()
    })
}

/// Headers as messages have them.
pub(crate) fn headers(headers: &Headers) -> Vec<proto::Header> {
    let each = |(name, value): (&bytestring::ByteString, &bytestring::ByteString)| proto::Header {
        name: name.to_string(),
        value: value.to_string(),
    };
    headers.iter().map(each).collect()
}

#[cfg(test)]
mod tests {
    use contract::Subject;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// The fields of a message as the .proto files have them: number and name.
    fn fields(message: &str) -> Vec<(i32, String)> {
        let files = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap().file;
        let messages = files.into_iter().flat_map(|file| file.message_type);
        let found = messages.into_iter().find(|found| found.name() == message).unwrap();
        found.field.into_iter().map(|field| (field.number(), field.name().to_owned())).collect()
    }

    #[test]
    fn these_messages_have_the_fields_of_their_descriptors() {
        let names = |list: &[(i32, &str)]| -> Vec<_> {
            list.iter().map(|(number, name)| (*number, (*name).to_owned())).collect()
        };
        assert_eq!(fields("SubscribeResponse"), names(&[(1, "delivery"), (2, "gap")]));
        let told = [
            (1, "id"),
            (2, "reply"),
            (3, "accepted"),
            (4, "delivery"),
            (5, "gap"),
            (6, "end"),
            (7, "error"),
            (8, "pong"),
            (9, "goaway"),
        ];
        assert_eq!(fields("SessionResponse"), names(&told));
        // And their bytes begin with those numbers.
        let tag = |what| SessionResponse { id: 0, what: Some(what) }.encode_to_vec()[0] >> 3;
        assert_eq!(tag(Told::Reply(proto::SessionReply::default())), 2);
        assert_eq!(tag(Told::Accepted(proto::SessionAccepted {})), 3);
        assert_eq!(tag(Told::Delivery(Bytes::new())), 4);
        assert_eq!(tag(Told::Gap(proto::Gap::default())), 5);
        assert_eq!(tag(Told::End(proto::SessionEnd {})), 6);
        assert_eq!(tag(Told::Error(proto::Error::default())), 7);
        assert_eq!(tag(Told::Pong(proto::SessionPong {})), 8);
        assert_eq!(tag(Told::Goaway(proto::SessionGoaway::default())), 9);
    }

    #[test]
    fn a_delivery_is_encoded_once_for_all() {
        let mut headers = Headers::new();
        headers.append("X-A", "1").unwrap();
        let shared = Arc::new(Delivery::new(Subject::from_static("a.b"), headers, "payload".into()));
        let (one, other) = (delivery(&shared), delivery(&shared));
        assert_eq!(one.as_ptr(), other.as_ptr());
        let read = proto::Delivery::decode(one).unwrap();
        assert_eq!((&*read.subject, &read.payload[..], read.headers.len()), ("a.b", &b"payload"[..], 1));
    }
}
