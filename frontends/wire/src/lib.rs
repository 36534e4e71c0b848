//! What two doors share: messages with correlation ids, in a binary and a JSON form, and the guard against
//! web pages of other sites.
//!
//! | module | holds |
//! |---|---|
//! | [`message`] | the messages themselves, whatever their form |
//! | [`conversation`] | what a connection of such messages does, whatever carries it |
//! | [`streams`] | its open streams |
//! | [`inflight`] | its requests in flight: a bounded set polled inside one task |
//! | [`site`] | which names and which web pages are answered over HTTP |

pub mod conversation;
pub mod inflight;
pub mod message;
pub mod site;
pub mod streams;

pub use conversation::Conversation;
pub use inflight::{InFlight, Started};
pub use message::{Id, Inbound, Outbound, Question};
