//! What is measured, how long and how often.

use std::time::Duration;

use bytes::Bytes;

use super::rows::Row;
use crate::client::Reach;

const PAYLOAD_START: &str = r#"{"task_id":"bench","pad":""#;
const PAYLOAD_END: &str = r#""}"#;
/// Bytes of the smallest payload: a task without padding.
pub const PAYLOAD_BYTES_MIN: usize = PAYLOAD_START.len() + PAYLOAD_END.len();

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The rows, in the order of the table.
    pub rows: Vec<&'static Row>,
    /// The loads, each for all rows.
    pub loads: Vec<Load>,
    /// Connections of each row, at least 1.
    pub connections: usize,
    /// Bytes of each request's payload, at least [`PAYLOAD_BYTES_MIN`].
    pub payload_bytes: usize,
    /// How long a row is measured.
    pub duration: Duration,
    /// How long a row is under load before that.
    pub warmup: Duration,
    /// How often all of it is measured.
    pub runs: usize,
}

/// A way to put a row under load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// So many requests in flight at any time, over all connections: the most that goes through.
    Closed {
        /// Requests in flight, at least 1.
        in_flight: usize,
    },
    /// Requests on a fixed schedule: latency.
    Open {
        /// Requests a second.
        rate: f64,
    },
}

/// Where it is measured.
#[derive(Clone, Debug)]
pub struct Target {
    /// The gateway's doors.
    pub reach: Reach,
    /// The NATS servers, with commas between, for the row beside the gateway.
    pub nats: Option<String>,
    /// The subject to ask, where a door knows subjects.
    pub subject: String,
    /// The gateway's process, if it is on this machine.
    pub gateway_pid: Option<u32>,
    /// nats-server's process, if it was started for this.
    pub nats_pid: Option<u32>,
    /// Host and port of nats-server's own WebSocket listener, if it has one.
    pub nats_web_socket: Option<String>,
    /// Bytes that every answer has, if the responder is known to echo.
    pub answer_bytes: Option<usize>,
}

impl Plan {
    /// A task of the right size: JSON, so that every door takes it.
    pub(super) fn payload(&self) -> Bytes {
        let pad = "x".repeat(self.payload_bytes.saturating_sub(PAYLOAD_BYTES_MIN));
        format!("{PAYLOAD_START}{pad}{PAYLOAD_END}").into()
    }
}

impl Load {
    /// How much of a closed loop each connection carries; connections without a share are not made. In an
    /// open loop all connections take turns, and the numbers mean nothing.
    pub(super) fn shares(&self, connections: usize) -> Vec<usize> {
        match *self {
            Self::Open { .. } => vec![1; connections],
            Self::Closed { in_flight } => {
                let connections = connections.min(in_flight);
                let (each, rest) = (in_flight / connections, in_flight % connections);
                (0..connections).map(|index| each + usize::from(index < rest)).collect()
            }
        }
    }

    /// Its name: `closed` or `open`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_flight_is_shared_out_exactly() {
        assert_eq!(Load::Closed { in_flight: 10 }.shares(4), [3, 3, 2, 2]);
        assert_eq!(Load::Closed { in_flight: 2 }.shares(16), [1, 1]);
    }

    #[test]
    fn the_payload_is_json_of_the_size_asked_for() {
        for payload_bytes in [PAYLOAD_BYTES_MIN, 1024] {
            let plan = Plan {
                rows: Vec::new(),
                loads: Vec::new(),
                connections: 1,
                payload_bytes,
                duration: Duration::ZERO,
                warmup: Duration::ZERO,
                runs: 1,
            };
            let payload = plan.payload();
            assert_eq!(payload.len(), payload_bytes);
            assert!(serde_json::from_slice::<serde_json::Value>(&payload).is_ok());
        }
    }
}
