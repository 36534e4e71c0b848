//! `ipc-gateway ping`: is the gateway there, and how far away? No backend is involved.

use std::io;

use clap::Args;

use super::console::Console;
use super::question::{Way, Whereabouts};
use super::rounds::{self, Rounds};
use crate::client::Say;

/// What was typed.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Ping N times, one after another, and summarize.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    #[command(flatten)]
    way: Way,
}

/// Pings. Returns the exit code.
pub(super) fn ping(
    arguments: &Arguments,
    whereabouts: Whereabouts,
    console: &mut Console<'_>,
) -> io::Result<u8> {
    let Way { via, json, ref url } = arguments.way;
    let whereabouts = whereabouts.named(url.as_ref());
    rounds::run(&Rounds { via, whereabouts, say: Say::Ping, count: arguments.count, json }, console)
}
