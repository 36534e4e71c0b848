//! The queue between a subscription and its reader: what bounds it, and what happens when the reader is slow.
//!
//! A route names both; a peer may narrow them with its subscription ([`QueueWish`]), and never widen them: it
//! is the gateway's memory.

/// What happens when a reader is slower than its messages. In order of how little is kept for it: a peer may
/// choose a later one than its route names, never an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueuePolicy {
    /// The oldest message goes; a gap tells how many went, before the next delivery.
    DropOldest,
    /// A newer message takes the place of the queued one of the same subject, which is not told: whoever asks
    /// for the latest value misses nothing by it. When that is not enough the oldest goes, with a gap.
    LatestBySubject,
    /// The stream ends with `slow_consumer`, which tells how many messages were lost.
    Disconnect,
}

impl QueuePolicy {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::DropOldest, Self::LatestBySubject, Self::Disconnect];

    /// The word for it in configuration, messages and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropOldest => "drop_oldest",
            Self::LatestBySubject => "latest_by_subject",
            Self::Disconnect => "disconnect",
        }
    }

    /// The policy of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// The bounds of one reader's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    /// What happens when it is full.
    pub policy: QueuePolicy,
    /// Unread messages at once; at least 1, and 0 counts as 1.
    pub messages_max: usize,
    /// Bytes of unread messages at once ([`crate::Delivery::bytes`]). One message is kept whatever its size.
    pub bytes_max: usize,
}

/// What a peer asks of its queue. What it leaves out is as its route says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueWish {
    /// What happens when it is full; counts only if it is a later one than the route's.
    pub policy: Option<QueuePolicy>,
    /// Unread messages at once; counts only if it is fewer. 0 counts as 1.
    pub messages_max: Option<usize>,
    /// Bytes of unread messages at once; counts only if it is fewer.
    pub bytes_max: Option<usize>,
}

impl QueueBounds {
    /// These bounds, narrowed by a peer's wish.
    #[must_use]
    pub fn narrowed(self, wish: &QueueWish) -> Self {
        let smaller = |own: usize, wish: Option<usize>| wish.map_or(own, |wish| wish.min(own));
        Self {
            policy: wish.policy.map_or(self.policy, |policy| policy.max(self.policy)),
            messages_max: smaller(self.messages_max, wish.messages_max).max(1),
            bytes_max: smaller(self.bytes_max, wish.bytes_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_narrows_and_never_widens() {
        let bounds = QueueBounds { policy: QueuePolicy::LatestBySubject, messages_max: 10, bytes_max: 100 };
        let wish =
            |policy, messages_max, bytes_max| bounds.narrowed(&QueueWish { policy, messages_max, bytes_max });
        assert_eq!(bounds.narrowed(&QueueWish::default()), bounds);
        let narrow = wish(Some(QueuePolicy::Disconnect), Some(0), Some(0));
        assert_eq!(narrow, QueueBounds { policy: QueuePolicy::Disconnect, messages_max: 1, bytes_max: 0 });
        assert_eq!(wish(Some(QueuePolicy::DropOldest), Some(11), Some(usize::MAX)), bounds);
    }

    #[test]
    fn names_are_parsed_back() {
        for policy in QueuePolicy::ALL {
            assert_eq!(QueuePolicy::parse(policy.name()), Some(policy));
        }
        assert_eq!(QueuePolicy::parse("block"), None);
    }
}
