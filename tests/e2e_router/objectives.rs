//! The objectives of service: how long decisions take at a rate, and how many of them come.
//!
//! Measured in an open loop, as the benchmark does: requests leave on a schedule whatever comes back, and a time is
//! counted from when the request was due. Only a release build on a machine with time to spare says anything, so
//! this is done for the page alone.

use std::time::Duration;

use ipc_gateway::bench::{self, Load, Plan, ROWS, Target};
use serde_json::Value;

use crate::ground::Ground;
use crate::outside::DECIDE;
use crate::peer::Answer;
use crate::ways::WAYS;

/// Decisions a second, by each way in turn.
const RATE: f64 = 500.0;
/// How long each way is measured.
const DURATION: Duration = Duration::from_secs(20);
/// Connections that share the rate.
const CONNECTIONS: usize = 8;
/// Bytes of a task.
const PAYLOAD_BYTES: usize = 256;

/// What must be kept: the figure, its limit in milliseconds, and its heading.
pub(crate) const LIMITS_MS: [(&str, f64, &str); 3] =
    [("p50_ms", 10.0, "p50"), ("p99_ms", 50.0, "p99"), ("p99.9_ms", 100.0, "p99.9")];
/// Most requests of a thousand that may fail.
pub(crate) const FAILED_OF_1000_MAX: f64 = 1.0;

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    /// What the machine is.
    pub(crate) machine: Value,
    /// A line a way, in their order.
    pub(crate) lines: Vec<Line>,
}

/// What was measured by one way.
#[derive(Debug)]
pub(crate) struct Line {
    /// The way.
    pub(crate) way: &'static str,
    /// Decisions.
    pub(crate) decisions: u64,
    /// What came of the other requests is no decision.
    pub(crate) failed: u64,
    /// The quantiles of [`LIMITS_MS`].
    pub(crate) quantiles_ms: [f64; 3],
}

impl Line {
    /// Decisions of a hundred requests.
    pub(crate) fn success_percent(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "some ten thousand requests")]
        let (decisions, failed) = (self.decisions as f64, self.failed as f64);
        100.0 * decisions / (decisions + failed)
    }

    /// Whether every objective is kept.
    pub(crate) fn is_kept(&self) -> bool {
        let in_time =
            self.quantiles_ms.iter().zip(LIMITS_MS).all(|(measured, (_, limit, _))| *measured < limit);
        in_time && self.success_percent() > 100.0 - FAILED_OF_1000_MAX / 10.0
    }
}

/// How it was measured, in a line.
pub(crate) fn how() -> String {
    format!(
        "Open loop: {RATE} requests a second over {CONNECTIONS} connections for {} s by each way in turn, tasks of \
         {PAYLOAD_BYTES} bytes, times counted from when a request was due.",
        DURATION.as_secs()
    )
}

/// Measures all ways, each with a gateway of its own.
pub(crate) fn measure() -> Measured {
    let mut machine = Value::Null;
    let lines = WAYS.iter().map(|way| {
        let ground = Ground::open(way, &[]);
        // An answer of another length is none: the router's no has one.
        let Answer::Decision { bytes, .. } = ground.peer().ask(&serde_json::json!({"task_id": "bench"}))
        else {
            panic!("a decision was expected");
        };
        let row = way.row;
        let plan = Plan {
            rows: ROWS.into_iter().filter(|known| known.name == row).collect(),
            loads: vec![Load::Open { rate: RATE }],
            connections: CONNECTIONS,
            payload_bytes: PAYLOAD_BYTES,
            duration: DURATION,
            warmup: Duration::from_secs(2),
            runs: 1,
        };
        let target = Target {
            reach: ground.reach(),
            nats: None,
            subject: DECIDE.to_owned(),
            gateway_pid: None,
            nats_pid: None,
            nats_web_socket: None,
            answer_bytes: Some(bytes),
        };
        let report = ground.block_on(bench::run(&plan, &target, |_| ())).unwrap().to_json();
        ground.close();
        machine = report["machine"].clone();
        let found = &report["rows"][0];
        Line {
            way: way.name,
            decisions: found["requests"].as_u64().unwrap(),
            failed: found["errors"].as_u64().unwrap(),
            quantiles_ms: LIMITS_MS.map(|(name, ..)| found["figures"][name]["median"].as_f64().unwrap()),
        }
    });
    let lines = lines.collect();
    Measured { machine, lines }
}
