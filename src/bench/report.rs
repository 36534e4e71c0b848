//! What a benchmark found: as JSON with everything, and as a table with what matters beside its ratio to plain
//! NATS.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::figures::{Figures, Summary};
use super::plan::{Load, Plan, Target};
use super::rows::Row;

/// The row that others are compared with.
const YARDSTICK: &str = "direct";

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    plan: Plan,
    subject: String,
    machine: Value,
    figures: Vec<Figures>,
}

impl Report {
    pub(super) fn new(plan: &Plan, target: &Target, machine: Value, figures: Vec<Figures>) -> Self {
        Self { plan: plan.clone(), subject: target.subject.clone(), machine, figures }
    }

    /// Adds a fact about the machine or its programs.
    pub fn add_fact(&mut self, name: &str, value: Value) {
        self.machine[name] = value;
    }

    /// The median of a figure of a row under a load, over all runs.
    pub fn median(&self, row: &str, load: Load, name: &str) -> Option<f64> {
        Some(self.summary(row, load, name)?.median)
    }

    /// Whether nothing failed, in any row of any run.
    pub fn is_clean(&self) -> bool {
        self.figures.iter().all(|figures| figures.errors.is_empty() && figures.requests > 0)
    }

    /// A figure of a row under a load, over all runs.
    fn summary(&self, row: &str, load: Load, name: &str) -> Option<Summary> {
        let of_row = self.figures.iter().filter(|figures| figures.row.name == row && figures.load == load);
        Summary::of(of_row.filter_map(|figures| figures.values.get(name).copied()).collect())
    }

    /// A median beside the yardstick's; `None` without one.
    fn ratio(&self, row: &str, load: Load, name: &str) -> Option<f64> {
        let (own, yardstick) = (self.summary(row, load, name)?, self.summary(YARDSTICK, load, name)?);
        (yardstick.median > 0.0).then(|| own.median / yardstick.median)
    }

    /// How much a median is over the yardstick's.
    fn added(&self, row: &str, load: Load, name: &str) -> Option<f64> {
        Some(self.summary(row, load, name)?.median - self.summary(YARDSTICK, load, name)?.median)
    }

    fn errors(&self, row: &str, load: Load) -> u64 {
        let of_row = self.figures.iter().filter(|figures| figures.row.name == row && figures.load == load);
        of_row.flat_map(|figures| figures.errors.values()).sum()
    }

    /// Everything, for programs and for keeping.
    pub fn to_json(&self) -> Value {
        let plan = &self.plan;
        let loads = plan.loads.iter().map(|load| match load {
            Load::Closed { in_flight } => json!({"loop": "closed", "in_flight": in_flight}),
            Load::Open { rate } => json!({"loop": "open", "requests_per_second": rate}),
        });
        json!({
            "machine": self.machine,
            "plan": {
                "rows": plan.rows.iter().map(|row| row.name).collect::<Vec<_>>(),
                "loads": loads.collect::<Vec<_>>(),
                "connections": plan.connections,
                "payload_bytes": plan.payload_bytes,
                "duration_seconds": plan.duration.as_secs_f64(),
                "warmup_seconds": plan.warmup.as_secs_f64(),
                "runs": plan.runs,
                "subject": self.subject,
            },
            "rows": self.rows_json(),
            "runs": self.figures.iter().map(Figures::to_json).collect::<Vec<_>>(),
        })
    }

    fn rows_json(&self) -> Vec<Value> {
        let mut rows = Vec::new();
        for load in &self.plan.loads {
            for row in &self.plan.rows {
                let mut figures = serde_json::Map::new();
                let names = self.figures.iter().flat_map(|figures| figures.values.keys());
                for name in names.collect::<std::collections::BTreeSet<_>>() {
                    let Some(summary) = self.summary(row.name, *load, name) else { continue };
                    let mut figure = summary.to_json();
                    figure["ratio_to_direct"] = json!(self.ratio(row.name, *load, name));
                    figures.insert((*name).to_owned(), figure);
                }
                let of_row =
                    self.figures.iter().filter(|found| found.row.name == row.name && found.load == *load);
                rows.push(json!({
                    "row": row.name,
                    "about": row.about,
                    "loop": load.name(),
                    "requests": of_row.map(|found| found.requests).sum::<u64>(),
                    "errors": self.errors(row.name, *load),
                    "figures": figures,
                }));
            }
        }
        rows
    }

    /// The tables, for people: a table a load, in Markdown.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for load in &self.plan.loads {
            self.table(*load, &mut text).expect("a string takes everything");
        }
        text
    }

    fn table(&self, load: Load, text: &mut String) -> std::fmt::Result {
        let plan = &self.plan;
        let what = match load {
            Load::Closed { in_flight } => format!("Closed loop, {in_flight} in flight"),
            Load::Open { rate } => format!("Open loop, {rate} requests/s"),
        };
        let runs = if plan.runs == 1 {
            "1 run".to_owned()
        } else {
            format!("median of {} runs (lowest–highest)", plan.runs)
        };
        writeln!(
            text,
            "{what}, {} connections, {} bytes, {:.1} s a row, {runs}:\n",
            plan.connections,
            plan.payload_bytes,
            plan.duration.as_secs_f64(),
        )?;
        let mut lines = vec![
            match load {
                Load::Closed { .. } => {
                    vec![
                        "row",
                        "requests/s",
                        "× direct",
                        "p50 ms",
                        "p99 ms",
                        "p99.9 ms",
                        "max ms",
                        "CPU µs/request",
                        "× direct",
                        "errors",
                    ]
                }
                Load::Open { .. } => {
                    vec![
                        "row",
                        "p50 ms",
                        "+ direct",
                        "p90 ms",
                        "p99 ms",
                        "+ direct",
                        "p99.9 ms",
                        "max ms",
                        "CPU µs/request",
                        "errors",
                    ]
                }
            }
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>(),
        ];
        lines.extend(plan.rows.iter().map(|row| self.line(row, load)));
        write_table(&lines, text)?;
        writeln!(text)
    }

    fn line(&self, row: &Row, load: Load) -> Vec<String> {
        let name = row.name;
        let many = self.plan.runs > 1;
        let shown = |figure: &str, digits: usize| {
            self.summary(name, load, figure).map_or("-".to_owned(), |Summary { median, lowest, highest }| {
                if many {
                    format!("{median:.digits$} ({lowest:.digits$}–{highest:.digits$})")
                } else {
                    format!("{median:.digits$}")
                }
            })
        };
        let median = |figure: &str| {
            self.summary(name, load, figure)
                .map_or("-".to_owned(), |summary| format!("{:.3}", summary.median))
        };
        let ratio = |figure: &str| {
            self.ratio(name, load, figure).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
        };
        let added = |figure: &str| {
            self.added(name, load, figure).map_or("-".to_owned(), |added| format!("{added:+.3}"))
        };
        let errors = self.errors(name, load).to_string();
        match load {
            Load::Closed { .. } => vec![
                name.to_owned(),
                shown("requests_per_second", 0),
                ratio("requests_per_second"),
                median("p50_ms"),
                median("p99_ms"),
                median("p99.9_ms"),
                median("max_ms"),
                shown("cpu_us_per_request", 1),
                ratio("cpu_us_per_request"),
                errors,
            ],
            Load::Open { .. } => vec![
                name.to_owned(),
                shown("p50_ms", 3),
                added("p50_ms"),
                median("p90_ms"),
                shown("p99_ms", 3),
                added("p99_ms"),
                median("p99.9_ms"),
                median("max_ms"),
                shown("cpu_us_per_request", 1),
                errors,
            ],
        }
    }
}

/// Columns of equal width, names to the left and numbers to the right.
fn write_table(lines: &[Vec<String>], text: &mut String) -> std::fmt::Result {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    for (number, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            if column == 0 { write!(text, "| {cell:<width$} |")? } else { write!(text, " {cell:>width$} |")? }
        }
        writeln!(text)?;
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                if column == 0 {
                    write!(text, "|{:-<1$}|", "", width + 2)?;
                } else {
                    write!(text, "{:-<1$}:|", "", width + 1)?;
                }
            }
            writeln!(text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::bench::{Counts, ROWS};
    use crate::client::Reach;

    #[test]
    fn a_row_is_told_beside_the_yardstick() {
        let loads = vec![Load::Closed { in_flight: 64 }, Load::Open { rate: 1000.0 }];
        let plan = Plan {
            rows: ROWS[..2].to_vec(),
            loads: loads.clone(),
            connections: 16,
            payload_bytes: 1024,
            duration: Duration::from_secs(1),
            warmup: Duration::ZERO,
            runs: 2,
        };
        let target = Target {
            reach: Reach { socket: PathBuf::new(), http: String::new(), grpc: ([127, 0, 0, 1], 0).into() },
            nats_pid: None,
            nats_web_socket: None,
            nats: None,
            subject: "s".to_owned(),
            gateway_pid: None,
            answer_bytes: None,
        };
        let mut figures = Vec::new();
        for load in loads {
            for (row, ok) in [(ROWS[0], 1000), (ROWS[1], 900), (ROWS[0], 1000), (ROWS[1], 700)] {
                let mut counts = Counts::new();
                counts.ok = ok;
                counts.latencies.record_n(ok * 1000, ok).unwrap();
                let cpu = Some(Duration::from_millis(10));
                figures.push(Figures::new(row, load, plan.duration, &counts, cpu, ok));
            }
        }
        let report = Report::new(&plan, &target, json!({}), figures);
        assert!(report.is_clean());
        let text = report.to_text();
        let line = text.lines().find(|line| line.starts_with("| unix-v2")).unwrap();
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        assert_eq!(cells[2..4], ["800 (700–900)", "0.80"]);
        let line = text.lines().rfind(|line| line.starts_with("| unix-v2")).unwrap();
        assert_eq!(line.split('|').map(str::trim).nth(3), Some("-0.200"));
        assert!(text.lines().filter(|line| line.starts_with('|')).count() == 8, "{text}");

        let rows = report.to_json()["rows"].as_array().unwrap().clone();
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[1]["figures"]["requests_per_second"]["ratio_to_direct"], 0.8);
        assert_eq!(rows[1]["requests"], 1600);
    }
}
