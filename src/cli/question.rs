//! What is asked, as it is typed: where, with which headers, for how long, how often.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytestring::ByteString;
use clap::Args;
use contract::{Headers, TraceContext};

use super::span;
use crate::client::{Call, Reach, Via};
use crate::config::{Config, MissingFiles, Problems, Sources};

/// Options of everything that speaks to a running gateway.
#[derive(Args, Clone, Debug)]
pub(super) struct Way {
    /// The door to ask by, and what to speak there.
    #[arg(long, value_enum, default_value_t)]
    pub(super) via: Via,
    /// Where the HTTP door is, for --via http, ws and ws-binary: http://HOST:PORT [default: http.address and
    /// http.port of the configuration, http://127.0.0.1:8081 without one].
    #[arg(long, value_name = "URL", value_parser = authority)]
    pub(super) url: Option<String>,
    /// Print JSON, an object a line: for programs.
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of a question.
#[derive(Args, Clone, Debug)]
pub(super) struct Options {
    /// A header for the responder; may be given many times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// How long to wait for the answer: 2s, 250ms, 1500 (milliseconds) [default: the route's own time].
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(super) timeout: Option<Duration>,
    /// Continue this trace, as the W3C header writes it.
    #[arg(long, value_name = "VALUE", value_parser = traceparent)]
    traceparent: Option<String>,
}

impl Options {
    /// The question to `subject`, without a payload.
    pub(super) fn call(&self, subject: String) -> Result<Call, String> {
        let mut headers = Headers::new();
        for (name, value) in &self.header {
            headers
                .append(ByteString::from(name.as_str()), ByteString::from(value.as_str()))
                .map_err(|error| format!("--header {name}: {error}"))?;
        }
        let Self { timeout, traceparent, .. } = self;
        Ok(Call { subject, headers, timeout: *timeout, traceparent: traceparent.clone(), ..Call::default() })
    }
}

/// The host and the port of a URL of the HTTP door.
fn authority(text: &str) -> Result<String, String> {
    let wrong = || format!("expected http://HOST:PORT, such as http://127.0.0.1:8081, not {text}");
    let url: hyper::Uri = text.parse().map_err(|_| wrong())?;
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
    let authority = url.authority().filter(|authority| !authority.as_str().contains('@'));
    match (url.scheme_str(), authority) {
        (Some("http" | "ws"), Some(authority)) if is_bare => {
            Ok(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)))
        }
        _ => Err(wrong()),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as X-Color=blue")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

fn traceparent(text: &str) -> Result<String, String> {
    TraceContext::parse(text, None).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Where a running gateway is, by the same configuration that it runs on.
#[derive(Clone, Debug)]
pub(super) struct Whereabouts {
    /// Its doors.
    pub(super) reach: Reach,
    /// The longest it lets a question take.
    pub(super) timeout_max: Duration,
}

impl Whereabouts {
    /// Reads it from the sources; a missing secret is no problem for one who only asks.
    pub(super) fn of(config: &Config) -> Self {
        let socket: PathBuf = config.ipc.path.clone();
        let http = reachable(config.http.address).to_string();
        let reach = Reach { socket, http, grpc: reachable(config.grpc.address) };
        Self { reach, timeout_max: config.limits.timeout_max }
    }

    /// The same with the HTTP door where it was said to be.
    pub(super) fn named(mut self, url: Option<&String>) -> Self {
        if let Some(url) = url {
            self.reach.http.clone_from(url);
        }
        self
    }
}

/// The address to connect to for one that is listened on.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The configuration as a client reads it: a missing secret is no problem for one who only asks.
pub(super) fn config(mut sources: Sources) -> Result<Config, Problems> {
    sources.missing_files = MissingFiles::Warn;
    Config::load(&sources).map(|loaded| loaded.config)
}
