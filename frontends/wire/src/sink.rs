//! Where encoders write: small pieces are copied, payloads are shared.
//!
//! A trait, because the doors keep what waits to be written differently, and because an encoder that writes
//! through it needs no buffer of its own.

use bytes::{Bytes, BytesMut};

/// Takes the pieces of a message, in order.
pub trait Sink {
    /// Takes small bytes by copying them.
    fn copy(&mut self, bytes: &[u8]);

    /// Takes a payload, which may be large: kept as it is where that is cheaper than a copy.
    fn share(&mut self, payload: Bytes);
}

/// Everything in one piece.
impl Sink for BytesMut {
    fn copy(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn share(&mut self, payload: Bytes) {
        self.extend_from_slice(&payload);
    }
}

/// Counts bytes and keeps none, for an encoder that must know whether a message fits before it writes any.
#[derive(Debug, Default)]
pub(crate) struct Count(pub(crate) usize);

impl Sink for Count {
    fn copy(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn share(&mut self, payload: Bytes) {
        self.0 += payload.len();
    }
}
