//! What several doors share: messages with correlation ids, in a binary and a JSON form, and the guard against
//! web pages of other sites.
//!
//! | module | holds |
//! |---|---|
//! | [`message`] | the messages themselves, whatever their form |
//! | [`binary`] | version 2 of the IPC protocol: from the body of a frame to a message, and back to a frame |
//! | [`json`] | the JSON envelope, and JSON as bytes: where a document ends, and whether it is one |
//! | [`frame`] | where a frame ends, for versions 1 and 2 of the IPC protocol |
//! | [`sink`] | where encoders write |
//! | [`conversation`] | what a connection of such messages does, whatever carries it |
//! | [`socket`] | the file of a Unix socket |
//! | [`departure`] | a socket that tells when its peer leaves, also while nobody reads |
//! | [`attendant`] | a connection that is cut then |
//! | [`watched`] | the transport under a connection: its bytes counted, its times kept |
//! | [`streams`] | its open streams |
//! | [`inflight`] | its requests in flight: a bounded set polled inside one task |
//! | [`listener`] | where connections come from, over TCP and Unix sockets |
//! | [`entrance`] | the loop that accepts, and who is let in |
//! | [`caps`] | how many connections there may be, in all and from one address |
//! | [`charged`] | bytes on their way out, counted until they are gone |
//! | [`names`] | which headers pass between HTTP and messages |
//! | [`site`] | which names and which web pages are answered over HTTP |

pub mod attendant;
pub mod binary;
pub mod caps;
pub mod charged;
pub mod conversation;
pub mod departure;
pub mod entrance;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod inflight;
pub mod json;
pub mod listener;
pub mod message;
pub mod names;
mod parts;
pub mod sink;
pub mod site;
pub mod socket;
pub mod streams;
pub mod watched;

pub use conversation::Conversation;
pub use inflight::{InFlight, Started};
pub use message::{Id, Inbound, Outbound, Question, Refusal};
pub use sink::Sink;

#[cfg(test)]
mod tests;
