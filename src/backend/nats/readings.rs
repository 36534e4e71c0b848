//! What the pool shows of itself: to `/ready`, and to the metrics.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::link::Link;
use super::member::{Member, State};
use super::pool::Pool;
use crate::backend::{Health, Reading};

impl Pool {
    /// How the pool is: reachable when at least one member is connected and may hear replies.
    pub(super) fn health(&self) -> Health {
        let members = self.members();
        let connected = members.iter().filter(|member| member.link().is_some()).count();
        let mut reasons = Vec::new();
        if self.stop.is_cancelled() {
            reasons.push("closing".to_owned());
        }
        if connected < members.len() {
            reasons.push(format!("{connected} of {} connections to NATS are up", members.len()));
        }
        for member in &members {
            let search = member.search();
            if let (None, Some(failure)) = (member.link(), search.failure) {
                let reason = format!("{}: {failure}", search.address.unwrap_or_default());
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
        let facts = json!({
            "connected": connected,
            "size": members.len(),
            "min": self.settings.pool_min,
            "max": self.settings.pool_max,
            "leaving": self.parting().len(),
            "members": members.iter().map(|member| member_facts(member)).collect::<Vec<_>>(),
        });
        Health { kind: "nats", reachable: self.is_reachable(), reasons, facts }
    }

    /// Every metric of the backend.
    pub(super) fn readings(&self) -> Vec<Reading> {
        let members = self.members();
        let parting = self.parting();
        let links: Vec<_> =
            members.iter().filter_map(|member| member.link()).chain(parting.iter().cloned()).collect();
        let mut readings = by_state(&members, parting.len());
        readings.extend(self.sizes(members.len()));
        readings.extend(self.uses(&links));
        readings.extend(members.iter().filter_map(|member| round_trip(member)));
        readings.extend(self.counters());
        readings.extend(self.replies.readings());
        readings
    }

    /// How large the pool is and may be.
    fn sizes(&self, size: usize) -> [Reading; 5] {
        let settings = &self.settings;
        [
            gauge("ipc_gateway_nats_pool_size", "Members of the pool.", size),
            gauge("ipc_gateway_nats_pool_size_max", "The most members the pool may have.", settings.pool_max),
            gauge(
                "ipc_gateway_nats_inbox_slots_max",
                "Requests that may wait for a reply on one connection.",
                settings.inbox_slots_max,
            ),
            gauge(
                "ipc_gateway_nats_queued_bytes_max",
                "Bytes that may wait to be written on one connection.",
                settings.publish_queue_bytes_max,
            ),
            gauge("ipc_gateway_nats_tasks", "Tasks of the backend.", self.tracker.len()),
        ]
    }

    /// What the connections hold now, together.
    fn uses(&self, links: &[Arc<Link>]) -> [Reading; 6] {
        let sum = |count: fn(&Link) -> usize| links.iter().map(|link| count(link)).sum::<usize>();
        [
            gauge(
                "ipc_gateway_nats_in_flight",
                "Messages being handed over or awaiting an answer.",
                sum(Link::in_flight),
            ),
            gauge(
                "ipc_gateway_nats_inbox_slots",
                "Requests that wait for a reply.",
                sum(|link| link.inbox.used()),
            ),
            gauge(
                "ipc_gateway_nats_queued_bytes",
                "Bytes of large messages that wait to be written.",
                sum(|link| link.queue.bytes()),
            ),
            gauge("ipc_gateway_nats_subscriptions", "Subscriptions in force.", sum(Link::subscriptions)),
            gauge(
                "ipc_gateway_nats_subscription_unread",
                "Messages that wait for slow readers.",
                sum(Link::unread),
            ),
            gauge(
                "ipc_gateway_nats_pins",
                "Clients whose ordered messages have a connection.",
                self.pins.count(),
            ),
        ]
    }

    fn counters(&self) -> impl Iterator<Item = Reading> {
        let counts = &self.counts;
        let counters = [
            ("ipc_gateway_nats_requests_total", "Requests handed to NATS.", &counts.requests),
            ("ipc_gateway_nats_published_total", "Publishes handed to NATS.", &counts.published),
            ("ipc_gateway_nats_delivered_total", "Messages taken for subscriptions.", &counts.delivered),
            (
                "ipc_gateway_nats_reconnects_total",
                "Connections after the first of each member.",
                &counts.reconnects,
            ),
            (
                "ipc_gateway_nats_connect_failures_total",
                "Attempts to connect that failed.",
                &counts.connect_failures,
            ),
            ("ipc_gateway_nats_late_replies_total", "Replies whose request had gone.", &counts.late_replies),
            ("ipc_gateway_nats_cancels_total", "Cancel messages handed to NATS.", &counts.cancels),
            (
                "ipc_gateway_nats_cancels_failed_total",
                "Cancel messages that no connection took at once.",
                &counts.cancels_failed,
            ),
            (
                "ipc_gateway_nats_double_replies_total",
                "Second replies to one request.",
                &counts.double_replies,
            ),
            (
                "ipc_gateway_nats_acknowledgements_skipped_total",
                "Acknowledgements of streams that were not taken for the answer.",
                &counts.acknowledgements_skipped,
            ),
            (
                "ipc_gateway_nats_foreign_replies_total",
                "Messages that name no request.",
                &counts.foreign_replies,
            ),
            ("ipc_gateway_nats_inbox_full_total", "Requests refused for want of a slot.", &counts.inbox_full),
            (
                "ipc_gateway_nats_queue_full_total",
                "Requests refused because too many bytes waited to be written.",
                &counts.queue_full,
            ),
            ("ipc_gateway_nats_slow_dropped_total", "Messages lost by slow readers.", &counts.dropped_slow),
            (
                "ipc_gateway_nats_unfetched_dropped_total",
                "Messages lost because the process did not fetch them in time.",
                &counts.dropped_unseen,
            ),
            (
                "ipc_gateway_nats_kept_back_total",
                "Messages on subjects that no peer may read.",
                &counts.kept_back,
            ),
            (
                "ipc_gateway_nats_violations_total",
                "Permission violations that NATS told of.",
                &counts.violations,
            ),
        ];
        counters.into_iter().map(|(name, help, count)| {
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and a metric is a float")]
            let value = count.get() as f64;
            Reading { name, help, counter: true, labels: Vec::new(), value }
        })
    }
}

/// Connections by state, with those that their members have left already.
fn by_state(members: &[Arc<Member>], parting: usize) -> Vec<Reading> {
    let reading = |state: State| {
        let left = if state == State::Retiring { parting } else { 0 };
        let count = members.iter().filter(|member| member.state() == state).count() + left;
        Reading {
            labels: vec![("state", state.name().to_owned())],
            ..gauge("ipc_gateway_nats_connections", "Connections of the pool, by state.", count)
        }
    };
    State::ALL.map(reading).into()
}

fn round_trip(member: &Member) -> Option<Reading> {
    let time = member.link()?.round_trip_time()?;
    Some(Reading {
        name: "ipc_gateway_nats_round_trip_seconds",
        help: "The last round trip to the server, by member of the pool.",
        counter: false,
        labels: vec![("member", member.id.to_string())],
        value: time.as_secs_f64(),
    })
}

fn gauge(name: &'static str, help: &'static str, value: usize) -> Reading {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and a metric is a float")]
    let value = value as f64;
    Reading { name, help, counter: false, labels: Vec::new(), value }
}

fn member_facts(member: &Member) -> Value {
    let mut facts = json!({
        "id": member.id,
        "state": member.state().name(),
        "reconnects": member.reconnects(),
    });
    if let Some(link) = member.link() {
        facts["server"] = json!(link.server.address);
        facts["name"] = json!(link.server.name);
        facts["version"] = json!(link.server.version);
        facts["in_flight"] = json!(link.in_flight());
        facts["subscriptions"] = json!(link.subscriptions());
        facts["payload_bytes_max"] = json!(link.payload_bytes_max());
        facts["round_trip_ms"] = json!(link.round_trip_time().map(milliseconds));
    } else {
        let search = member.search();
        facts["server"] = json!(search.address);
        facts["attempts"] = json!(search.attempts);
        facts["failure"] = json!(search.failure);
        let left = search.next_attempt.map(|due| due.saturating_duration_since(Instant::now()));
        facts["next_attempt_ms"] = json!(left.map(milliseconds));
    }
    facts
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
