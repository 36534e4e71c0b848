//! `ipc-gateway request`: asks whoever listens on a subject, and prints the answer.

use std::io;

use clap::Args;

use super::console::Console;
use super::question::{Options, Way, Whereabouts};
use super::rounds::Rounds;
use super::{code, payload, rounds};
use crate::client::{Call, Say};

/// What was typed.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Whom to ask, such as demo.echo.
    subject: String,
    /// The payload: itself, @FILE, or - for standard input [default: standard input unless a terminal].
    payload: Option<String>,
    #[command(flatten)]
    options: Options,
    /// Say that doing it twice is the same as doing it once, so that it may be tried again.
    #[arg(long)]
    idempotent: bool,
    /// Ask N times, one after another, and summarize.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    #[command(flatten)]
    way: Way,
}

impl Arguments {
    /// The question.
    fn call(&self) -> Result<Call, String> {
        let call = self.options.call(self.subject.clone())?;
        Ok(Call { payload: payload::read(self.payload.as_deref())?, idempotent: self.idempotent, ..call })
    }
}

/// Asks. Returns the exit code.
pub(super) fn request(
    arguments: &Arguments,
    whereabouts: Whereabouts,
    console: &mut Console<'_>,
) -> io::Result<u8> {
    run(arguments, whereabouts, Say::Request, console)
}

/// Publishes: the same but for the word.
pub(super) fn publish(
    arguments: &Arguments,
    whereabouts: Whereabouts,
    console: &mut Console<'_>,
) -> io::Result<u8> {
    run(arguments, whereabouts, Say::Publish, console)
}

fn run(
    arguments: &Arguments,
    whereabouts: Whereabouts,
    say: fn(Call) -> Say,
    console: &mut Console<'_>,
) -> io::Result<u8> {
    let Way { via, json, ref url } = arguments.way;
    let whereabouts = whereabouts.named(url.as_ref());
    match arguments.call() {
        Ok(call) => {
            let rounds = Rounds { via, whereabouts, say: say(call), count: arguments.count, json };
            rounds::run(&rounds, console)
        }
        Err(problem) => {
            console.complain(&problem)?;
            Ok(code::USAGE)
        }
    }
}
