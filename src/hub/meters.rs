//! What the hub counts.

use contract::{Counter, Gauge, QueuePolicy};

use super::ring::Put;
use crate::backend::Reading;

/// The counts of one hub.
#[derive(Debug, Default)]
pub(super) struct Meters {
    /// Listeners now.
    pub(super) listeners: Gauge,
    /// Subscriptions opened at the backend.
    pub(super) opened: Counter,
    /// What the queues of all listeners cost in bytes, each as if it were alone. For a moment it may lag behind.
    pub(super) unread_bytes: Gauge,
    /// Times that queues were cut because memory was short.
    pub(super) relieved: Counter,
    /// Messages put into listeners' queues.
    deliveries: Counter,
    /// Messages lost for slow listeners, by policy.
    lost: [Counter; QueuePolicy::ALL.len()],
    /// Messages that took the place of an older one of their subject.
    conflated: Counter,
    /// Messages kept from listeners that may not read their subject.
    skipped: Counter,
}

/// What became of one message, for all its listeners together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    deliveries: u64,
    lost: [u64; QueuePolicy::ALL.len()],
    conflated: u64,
    pub(super) skipped: u64,
    grown: i64,
}

impl Tally {
    /// Adds what one listener made of it.
    pub(super) fn add(&mut self, policy: QueuePolicy, put: Put, grown: i64) {
        self.grown += grown;
        self.deliveries += u64::from(put.kept);
        self.conflated += u64::from(put.conflated);
        self.lost[policy as usize] += put.lost;
    }
}

impl Meters {
    /// Counts one message.
    pub(super) fn count(&self, tally: &Tally) {
        self.unread_bytes.add(tally.grown);
        self.deliveries.add(tally.deliveries);
        self.conflated.add(tally.conflated);
        self.skipped.add(tally.skipped);
        for (counter, lost) in self.lost.iter().zip(tally.lost) {
            counter.add(lost);
        }
    }

    /// What to show, with the patterns subscribed now, their limit, and the most that a listener has unread.
    pub(super) fn readings(&self, patterns: usize, patterns_max: usize, unread_most: usize) -> Vec<Reading> {
        let listeners = self.listeners.get();
        let gauges = [
            ("ipc_gateway_hub_patterns", "Patterns subscribed at the backend now", number(patterns)),
            ("ipc_gateway_hub_patterns_max", "Patterns that may be subscribed at once", number(patterns_max)),
            ("ipc_gateway_hub_listeners", "Listeners that share these subscriptions now", number(listeners)),
            (
                "ipc_gateway_hub_unread_messages",
                "Unread messages of the listener that has most of them now",
                number(unread_most),
            ),
            (
                "ipc_gateway_hub_unread_bytes",
                "What the unread messages of all listeners cost, each listener for itself",
                number(self.unread_bytes.get().max(0)),
            ),
        ];
        let counters = [
            ("ipc_gateway_hub_opened_total", "Subscriptions opened at the backend", &self.opened),
            (
                "ipc_gateway_hub_deliveries_total",
                "Messages put into the queues of listeners, once a listener",
                &self.deliveries,
            ),
            (
                "ipc_gateway_hub_conflated_total",
                "Messages that took the place of an unread one of their subject",
                &self.conflated,
            ),
            (
                "ipc_gateway_hub_relieved_total",
                "Times that the queues of listeners were cut because memory was short",
                &self.relieved,
            ),
            (
                "ipc_gateway_hub_skipped_total",
                "Messages kept from listeners that may not read their subject",
                &self.skipped,
            ),
        ];
        let lost = QueuePolicy::ALL.into_iter().zip(&self.lost).map(|(policy, lost)| Reading {
            name: "ipc_gateway_hub_lost_total",
            help: "Messages lost for listeners that did not read them in time, by the policy of their queue",
            counter: true,
            labels: vec![("policy", policy.name().to_owned())],
            value: number(lost.get()),
        });
        let plain = |(name, help, value), counter| Reading { name, help, counter, labels: Vec::new(), value };
        let gauges = gauges.map(|gauge| plain(gauge, false));
        let counters = counters.map(|(name, help, counter)| plain((name, help, number(counter.get())), true));
        gauges.into_iter().chain(counters).chain(lost).collect()
    }
}

/// Exact up to 2^53.
fn number<N>(count: N) -> f64
where
    N: TryInto<i64>,
{
    #[expect(clippy::cast_precision_loss, reason = "a metric's value is a double by its format")]
    let number = count.try_into().unwrap_or(i64::MAX) as f64;
    number
}
