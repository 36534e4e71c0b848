//! Many WebSockets at once: what an idle one costs, and what it costs to tell all of them the same.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::fan_out::{FanOut, Server};
use super::figures::Summary;
use super::idle::Idle;
use super::scene::Scene;
use crate::processes::{Tools, machine};

/// What is measured, how much of it and how often.
#[derive(Clone, Debug)]
pub struct CrowdPlan {
    /// Idle WebSockets; `None` leaves that out.
    pub idle: Option<usize>,
    /// Subscribers of one subject; `None` leaves that out.
    pub subscribers: Option<usize>,
    /// How long fan-out is measured, for each server.
    pub duration: Duration,
    /// How long it goes on before that.
    pub warmup: Duration,
    /// How often all of it is measured, each time with processes of its own.
    pub runs: usize,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Crowds {
    machine: Value,
    idle: Vec<Idle>,
    fan_out: Vec<FanOut>,
}

impl Crowds {
    /// Measures all of it. Tells what was begun. Fails with a line for a person; dropping it ends everything.
    pub async fn measure(
        plan: &CrowdPlan,
        tools: &Tools,
        subject: &str,
        mut tell: impl FnMut(&str),
    ) -> Result<Self, String> {
        let mut found = Self { machine: machine::facts(), idle: Vec::new(), fan_out: Vec::new() };
        for run in 1..=plan.runs {
            if let Some(connections) = plan.idle {
                tell(&format!("run {run}/{}: {connections} idle WebSockets", plan.runs));
                let scene = Scene::start(tools, subject).await?;
                found.idle.push(Idle::measure(&scene.target(None, subject), connections).await?);
            }
            let Some(subscribers) = plan.subscribers else { continue };
            let scene = Scene::start(tools, subject).await?;
            let target = scene.target(None, subject);
            for (server, name) in [(Server::Gateway, "the gateway"), (Server::Nats, "nats-server")] {
                tell(&format!("run {run}/{}: {subscribers} subscribers of {name}", plan.runs));
                let times = (plan.warmup, plan.duration);
                found.fan_out.push(FanOut::measure(&target, server, subscribers, times).await?);
            }
        }
        Ok(found)
    }

    /// Adds a fact about the machine or its programs.
    pub fn add_fact(&mut self, name: &str, value: Value) {
        self.machine[name] = value;
    }

    /// A figure of one server over all runs.
    fn summary(&self, server: Server, figure: fn(&FanOut) -> f64) -> Option<Summary> {
        let of_server = self.fan_out.iter().filter(|found| found.server == server);
        Summary::of(of_server.map(figure).collect())
    }

    /// How many times what nats-server delivers the gateway delivers, by the medians of a figure.
    fn ratio(&self, figure: fn(&FanOut) -> f64) -> Option<f64> {
        let (own, other) = (self.summary(Server::Gateway, figure)?, self.summary(Server::Nats, figure)?);
        Some(own.median / other.median)
    }

    /// Everything, for programs and for keeping.
    pub fn to_json(&self) -> Value {
        json!({
            "machine": self.machine,
            "idle": self.idle.iter().map(|idle| idle.to_json()).collect::<Vec<_>>(),
            "fan_out": {
                "runs": self.fan_out.iter().map(|found| found.to_json()).collect::<Vec<_>>(),
                "ratio_per_cpu_second": self.ratio(FanOut::per_cpu_second),
                "ratio_per_cpu_second_of_all": self.ratio(FanOut::per_cpu_second_of_all),
            },
        })
    }

    /// Lines for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let each = Summary::of(self.idle.iter().map(Idle::bytes_each).collect());
        if let (Some(idle), Some(each)) = (self.idle.last(), each) {
            writeln!(
                text,
                "{} idle WebSockets: {:.1} KiB each (resident memory of the gateway, {:.1} MiB before, {:.1} MiB after)",
                idle.connections,
                each.median / 1024.0,
                mebibytes(idle.bytes_before),
                mebibytes(idle.bytes_after),
            )
            .expect("a string takes everything");
        }
        if let Some(one) = self.fan_out.first() {
            writeln!(
                text,
                "\nFan-out to {} WebSockets, medians of {} runs:\n",
                one.subscribers,
                self.fan_out.len() / 2
            )
            .expect("a string takes everything");
            text.push_str("| server | deliveries/CPU-second | with NATS behind it | deliveries/s |\n|---|---:|---:|---:|\n");
            for (server, name) in [(Server::Gateway, "ipc-gateway"), (Server::Nats, "nats-server")] {
                let median = |figure| self.summary(server, figure).map_or(0.0, |summary| summary.median);
                writeln!(
                    text,
                    "| {name} | {:.0} | {:.0} | {:.0} |",
                    median(FanOut::per_cpu_second),
                    median(FanOut::per_cpu_second_of_all),
                    median(FanOut::per_second),
                )
                .expect("a string takes everything");
            }
            let ratio = |figure| self.ratio(figure).unwrap_or(f64::NAN);
            writeln!(
                text,
                "| ratio | {:.2} | {:.2} | {:.2} |",
                ratio(FanOut::per_cpu_second),
                ratio(FanOut::per_cpu_second_of_all),
                ratio(FanOut::per_second),
            )
            .expect("a string takes everything");
        }
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes of memory are far below 2^52")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(server: Server, deliveries: u64) -> FanOut {
        let second = Duration::from_secs(1);
        FanOut { server, subscribers: 10, deliveries, took: 2 * second, cpu: second, cpu_nats: second }
    }

    #[test]
    fn medians_are_compared() {
        let crowds = Crowds {
            machine: json!({}),
            idle: vec![Idle { connections: 10, bytes_before: 1024, bytes_after: 1024 + 10 * 2048 }],
            fan_out: vec![
                found(Server::Gateway, 300),
                found(Server::Nats, 100),
                found(Server::Gateway, 500),
                found(Server::Nats, 100),
            ],
        };
        let json = crowds.to_json();
        assert_eq!(json["fan_out"]["ratio_per_cpu_second"], 4.0);
        assert_eq!(json["fan_out"]["ratio_per_cpu_second_of_all"], 2.0);
        assert_eq!(json["idle"][0]["bytes_each"], 2048.0);
        let text = crowds.to_text();
        assert!(text.contains("2.0 KiB each") && text.contains("| ratio | 4.00 | 2.00 | 4.00 |"), "{text}");
    }
}
