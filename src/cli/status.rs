//! `ipc-gateway status`: how a running gateway is, for a pod without a browser.
//!
//! It reads the same pages that probes and scrapers read, twice for rates, and keeps nothing.

mod picture;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use self::picture::Picture;
use super::console::Console;
use super::question::reachable;
use super::signals::Signals;
use super::{code, span};
use crate::client::{Pages, Samples};
use crate::config;

/// What was typed.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Print JSON, an object a line: for programs.
    #[arg(long)]
    json: bool,
    /// The time between the two readings that rates are taken from.
    #[arg(long, value_name = "TIME", value_parser = span::parse, default_value = "1s")]
    interval: Duration,
    /// Go on, a picture each interval, until a signal.
    #[arg(long)]
    watch: bool,
}

/// Shows it. Returns the exit code: 0 for a gateway that is ready, 5 for one that is not.
pub(super) fn status(
    arguments: &Arguments,
    admin: &config::Admin,
    console: &mut Console<'_>,
) -> io::Result<u8> {
    if !admin.enabled || admin.address.port() == 0 {
        let why = if admin.enabled { "its port is chosen at each start" } else { "it is turned off" };
        let line = format!(
            "cannot ask the admin listener: {why}, says the configuration; name it with --admin-port PORT"
        );
        console.complain(&line)?;
        return Ok(code::USAGE);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        tokio::select! {
            _ = signals.next() => Ok(if arguments.watch { code::OK } else { code::INTERRUPTED }),
            shown = show(arguments, reachable(admin.address), console) => shown,
        }
    })
}

async fn show(arguments: &Arguments, address: SocketAddr, console: &mut Console<'_>) -> io::Result<u8> {
    let mut before = None;
    loop {
        let (picture, samples) = match look(address, arguments.interval, before.take()).await {
            Ok(seen) => seen,
            Err(line) => {
                console.complain(&line)?;
                return Ok(code::FAILED);
            }
        };
        if arguments.json {
            console.object(&picture.to_json(), None)?;
        } else {
            if arguments.watch && console.out_is_terminal {
                // Clears the screen and starts at its top (ECMA-48: ED 2, CUP).
                console.out.write_all(b"\x1b[2J\x1b[H")?;
            }
            console.out.write_all(picture.to_text().as_bytes())?;
            console.out.flush()?;
        }
        if !arguments.watch {
            return Ok(if picture.ready { code::OK } else { code::TRY_AGAIN });
        }
        before = Some(samples);
    }
}

/// Two readings, an interval apart, and the picture they make. A new connection each time: the listener ends
/// connections after a minute.
async fn look(
    address: SocketAddr,
    interval: Duration,
    before: Option<Samples>,
) -> Result<(Picture, Samples), String> {
    let before = match before {
        Some(samples) => samples,
        None => read(&mut Pages::connect(address).await?).await?,
    };
    tokio::time::sleep_until((before.taken + interval).into()).await;
    let mut pages = Pages::connect(address).await?;
    let (_, health) = pages.get("/health").await?;
    let (ready, state) = pages.get("/ready").await?;
    let now = read(&mut pages).await?;
    Ok((Picture::new(address, ready, &json(&health)?, json(&state)?, &before, &now), now))
}

async fn read(pages: &mut Pages) -> Result<Samples, String> {
    let (_, page) = pages.get("/metrics").await?;
    Ok(Samples::parse(&String::from_utf8_lossy(&page)))
}

fn json(page: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(page)
        .map_err(|error| format!("what answers there is not this gateway's admin listener: {error}"))
}
