//! `ipc-gateway run`: the gateway, from its configuration to its exit.

use std::io::{self, Write};

use contract::Address;
use tokio::signal::unix::{SignalKind, signal};

use super::code;
use super::signals::Signals;
use crate::app::{Gateway, rest};
use crate::config::{Config, Loaded, Sources};
use crate::{limits, telemetry};

/// Runs the gateway until a signal stops it. What a person should read goes to `out`, what is wrong with the
/// start to `complaints`; everything later is the log's.
pub fn run(sources: &Sources, out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<u8> {
    let loaded = match Config::load(sources) {
        Ok(loaded) => loaded,
        Err(problems) => {
            writeln!(complaints, "{problems}")?;
            return Ok(code::USAGE);
        }
    };
    if let Err(problems) = rest::check(&loaded) {
        writeln!(complaints, "{problems}")?;
        return Ok(code::USAGE);
    }
    if let Err(error) = telemetry::init(&loaded.config.log) {
        writeln!(complaints, "ipc-gateway: {error}")?;
        return Ok(code::USAGE);
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match limits::raise_descriptors() {
        Ok((before, after)) => tracing::debug!(before, after, "descriptors that may be open"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open descriptors"),
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("without a message");
        tracing::error!(place, backtrace = %std::backtrace::Backtrace::capture(), "panicked: {text}");
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("gateway").build()?;
    let ended = runtime.block_on(serve(sources, loaded, out, complaints));
    // What did not finish within the grace is dropped, not waited for.
    runtime.shutdown_background();
    ended
}

async fn serve(
    sources: &Sources,
    loaded: Loaded,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> io::Result<u8> {
    // Before any address is taken: a signal from then on removes the socket file again.
    let mut stops = Signals::listen()?;
    let mut hangups = signal(SignalKind::hangup())?;
    let (pause, grace) = (loaded.config.drain_pause, loaded.config.drain_grace);
    let watch = loaded.config.reload_watch;
    let started = Gateway::start(loaded.config).await.and_then(|gateway| {
        let reload = gateway.reload(sources.clone(), loaded.resolved)?;
        Ok((gateway, reload))
    });
    let (mut gateway, mut reload) = match started {
        Ok(started) => started,
        Err(error) => {
            writeln!(complaints, "ipc-gateway: {error}")?;
            return Ok(if error.is_configuration() { code::USAGE } else { code::FAILED });
        }
    };
    // Whoever started us may not read on; that is no reason not to serve.
    if let Err(error) = banner(&gateway, out) {
        tracing::debug!(%error, "the banner was not read");
    }
    let mut exit = code::OK;
    let reloads = async {
        loop {
            let why = tokio::select! {
                _ = hangups.recv() => "SIGHUP",
                () = reload.changed(watch) => "the file changed",
            };
            reload.now(why).await;
        }
    };
    tokio::select! {
        () = reloads => {}
        name = stops.next() => {
            let pause_seconds = pause.as_secs();
            tracing::info!(signal = name, pause_seconds, grace_seconds = grace.as_secs(), "stopping");
        }
        error = gateway.failed() => {
            tracing::error!("{error}; stopping");
            exit = code::FAILED;
        }
    }
    let stopped = gateway.stop_unless(grace, stops.next()).await;
    match (stopped.hurried, stopped.cut) {
        (Some(name), cut) => {
            tracing::warn!(signal = name, connections = cut, "stopped at once by a second signal");
        }
        (None, 0) => tracing::info!("stopped"),
        (None, cut) => {
            tracing::warn!(connections = cut, "stopped; connections were cut at the end of the grace");
        }
    }
    Ok(exit)
}

/// What listens where, and three lines to paste.
fn banner(gateway: &Gateway, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "ipc-gateway {}", env!("CARGO_PKG_VERSION"))?;
    for (name, address) in gateway.addresses() {
        match address {
            Address::Unix(path) => {
                writeln!(out, "  {name:<8} {}  frames of versions 1 and 2, raw JSON", path.display())?;
            }
            Address::Tcp(address) if *name == "http" => {
                writeln!(
                    out,
                    "  {name:<8} http://{address}  requests, publishes, event streams; / says what is here"
                )?;
                if let Some(path) = gateway.web_socket() {
                    let what = "the JSON envelope, frames of version 2";
                    writeln!(out, "  {:<8} ws://{address}{path}  {what}", "ws")?;
                }
            }
            Address::Tcp(address) if *name == "grpc" => {
                writeln!(out, "  {name:<8} {address}  gateway.v1.Gateway, reflection, health; gRPC-Web")?;
            }
            Address::Tcp(address) => writeln!(out, "  {name:<8} http://{address}  /health /ready /metrics")?,
        }
    }
    if gateway.backend() == "embedded" {
        writeln!(out, "  backend  embedded DEMO, because no NATS is configured: set NATS_URL to use yours")?;
    } else {
        writeln!(out, "  backend  {}", gateway.backend())?;
    }
    writeln!(out, "\nTry:")?;
    for (name, address) in gateway.addresses() {
        match address {
            Address::Unix(path) => {
                let path = path.display();
                writeln!(out, "  echo '{{\"task_id\":\"test1\",\"payload\":\"hello\"}}' | nc -U {path}")?;
                let subscribe = r#"\0\0\0\035\001\004{"subject":"demo.tick"}"#;
                if gateway.backend() == "embedded" {
                    writeln!(out, "  (printf '{subscribe}'; sleep 4) | nc -U {path}")?;
                }
            }
            Address::Tcp(address) if *name == "http" && gateway.backend() == "embedded" => {
                writeln!(out, "  curl -d hello http://{address}/v1/request/demo.echo")?;
                writeln!(out, "  curl -N http://{address}/v1/subscribe/demo.tick")?;
            }
            Address::Tcp(address) if *name == "http" => writeln!(out, "  curl http://{address}/")?,
            Address::Tcp(address) if *name == "admin" => writeln!(out, "  curl http://{address}/ready")?,
            Address::Tcp(_) => {}
        }
    }
    out.flush()
}
