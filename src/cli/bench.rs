//! `ipc-gateway bench`: a gateway measured beside plain NATS, by one command.

mod crowds;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use contract::Subject;
use serde_json::json;

use super::console::Console;
use super::keep::Keep;
use super::question::reachable;
use super::signals::Signals;
use super::tools::tools;
use super::{code, span};
use crate::backend::nats::direct;
use crate::bench::{
    self, Load, PAYLOAD_BYTES_MIN, Plan, Progress, ROWS, Report, Row, Scene, Serving, Target,
};
use crate::client::Reach;
use crate::config::Config;

/// What is measured without a word about it: the latency and the throughput that the documentation shows.
const RATE: f64 = 1000.0;
const IN_FLIGHT: usize = 64;

/// What was typed.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Start nats-server, a responder and a gateway for it, and end them afterwards. Without this, --socket
    /// and --nats-url say what to measure, and a service must answer on the subject.
    #[arg(long)]
    self_contained: bool,
    /// Measure many WebSockets instead of the rows, with commas between; needs --self-contained.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_enum, requires = "self_contained")]
    only: Vec<crowds::Crowd>,
    /// How many idle WebSockets there are, for --only idle.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    idle_connections: u32,
    /// How many WebSockets are told the same, for --only fanout.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    subscribers: u32,
    /// Rows to measure, with commas between [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = row)]
    doors: Vec<&'static Row>,
    /// Keep N requests in flight over all connections: throughput [default: 64 unless --rate is given].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_flight: Option<u32>,
    /// Send N requests a second on a fixed schedule, such as 1000/s: latency [default: 1000/s unless
    /// --in-flight is given].
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Connections of each row.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Bytes of each request's payload.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = payload_bytes)]
    payload_bytes: usize,
    /// How long each row is measured.
    #[arg(long, value_name = "TIME", value_parser = span::parse, default_value = "5s")]
    duration: Duration,
    /// How long each row is under load before it is measured.
    #[arg(long, value_name = "TIME", value_parser = span::parse, default_value = "1s")]
    warmup: Duration,
    /// How often all rows are measured, one after another; medians are shown with their spread.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// The subject to ask.
    #[arg(long, default_value = "bench.echo", value_parser = subject)]
    subject: String,
    /// The nats-server to start [default: $NATS_SERVER_BIN, the PATH, target/tools].
    #[arg(long, value_name = "FILE")]
    nats_server: Option<PathBuf>,
    /// Print everything as one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Keep everything, with facts about the machine, as a JSON file in this folder.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

fn row(text: &str) -> Result<&'static Row, String> {
    ROWS.into_iter().find(|row| row.name == text).ok_or_else(|| {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse::<f64>().ok();
    number.filter(|rate| (0.1..=1e6).contains(rate)).ok_or_else(|| "expected 0.1/s to 1000000/s".to_owned())
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().filter(|bytes| (PAYLOAD_BYTES_MIN..=1 << 20).contains(bytes));
    bytes.ok_or_else(|| format!("expected {PAYLOAD_BYTES_MIN} to 1048576 bytes"))
}

fn subject(text: &str) -> Result<String, String> {
    Subject::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

impl Arguments {
    fn plan(&self) -> Plan {
        let closed = self.in_flight.map(|in_flight| Load::Closed { in_flight: in_flight as usize });
        let open = self.rate.map(|rate| Load::Open { rate });
        let mut loads: Vec<_> = open.into_iter().chain(closed).collect();
        if loads.is_empty() {
            loads = vec![Load::Open { rate: RATE }, Load::Closed { in_flight: IN_FLIGHT }];
        }
        Plan {
            rows: if self.doors.is_empty() { ROWS.to_vec() } else { self.doors.clone() },
            loads,
            connections: self.connections as usize,
            payload_bytes: self.payload_bytes,
            duration: self.duration,
            warmup: self.warmup,
            runs: self.runs.into(),
        }
    }
}

/// Measures. Returns the exit code: 0 if every request of every row was answered well.
pub(super) fn bench(
    arguments: &Arguments,
    config: &Config,
    variables: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("bench").build()?;
    if !arguments.only.is_empty() {
        let measured = runtime.block_on(crowds::measure(arguments, variables, console));
        runtime.shutdown_background();
        return measured;
    }
    let measured = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        tokio::select! {
            // Dropping the measurement ends the load and every process that was started for it.
            _ = signals.next() => Ok(None),
            measured = measure(arguments, config, variables, console) => measured.map(Some),
        }
    });
    runtime.shutdown_background();
    match measured? {
        None => Ok(code::INTERRUPTED),
        Some(Err(problem)) => {
            console.complain(&problem)?;
            Ok(code::FAILED)
        }
        Some(Ok(report)) => tell(arguments, &report, console),
    }
}

async fn measure(
    arguments: &Arguments,
    config: &Config,
    variables: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> io::Result<Result<Report, String>> {
    let mut plan = arguments.plan();
    let (scene, version) = if arguments.self_contained {
        let (tools, version) = match tools(arguments.nats_server.as_deref(), variables) {
            Ok(found) => found,
            Err(problem) => return Ok(Err(problem)),
        };
        match Scene::start(&tools, &arguments.subject).await {
            Ok(scene) => (Some(scene), Some(version)),
            Err(problem) => return Ok(Err(problem)),
        }
    } else {
        (None, None)
    };
    let target = match &scene {
        Some(scene) => scene.target(Some(plan.payload_bytes), &arguments.subject),
        None => target(arguments, config).await,
    };
    if target.nats.is_none() && arguments.doors.is_empty() {
        console.note("without --nats-url there is nothing to compare with: the row direct is left out")?;
        plan.rows.retain(|row| row.serving == Serving::Gateway);
    }
    let mut progress = Shown { console, runs: plan.runs, failed: None };
    let report = bench::run(&plan, &target, |now| progress.show(now)).await;
    if let Some(error) = progress.failed {
        return Err(error);
    }
    Ok(report.map(|mut report| {
        report.add_fact("nats_server", json!(version));
        report
    }))
}

/// A gateway that runs already.
async fn target(arguments: &Arguments, config: &Config) -> Target {
    let servers: Vec<_> = config.nats.urls.iter().map(|url| url.expose().to_owned()).collect();
    let socket = config.ipc.path.clone();
    let peer = tokio::net::UnixStream::connect(&socket).await.and_then(|stream| stream.peer_cred());
    Target {
        reach: Reach { socket, http: reachable(config.http.address).to_string(), grpc: config.grpc.address },
        nats: (!servers.is_empty()).then(|| servers.join(",")),
        subject: arguments.subject.clone(),
        gateway_pid: peer.ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok()),
        nats_pid: None,
        nats_web_socket: None,
        answer_bytes: None,
    }
}

/// The progress on standard error: a line that changes on a terminal, a line a row elsewhere.
struct Shown<'a, 'c> {
    console: &'a mut Console<'c>,
    runs: usize,
    failed: Option<io::Error>,
}

impl Shown<'_, '_> {
    fn show(&mut self, now: Progress<'_>) {
        let Progress { run, row, load, per_second } = now;
        let at = format!("run {run}/{} {} {}", self.runs, load.name(), row.name);
        let complaints = &mut self.console.complaints;
        let shown = match (self.console.complaints_are_seen, per_second) {
            // Back to the start of the line, and clear it (ECMA-48: EL).
            (true, Some(per_second)) => write!(complaints, "\r\x1b[K{at}: {per_second:.0}/s"),
            (true, None) => write!(complaints, "\r\x1b[K"),
            (false, Some(_)) => Ok(()),
            (false, None) => writeln!(complaints, "{at}: done"),
        };
        if let Err(error) = shown.and_then(|()| self.console.complaints.flush()) {
            self.failed.get_or_insert(error);
        }
    }
}

fn tell(arguments: &Arguments, report: &Report, console: &mut Console<'_>) -> io::Result<u8> {
    let to = Keep { folder: arguments.save.as_deref(), json: arguments.json };
    if !to.show("bench", &report.to_json(), &report.to_text(), console)? {
        return Ok(code::FAILED);
    }
    if report.is_clean() {
        return Ok(code::OK);
    }
    console.complain(
        "not every request was answered well: see the errors of each row (--json has their kinds)",
    )?;
    Ok(code::FAILED)
}

/// What the responder's process is told.
#[derive(Args, Debug)]
pub(super) struct Responder {
    /// The NATS servers, with commas between.
    #[arg(long)]
    servers: String,
    /// What to answer on.
    #[arg(long, value_parser = subject)]
    subject: String,
}

/// Answers until standard input ends. Returns the exit code.
pub(super) fn respond(responder: &Responder, console: &mut Console<'_>) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let subject = Subject::parse(responder.subject.as_str()).expect("the command line's parser has looked");
    let ended = runtime.block_on(async {
        let input = tokio::task::spawn_blocking(|| io::stdin().lock().read_to_end(&mut Vec::new()));
        tokio::select! {
            ended = direct::echo(&responder.servers, &subject, || {}) => ended,
            _ = input => Ok(()),
        }
    });
    runtime.shutdown_background();
    match ended {
        Ok(()) => Ok(code::OK),
        Err(problem) => {
            console.complain(&problem)?;
            Ok(code::FAILED)
        }
    }
}
