//! What is counted of answers of many messages: how many are open, and how each ended.

use std::sync::Arc;

use contract::{Counter, Gauge};

use super::End;
use crate::metrics::Reading;

/// The words for an end, in the order of the counters.
const ENDS: [&str; 9] = [
    "complete",
    "failed",
    "messages_max",
    "bytes_max",
    "gap_timeout",
    "timeout",
    "slow_consumer",
    "lost",
    "cancelled",
];

impl End {
    /// The word for it in metrics.
    pub(super) fn name(&self) -> &'static str {
        ENDS[match self {
            Self::Complete => 0,
            Self::Failed(_) => 1,
            Self::Messages => 2,
            Self::Bytes => 3,
            Self::Gap => 4,
            Self::Total => 5,
            Self::Slow => 6,
            Self::Lost => 7,
            Self::Cancelled => 8,
        }]
    }
}

/// Counts of one backend.
#[derive(Debug, Default)]
pub(crate) struct ReplyMeters {
    open: Gauge,
    ended: [Counter; ENDS.len()],
}

/// An answer that is open, counted until [`Open::end`].
#[derive(Debug)]
pub(super) struct Open(Arc<ReplyMeters>);

impl ReplyMeters {
    /// One more is open.
    pub(super) fn open(self: &Arc<Self>) -> Open {
        self.open.add(1);
        Open(Arc::clone(self))
    }

    /// The readings, the same whichever backend has them.
    pub(crate) fn readings(&self) -> Vec<Reading> {
        // Exact up to 2^53.
        #[expect(clippy::cast_precision_loss, reason = "a metric's value is a double by its format")]
        let open = Reading {
            name: "ipc_gateway_streamed_replies",
            help: "Answers of many messages that are open now.",
            counter: false,
            labels: Vec::new(),
            value: self.open.get() as f64,
        };
        #[expect(clippy::cast_precision_loss, reason = "a metric's value is a double by its format")]
        let ended = ENDS.iter().zip(&self.ended).map(|(end, counter)| Reading {
            name: "ipc_gateway_streamed_replies_ended_total",
            help: "Answers of many messages that ended, by how.",
            counter: true,
            labels: vec![("end", (*end).to_owned())],
            value: counter.get() as f64,
        });
        std::iter::once(open).chain(ended).collect()
    }
}

impl Open {
    /// It ended, in this word.
    pub(super) fn end(self, end: &str) {
        self.0.open.add(-1);
        if let Some(place) = ENDS.iter().position(|known| *known == end) {
            self.0.ended[place].increment();
        }
    }
}
