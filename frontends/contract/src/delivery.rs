//! The delivery: one message of a stream, shared between all who get it, and encoded once a wire format.
//!
//! Its listeners differ in one thing only: the id or the name by which each knows its stream. So what a
//! format caches here is the *body*, everything that does not depend on the listener; the door puts the part
//! with the id before it (or after it) and writes both without copying the body.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::{ByteBudget, Charge, Headers, Subject};

/// One message of a stream, shared between all who get it.
#[derive(Debug)]
pub struct Delivery {
    /// The concrete subject it was published to.
    pub subject: Subject,
    /// Headers of the publisher.
    pub headers: Headers,
    /// The payload.
    pub payload: Bytes,
    /// An opaque position in a durable stream, for resuming behind it; absent where there is none.
    pub position: Option<Bytes>,
    /// What was encoded of it, by format.
    bodies: [OnceLock<Body>; Format::ALL.len()],
    /// What it costs the byte budget, for as long as anybody has it.
    charge: OnceLock<Charge>,
}

/// What a message costs that is allocated piece by piece: the counts beside a payload that is shared, and what the
/// allocator rounds up of each.
pub const SHARED_BYTES: usize = 128;

/// An encoded body, and what it costs.
#[derive(Debug)]
struct Body {
    bytes: Bytes,
    _charge: Option<Charge>,
}

/// A wire format that deliveries leave in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Format {
    /// Version 1 of the IPC protocol.
    Ipc1,
    /// Version 2 of the IPC protocol, on a Unix socket or in a binary WebSocket message.
    Ipc2,
    /// The JSON envelope.
    Json,
    /// Server-sent events.
    Sse,
    /// A gRPC message.
    Grpc,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ipc1, Self::Ipc2, Self::Json, Self::Sse, Self::Grpc];
}

impl Delivery {
    /// A delivery without a position.
    pub fn new(subject: Subject, headers: Headers, payload: Bytes) -> Self {
        let bodies = [const { OnceLock::new() }; Format::ALL.len()];
        Self { subject, headers, payload, position: None, bodies, charge: OnceLock::new() }
    }

    /// The same with another payload, charged where this one is.
    pub fn with_payload(&self, payload: Bytes) -> Self {
        let other = Self { payload, ..self.clone() };
        if let Some(charge) = self.charge.get() {
            other.charge.get_or_init(|| charge.another(other.cost()));
        }
        other
    }

    /// Charges it to `budget` until the last who has it lets go, with every body that is encoded from now on. It
    /// has arrived already, so it is counted even past the limit. Who comes second changes nothing.
    pub fn charge_to(&self, budget: &ByteBudget) {
        self.charge.get_or_init(|| budget.charge_always(self.cost()));
    }

    /// What it costs in memory, encoded bodies apart: also a message of no bytes does.
    pub fn cost(&self) -> usize {
        size_of::<Self>() + self.headers.list_bytes() + SHARED_BYTES + self.bytes()
    }

    /// Its body in `format`: what `encode` makes of it, called by whoever asks first and by nobody again.
    ///
    /// The bytes must not depend on who listens: no id, no name of a stream. They also must not be asked for
    /// before the delivery has its final fields, since what is cached stays.
    pub fn encoded(&self, format: Format, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        let body = self.bodies[format as usize].get_or_init(|| {
            let bytes = encode(self);
            let charge = self.charge.get().map(|charge| charge.another(bytes.len()));
            Body { bytes, _charge: charge }
        });
        body.bytes.clone()
    }

    /// Bytes of subject, headers and payload: what a queue counts for it.
    pub fn bytes(&self) -> usize {
        self.subject.as_str().len() + self.headers.bytes() + self.payload.len()
    }
}

/// A clone may be changed, so it begins with nothing encoded and nothing charged.
impl Clone for Delivery {
    fn clone(&self) -> Self {
        let position = self.position.clone();
        Self { position, ..Self::new(self.subject.clone(), self.headers.clone(), self.payload.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> Delivery {
        Delivery::new(Subject::from_static("a.b"), Headers::new(), Bytes::from_static(b"xyz"))
    }

    #[test]
    fn formats_are_in_the_order_of_their_places() {
        for (place, format) in Format::ALL.into_iter().enumerate() {
            assert_eq!(format as usize, place);
        }
    }

    #[test]
    fn a_body_is_encoded_once_a_format_and_shared() {
        let delivery = delivery();
        let encode = |delivery: &Delivery| Bytes::from([b"<", &delivery.payload[..], b">"].concat());
        let first = delivery.encoded(Format::Json, encode);
        let again = delivery.encoded(Format::Json, |_| panic!("it is encoded already"));
        assert_eq!((&first[..], first.as_ptr()), (&b"<xyz>"[..], again.as_ptr()));
        assert_eq!(delivery.encoded(Format::Ipc2, |_| Bytes::from_static(b"other")), "other");
    }

    #[test]
    fn threads_that_ask_at_once_share_one_body() {
        let (delivery, start) = (delivery(), std::sync::Barrier::new(4));
        let bodies: Vec<_> = std::thread::scope(|scope| {
            let ask = || {
                start.wait();
                delivery.encoded(Format::Sse, |delivery| Bytes::copy_from_slice(&delivery.payload))
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(bodies.iter().all(|body| body.as_ptr() == bodies[0].as_ptr()));
    }

    #[test]
    fn it_is_charged_once_with_its_bodies_until_the_last_lets_go() {
        let (delivery, budget) = (std::sync::Arc::new(delivery()), ByteBudget::new(1));
        delivery.charge_to(&budget);
        delivery.charge_to(&ByteBudget::new(1));
        let cost = delivery.cost();
        assert_eq!((budget.used(), cost), (cost, size_of::<Delivery>() + SHARED_BYTES + 6));
        for _ in 0..2 {
            delivery.encoded(Format::Json, |_| Bytes::from_static(b"0123456789"));
            assert_eq!(budget.used(), cost + 10);
        }
        let other = std::sync::Arc::clone(&delivery);
        drop(delivery);
        assert_eq!(budget.used(), cost + 10);
        drop(other);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn one_with_another_payload_is_charged_for_itself() {
        let (delivery, budget) = (delivery(), ByteBudget::new(1));
        delivery.charge_to(&budget);
        let cost = delivery.cost();
        let other = delivery.with_payload(Bytes::from_static(b"longer"));
        assert_eq!((&other.payload[..], budget.used()), (&b"longer"[..], cost + other.cost()));
        drop(delivery);
        assert_eq!(budget.used(), other.cost());
        drop(other);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_clone_is_encoded_anew() {
        let delivery = delivery();
        delivery.encoded(Format::Grpc, |_| Bytes::from_static(b"old"));
        let mut changed = delivery.clone();
        changed.payload = Bytes::from_static(b"changed");
        let body = changed.encoded(Format::Grpc, |delivery| delivery.payload.clone());
        assert_eq!((body, changed.bytes()), (Bytes::from_static(b"changed"), 10));
    }
}
