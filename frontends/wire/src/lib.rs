//! What two doors share: messages with correlation ids, in a binary and a JSON form.
//!
//! | module | holds |
//! |---|---|
//! | [`message`] | the messages themselves, whatever their form |

pub mod message;

pub use message::{Id, Inbound, Outbound, Question};
