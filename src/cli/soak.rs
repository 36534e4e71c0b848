//! `ipc-gateway soak`: does the gateway stay up, answer each request exactly once and leak nothing, while what
//! is behind it fails?

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use contract::Subject;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::console::Console;
use super::keep::Keep;
use super::signals::Signals;
use super::tools::tools;
use super::{code, span};
use crate::backend::nats::witness::{self, Deed};
use crate::limits;
use crate::soak::{self, FAULTS, Fault, Plan, Progress, Report};

/// A line of progress where it cannot change.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What was typed.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Start nats-server, a responder and a gateway, and end them afterwards. What fails has to be the soak's own,
    /// so there is no other way yet.
    #[arg(long, required = true)]
    self_contained: bool,
    /// How long there is load.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2h")]
    duration: Duration,
    /// Requests a second over all doors, such as 500/s [default: half of a maximum that is measured first].
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// The faults that take turns, with commas between; all, or none.
    #[arg(long, value_name = "NAMES", default_value = "all", value_parser = faults)]
    faults: Faults,
    /// The time from the start of one fault to that of the next; each is at work for a third of it, 5s at most.
    #[arg(long, value_name = "TIME", value_parser = fault_every, default_value = "60s")]
    fault_every: Duration,
    /// Connections over all doors, and at least one each.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// What everything left to chance comes from: the order of the faults, what is asked, who goes away when
    /// [default: another one each time].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The nats-server to start [default: $NATS_SERVER_BIN, the PATH, target/tools].
    #[arg(long, value_name = "FILE")]
    nats_server: Option<PathBuf>,
    /// Print everything as one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Keep everything, with every sample and facts about the machine, as a JSON file in this folder.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Clients by every door ask all the time, and some go away in the middle. The responder writes down what it sees
before it answers. In the end, and all the while, the two sides are held side by side:

  answers     each request has exactly one answer, its own, in time; answered means that the responder saw it,
              not_sent that it never did; what is not idempotent it saw once at most; a gap in a subscription
              was told
  faults      each fault showed, and every door answered again after it
  memory      the resident memory of the gateway does not grow after warm-up
  given back  descriptors, threads, slots and bytes are back where they were before the load
  processes   the gateway ran from start to end

Exit code 0 if all of it holds, 1 if not; each breach is told with its request, door, fault and time. Ctrl-C
ends it with the report so far (130), a second one at once.

  ipc-gateway soak --self-contained
  ipc-gateway soak --self-contained --duration 60s --fault-every 5s --rate 500/s
  ipc-gateway soak --self-contained --faults nats-killed,reload --seed 7 --save results";

/// The faults that were named.
#[derive(Clone, Debug)]
struct Faults(Vec<&'static Fault>);

fn faults(text: &str) -> Result<Faults, String> {
    match text {
        "all" => return Ok(Faults(FAULTS.to_vec())),
        "none" => return Ok(Faults(Vec::new())),
        _ => {}
    }
    let named = text.split(',').map(|name| {
        FAULTS.into_iter().find(|fault| fault.name == name.trim()).ok_or_else(|| {
            let known: Vec<_> =
                FAULTS.iter().map(|fault| format!("{} ({})", fault.name, fault.about)).collect();
            format!("expected all, none, or some of {}", known.join(", "))
        })
    });
    named.collect::<Result<_, _>>().map(Faults)
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse::<f64>().ok();
    number.filter(|rate| (1.0..=1e6).contains(rate)).ok_or_else(|| "expected 1/s to 1000000/s".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let span = span::parse(text)?;
    if span < Duration::from_secs(5) { Err("expected 5s or more".to_owned()) } else { Ok(span) }
}

fn fault_every(text: &str) -> Result<Duration, String> {
    let span = span::parse(text)?;
    if span < Duration::from_secs(2) { Err("expected 2s or more".to_owned()) } else { Ok(span) }
}

/// Does it. Returns the exit code: 0 if everything holds.
pub(super) fn soak(
    arguments: &Arguments,
    variables: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> io::Result<u8> {
    debug_assert!(arguments.self_contained, "the command line's parser wants it");
    if !arguments.faults.0.is_empty() && arguments.fault_every >= arguments.duration {
        console.complain(
            "no fault would come: the first one is due after --fault-every, and the load ends with --duration; give a \
             longer --duration, a shorter --fault-every, or --faults none",
        )?;
        return Ok(code::USAGE);
    }
    // Each connection is a descriptor here, too.
    if let Err(error) = limits::raise_descriptors() {
        console.complain(&format!("cannot raise the limit of open descriptors: {error}"))?;
    }
    let (tools, version) = match tools(arguments.nats_server.as_deref(), variables) {
        Ok(found) => found,
        Err(problem) => return failed(&problem, console),
    };
    let plan = Plan {
        duration: arguments.duration,
        rate: arguments.rate,
        connections: arguments.connections as usize,
        faults: arguments.faults.0.clone(),
        fault_every: arguments.fault_every,
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("soak").build()?;
    let stop = CancellationToken::new();
    let mut shown = Shown { console, last: None, failed: None };
    let soaked = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let signals = async {
            signals.next().await;
            stop.cancel();
            signals.next().await;
        };
        tokio::select! {
            soaked = soak::run(&plan, &tools, &stop, |now| shown.show(now)) => Ok::<_, io::Error>(Some(soaked)),
            // Dropping the soak ends the load and every process that was started for it.
            () = signals => Ok(None),
        }
    });
    let told = shown.failed.take();
    runtime.shutdown_background();
    if let Some(error) = told {
        return Err(error);
    }
    match soaked? {
        None => Ok(code::INTERRUPTED),
        Some(Err(_)) if stop.is_cancelled() => Ok(code::INTERRUPTED),
        Some(Err(problem)) => failed(&problem, console),
        Some(Ok(mut report)) => {
            report.add_fact("nats_server", json!(version));
            tell(arguments, &report, console)
        }
    }
}

fn failed(problem: &str, console: &mut Console<'_>) -> io::Result<u8> {
    console.complain(problem)?;
    Ok(code::FAILED)
}

fn tell(arguments: &Arguments, report: &Report, console: &mut Console<'_>) -> io::Result<u8> {
    let to = Keep { folder: arguments.save.as_deref(), json: arguments.json };
    if !to.show("soak", &report.to_json(), &report.to_text(), console)? {
        return Ok(code::FAILED);
    }
    if !report.holds() {
        console.complain("not everything holds: see the verdict")?;
        return Ok(code::FAILED);
    }
    Ok(if report.is_interrupted() { code::INTERRUPTED } else { code::OK })
}

/// The progress on standard error: a line that changes on a terminal, a line from time to time elsewhere.
struct Shown<'a, 'c> {
    console: &'a mut Console<'c>,
    last: Option<Duration>,
    failed: Option<io::Error>,
}

impl Shown<'_, '_> {
    fn show(&mut self, now: Progress) {
        // Back to the start of the line, and clear it (ECMA-48: EL).
        let clear = if self.console.complaints_are_seen { "\r\x1b[K" } else { "" };
        let complaints = &mut self.console.complaints;
        let shown = match now {
            Progress::Step(line) => writeln!(complaints, "{clear}{line}"),
            Progress::Found(finding) => writeln!(complaints, "{clear}breach: {finding}"),
            Progress::Now { elapsed, answered, failed, fault, resident_bytes, breaches } => {
                let is_due = self.last.is_none_or(|last| elapsed >= last + TELL_EVERY);
                let end = match (clear.is_empty(), is_due) {
                    (true, false) => return,
                    (true, true) => "\n",
                    (false, _) => "",
                };
                self.last = Some(elapsed);
                write!(
                    complaints,
                    "{clear}{:>5} s  {answered} answered, {failed} errors, {breaches} breaches, {} MiB, {}{end}",
                    elapsed.as_secs(),
                    resident_bytes >> 20,
                    fault.unwrap_or("quiet"),
                )
            }
        };
        if let Err(error) = shown.and_then(|()| self.console.complaints.flush()) {
            self.failed.get_or_insert(error);
        }
    }
}

/// What the responder's process is told.
#[derive(Args, Debug)]
pub(super) struct Responder {
    /// The NATS servers, with commas between.
    #[arg(long)]
    servers: String,
    /// What to answer on.
    #[arg(long)]
    subject: String,
}

/// Answers until standard input ends, and writes the number of each request before it does. Returns the exit code.
pub(super) fn respond(responder: &Responder, console: &mut Console<'_>) -> io::Result<u8> {
    let subject = match Subject::parse(responder.subject.as_str()) {
        Ok(subject) => subject,
        Err(error) => return failed(&error.to_string(), console),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let out = &mut console.out;
    let ended = runtime.block_on(async {
        let input = tokio::task::spawn_blocking(|| io::stdin().lock().read_to_end(&mut Vec::new()));
        let note = |payload: &[u8]| {
            let noted = soak::note(payload, out);
            noted
                .map(|(wait, is_no)| Deed { wait, is_no })
                .map_err(|error| format!("cannot write what was seen: {error}"))
        };
        let stop = async {
            // However it ends, there is nobody any more who wants an answer.
            let _ = input.await;
        };
        witness::serve(&responder.servers, &subject, note, stop).await
    });
    runtime.shutdown_background();
    match ended {
        Ok(()) => Ok(code::OK),
        Err(problem) => failed(&problem, console),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_and_unknown_ones_are_told_what_there_is() {
        let names =
            |text| faults(text).map(|faults| faults.0.iter().map(|fault| fault.name).collect::<Vec<_>>());
        assert_eq!(names("all").unwrap().len(), FAULTS.len());
        assert_eq!(names("none").unwrap(), Vec::<&str>::new());
        assert_eq!(names("reload, nats-killed").unwrap(), ["reload", "nats-killed"]);
        let error = names("reload,earthquake").unwrap_err();
        assert!(error.contains("nats-paused (nats-server stands still"), "{error}");
    }
}
