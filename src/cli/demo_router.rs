//! `ipc-gateway demo-router`: a reference router on NATS, for trying and for tests.

use std::io::{self, Write as _};
use std::sync::Arc;

use clap::Args;

use super::console::Console;
use super::signals::Signals;
use super::{code, span};
use crate::backend::nats::responder::{self, Subjects};
use crate::demo_router::{self, Behaviour, DemoRouter, PRESSURES, RESULTS};

/// What was typed.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The NATS servers, with commas between.
    #[arg(long, value_name = "URLS")]
    nats: String,
    /// How long a server that is not there is tried again.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = span::parse)]
    connect_timeout: std::time::Duration,
    /// What it does with decide requests: answer, slow, late (after the deadline), silent, double, fail, crash.
    #[arg(long, value_name = "MODE", default_value = "answer")]
    mode: String,
    /// How long it waits in the modes slow and late [default: 1s, 200ms].
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    wait: Option<std::time::Duration>,
    /// The error code of the mode fail.
    #[arg(long, value_name = "CODE", default_value = "internal")]
    code: String,
    /// A tenant with the policy "default"; may be given many times [default: default_tenant].
    #[arg(long, value_name = "NAME")]
    tenant: Vec<String>,
    /// Offer the status of backpressure too, and say this: inactive, warning, active, unknown.
    #[arg(long, value_name = "STATUS", value_parser = pressure)]
    backpressure: Option<&'static str>,
    /// What it says of when to come back under pressure, in seconds.
    #[arg(long, value_name = "N", default_value_t = 30)]
    retry_after: u64,
    /// Have workers report what was decided, in this shape: none, flat, envelope, both (a duplicate of each).
    #[arg(long, value_name = "SHAPE", value_parser = shape, default_value = "none")]
    results: &'static str,
    /// The subject of decide requests.
    #[arg(long, value_name = "SUBJECT", default_value = demo_router::DECIDE)]
    subject: String,
    /// The queue group; routers of one group share the requests.
    #[arg(long, value_name = "NAME", default_value = "beamline-router")]
    group: String,
    /// Keys of earlier requests that are remembered.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    keys_max: usize,
}

fn pressure(text: &str) -> Result<&'static str, String> {
    one_of(PRESSURES, text)
}

fn shape(text: &str) -> Result<&'static str, String> {
    one_of(RESULTS, text)
}

fn one_of(words: &[&'static str], text: &str) -> Result<&'static str, String> {
    let known = words.iter().copied().find(|known| *known == text);
    known.ok_or_else(|| format!("expected one of {}", words.join(", ")))
}

/// Answers until a signal ends it. Returns the exit code.
pub(super) fn demo_router(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<u8> {
    let wait_ms = arguments.wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    let behaviour = match Behaviour::new(&arguments.mode, wait_ms, Some(&arguments.code)) {
        Ok(behaviour) => behaviour,
        Err(problem) => {
            console.complain(&problem)?;
            return Ok(code::USAGE);
        }
    };
    let mut tenants = arguments.tenant.clone();
    if tenants.is_empty() {
        tenants.push("default_tenant".to_owned());
    }
    let router = Arc::new(DemoRouter::new(demo_router::Settings {
        tenants,
        behaviour,
        decide: arguments.subject.clone(),
        pressure: arguments.backpressure.unwrap_or("inactive"),
        retry_after_seconds: arguments.retry_after,
        results: arguments.results,
        keys_max: arguments.keys_max,
    }));
    let mut shared = vec![arguments.subject.clone(), demo_router::ADMIN.to_owned()];
    shared.extend(arguments.backpressure.map(|_| demo_router::BACKPRESSURE.to_owned()));
    let subjects =
        Subjects { group: arguments.group.clone(), shared, own: vec![demo_router::CONTROL.to_owned()] };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let subject = &arguments.subject;
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let out = &mut console.out;
        let mut told = Ok(());
        let ready = || told = writeln!(out, "demo router answers on {subject}").and_then(|()| out.flush());
        let ended = tokio::select! {
            ended = responder::serve(&arguments.nats, arguments.connect_timeout, subjects, router, ready) => ended,
            _ = signals.next() => Ok(()),
        };
        told.map(|()| ended)
    });
    runtime.shutdown_background();
    match ended? {
        Ok(()) => Ok(code::OK),
        Err(problem) => {
            console.complain(&problem)?;
            Ok(code::FAILED)
        }
    }
}
