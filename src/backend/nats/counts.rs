//! What the backend counts over its life, shared by every connection it ever had.

use contract::Counter;

use crate::backend::memory::Memory;

/// Counters, each of which only grows; and the budget for what is held meanwhile.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Where what is held now is charged.
    pub(super) memory: Memory,
    /// Requests handed to a connection.
    pub(super) requests: Counter,
    /// Publishes handed to a connection.
    pub(super) published: Counter,
    /// Messages given to subscriptions.
    pub(super) delivered: Counter,
    /// Connections made after the first of each pool member.
    pub(super) reconnects: Counter,
    /// Attempts to connect that failed.
    pub(super) connect_failures: Counter,
    /// Replies whose request had gone.
    pub(super) late_replies: Counter,
    /// Cancel messages handed to a connection.
    pub(super) cancels: Counter,
    /// Cancel messages that the connection did not take at once.
    pub(super) cancels_failed: Counter,
    /// Second and further replies to one request.
    pub(super) double_replies: Counter,
    /// Acknowledgements of streams that were not taken for the answer.
    pub(super) acknowledgements_skipped: Counter,
    /// Messages in an inbox that name no request.
    pub(super) foreign_replies: Counter,
    /// Requests refused because the inbox was full.
    pub(super) inbox_full: Counter,
    /// Requests refused because too many bytes waited to be written.
    pub(super) queue_full: Counter,
    /// Messages that a subscription's queue dropped because its reader was slow.
    pub(super) dropped_slow: Counter,
    /// Times the client library said that it dropped messages itself.
    pub(super) dropped_unseen: Counter,
    /// Messages kept from subscriptions because their subject is reserved or not a subject.
    pub(super) kept_back: Counter,
    /// Permission violations the server told of.
    pub(super) violations: Counter,
}
