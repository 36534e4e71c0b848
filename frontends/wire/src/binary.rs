//! Version 2 of the IPC protocol: messages with ids in frames (`docs/protocols/ipc-v2.md` has the byte
//! tables).
//!
//! The fixed part of a message has the same layout whatever its type, so that even a message that cannot be
//! understood can be answered by its id. What is optional is a field with a tag and a length; a reader skips
//! the tags that it does not know, which is the room to grow. The payload comes last and is never looked at.

pub mod client;
mod decode;
mod encode;
mod fields;

pub use decode::decode;
pub use encode::encode;
pub use fields::id_of;

/// The version, as byte 4 of a frame.
pub const VERSION: u8 = 2;

/// Bytes of the fixed part behind the frame's header: flags, a reserved zero, the id (8), the length of the
/// fields (2).
pub const FIXED_BYTES: usize = 12;

/// Types of what a client says, and of what the gateway says.
pub mod kind {
    /// Introduces a client; answered by a welcome.
    pub const HELLO: u8 = 0x20;
    /// Publishes.
    pub const PUBLISH: u8 = 0x21;
    /// Asks.
    pub const REQUEST: u8 = 0x22;
    /// Subscribes.
    pub const SUBSCRIBE: u8 = 0x23;
    /// Ends a subscription.
    pub const UNSUBSCRIBE: u8 = 0x24;
    /// Takes a question back.
    pub const CANCEL: u8 = 0x25;
    /// Answered by a pong.
    pub const PING: u8 = 0x26;

    /// The answer to a hello; its payload is JSON.
    pub const WELCOME: u8 = 0x30;
    /// A publish was handed on, or a subscription is in force.
    pub const ACCEPTED: u8 = 0x31;
    /// The answer to a request.
    pub const REPLY: u8 = 0x32;
    /// A question failed.
    pub const ERROR: u8 = 0x33;
    /// A message of a subscription.
    pub const DELIVERY: u8 = 0x34;
    /// Messages of a subscription were lost.
    pub const GAP: u8 = 0x35;
    /// A subscription, or a reply in many parts, is complete.
    pub const END: u8 = 0x36;
    /// The answer to a ping.
    pub const PONG: u8 = 0x37;
    /// The connection is about to be closed.
    pub const GO_AWAY: u8 = 0x38;
}

/// Flags; the other bits must be zero.
pub mod flag {
    /// Doing it twice is the same as doing it once. Publish and request only.
    pub const IDEMPOTENT: u8 = 1;
    /// The id counts; without this flag it must be zero.
    pub const ID: u8 = 2;
    /// Further replies follow for this id. Only the gateway says so.
    pub const MORE: u8 = 4;
}

/// Tags of fields. Texts are UTF-8, numbers big-endian.
pub mod tag {
    /// The subject, or the pattern of a subscription.
    pub const SUBJECT: u8 = 0x01;
    /// A header: a byte with the length of the name, the name, the value. The only one that may repeat.
    pub const HEADER: u8 = 0x02;
    /// How long the peer wants to wait, in milliseconds: 4 bytes.
    pub const TIMEOUT_MS: u8 = 0x03;
    /// W3C Trace Context.
    pub const TRACEPARENT: u8 = 0x04;
    /// W3C Trace Context.
    pub const TRACESTATE: u8 = 0x05;
    /// An opaque position in a durable stream.
    pub const POSITION: u8 = 0x06;
    /// Of a subscription: what happens when its queue is full, a later one than its route names.
    pub const QUEUE_POLICY: u8 = 0x07;
    /// Of a subscription: unread messages at once, fewer than its route says: 4 bytes.
    pub const QUEUE_MESSAGES_MAX: u8 = 0x08;
    /// Of a subscription: bytes of unread messages at once, fewer than its route says: 4 bytes.
    pub const QUEUE_BYTES_MAX: u8 = 0x09;

    /// The kind of an error.
    pub const KIND: u8 = 0x10;
    /// What became of the question.
    pub const OUTCOME: u8 = 0x11;
    /// When trying again may help, in milliseconds: 4 bytes.
    pub const RETRY_AFTER_MS: u8 = 0x12;
    /// What a person may read.
    pub const TEXT: u8 = 0x13;
    /// The backend's own code.
    pub const BACKEND_CODE: u8 = 0x14;

    /// How many messages were lost: 8 bytes.
    pub const LOST: u8 = 0x20;
}
