//! `bench --only`: many WebSockets at once instead of rows of requests.

use std::ffi::OsString;
use std::io;

use serde_json::json;

use super::Arguments;
use crate::bench::{CrowdPlan, Crowds};
use crate::cli::code;
use crate::cli::console::Console;
use crate::cli::keep::Keep;
use crate::cli::signals::Signals;
use crate::cli::tools::tools;
use crate::limits;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Crowd {
    /// Memory of the gateway with many WebSockets that say nothing.
    Idle,
    /// One publisher and many subscribers by WebSocket, beside nats-server's own WebSocket listener.
    Fanout,
}

/// Measures. Returns the exit code.
pub(super) async fn measure(
    arguments: &Arguments,
    variables: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> io::Result<u8> {
    // Each connection is a descriptor here, too.
    if let Err(error) = limits::raise_descriptors() {
        console.complain(&format!("cannot raise the limit of open descriptors: {error}"))?;
    }
    let (tools, version) = match tools(arguments.nats_server.as_deref(), variables) {
        Ok(found) => found,
        Err(problem) => return failed(&problem, console),
    };
    let chosen = |crowd, count: u32| arguments.only.contains(&crowd).then_some(count as usize);
    let plan = CrowdPlan {
        idle: chosen(Crowd::Idle, arguments.idle_connections),
        subscribers: chosen(Crowd::Fanout, arguments.subscribers),
        duration: arguments.duration,
        warmup: arguments.warmup,
        runs: arguments.runs.into(),
    };
    let mut signals = Signals::listen()?;
    let mut told = Ok(());
    let measuring = Crowds::measure(&plan, &tools, &arguments.subject, |line| {
        if told.is_ok() {
            told = console.note(line);
        }
    });
    let measured = tokio::select! {
        // Dropping the measurement ends every process that was started for it.
        _ = signals.next() => return Ok(code::INTERRUPTED),
        measured = measuring => measured,
    };
    told?;
    match measured {
        Err(problem) => failed(&problem, console),
        Ok(mut crowds) => {
            crowds.add_fact("nats_server", json!(version));
            let to = Keep { folder: arguments.save.as_deref(), json: arguments.json };
            let kept = to.show("crowd", &crowds.to_json(), &crowds.to_text(), console)?;
            Ok(if kept { code::OK } else { code::FAILED })
        }
    }
}

fn failed(problem: &str, console: &mut Console<'_>) -> io::Result<u8> {
    console.complain(problem)?;
    Ok(code::FAILED)
}
