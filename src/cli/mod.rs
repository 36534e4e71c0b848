//! The command line: what was typed, and what it means. Each subcommand is a function that writes to what it
//! is given and returns an exit code.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments here are help texts, in which backticks would be noise"
)]

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use self::console::Console;
use self::question::Whereabouts;
use crate::config::{Config, Flag, Sources, environment};

mod bench;
pub mod check;
pub mod code;
mod completions;
mod console;
mod demo_router;
mod keep;
mod payload;
mod peer;
mod ping;
mod question;
mod request;
mod rounds;
pub mod run;
pub mod show;
mod signals;
mod soak;
pub(crate) mod span;
mod status;
mod subscribe;
mod tools;

/// Lets any client talk to services on NATS: one program, one pipeline of rules, many doors.
///
/// Without a subcommand it runs the gateway. With nothing configured it answers with a demo in its own
/// process; set NATS_URL to put it in front of your services.
#[derive(Debug, Parser)]
#[command(name = "ipc-gateway", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
Settings come from flags, then the environment, then a file, then defaults; `ipc-gateway config` shows each
with its source, and `ipc-gateway config --defaults` is a file with every key and what it means.

Exit codes: 0 well; 1 could not start or connect, or failed while running; 2 wrong command line or
configuration; of a question also 3 no answer in time, 4 refused for what was asked (the same again meets
the same answer), 5 not now (the same again may succeed later), 6 the service answered no, 130 interrupted.";

/// Options of every subcommand.
#[derive(Args, Debug)]
struct Options {
    /// Configuration file [default: $IPC_GATEWAY_CONFIG, ./gateway.toml, /etc/ipc-gateway/gateway.toml].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any key, such as --set ipc.connections_max=64; may be given many times.
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// Path of the Unix socket (ipc.path).
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<String>,
    /// Address and port of the gRPC door (grpc.address, grpc.port).
    #[arg(long, global = true, value_name = "IP:PORT")]
    grpc: Option<std::net::SocketAddr>,
    /// Addresses of NATS servers, with commas between; selects the NATS backend (nats.urls).
    #[arg(long, global = true, value_name = "URLS")]
    nats_url: Option<String>,
    /// Port of the admin listener, 0 for any free one (admin.port).
    #[arg(long, global = true, value_name = "PORT")]
    admin_port: Option<String>,
    /// Log level, or filter directives (log.level).
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default).
    Run {
        /// Path of the Unix socket, as the predecessor took it.
        socket_path: Option<String>,
    },
    /// Check a configuration: every problem at once, exit code 2 if there is one.
    Check {
        /// The file to check instead of the usual one.
        file: Option<PathBuf>,
        /// Count secret and certificate files that are missing as problems, not as warnings.
        #[arg(long)]
        strict: bool,
    },
    /// Show the effective settings and where each came from; secrets are hidden.
    Config {
        /// Print the JSON Schema of the configuration file.
        #[arg(long, conflicts_with_all = ["defaults", "json"])]
        schema: bool,
        /// Print a file with every key at its default.
        #[arg(long, conflicts_with = "json")]
        defaults: bool,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Ask whoever listens on a subject, and print the answer.
    Request(request::Arguments),
    /// Publish a message to a subject.
    Publish(request::Arguments),
    /// Print the messages of a subject or pattern until Ctrl-C, or until there were enough.
    Subscribe(subscribe::Arguments),
    /// See whether the gateway is there, and how far away.
    Ping(ping::Arguments),
    /// Show how a running gateway is: backend, doors, limits, rates. Exit code 5 if it is not ready.
    Status(status::Arguments),
    /// Measure a gateway beside plain NATS: throughput, latency, CPU a request.
    Bench(bench::Arguments),
    /// Check that a gateway stays up, answers each request exactly once and leaks nothing, while faults happen.
    Soak(soak::Arguments),
    /// Answer decide requests on NATS as the Beamline router does, or go wrong as it may: for trying and for tests.
    DemoRouter(demo_router::Arguments),
    /// Write the completions of this program for a shell to standard output.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Answer requests on a subject with their payload, for the benchmark; ends with its standard input.
    #[command(hide = true)]
    BenchResponder(bench::Responder),
    /// Answer the soak's requests on a subject and write down which were seen; ends with its standard input.
    #[command(hide = true)]
    SoakResponder(soak::Responder),
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as admin.port=9090")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

impl Options {
    fn sources(self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Sources {
        let flag = |name: &str, path: &str, text: Option<String>| {
            text.map(|text| Flag { name: name.to_owned(), path: path.to_owned(), text })
        };
        let named = [
            flag("--socket", "ipc.path", self.socket),
            flag("--grpc", "grpc.address", self.grpc.map(|address| address.ip().to_string())),
            flag("--grpc", "grpc.port", self.grpc.map(|address| address.port().to_string())),
            flag("--nats-url", "nats.urls", self.nats_url),
            flag("--admin-port", "admin.port", self.admin_port),
            flag("--log-level", "log.level", self.log_level),
        ];
        let set = self.set.into_iter().map(|(path, text)| Flag { name: "--set".to_owned(), path, text });
        Sources {
            flags: named.into_iter().flatten().chain(set).collect(),
            environment: environment(variables),
            file: self.config,
            ..Sources::default()
        }
    }
}

/// Runs what the command line says, with these variables as the environment. Returns the exit code.
pub fn main(
    line: CommandLine,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> io::Result<u8> {
    let variables: Vec<_> = variables.into_iter().collect();
    let plain = variables.iter().any(|(name, value)| name == "NO_COLOR" && !value.is_empty());
    let mut sources = line.options.sources(variables.iter().cloned());
    let mut console = Console::new(out, complaints, plain);
    match line.command {
        None => run::run(&sources, console.out, console.complaints),
        Some(Command::Run { socket_path }) => {
            sources.flags.extend(socket_path.map(|text| Flag {
                name: "the socket path of `run`".to_owned(),
                path: "ipc.path".to_owned(),
                text,
            }));
            run::run(&sources, console.out, console.complaints)
        }
        Some(Command::Check { file, strict }) => {
            sources.file = file.or(sources.file);
            check::check(sources, strict, console.out)
        }
        Some(Command::Config { schema, defaults, json }) => {
            let form = match (schema, defaults, json) {
                (true, ..) => show::Form::Schema,
                (_, true, _) => show::Form::Defaults,
                (.., true) => show::Form::Json,
                _ => show::Form::Table,
            };
            show::show(sources, form, console.out)
        }
        Some(Command::Completions { shell }) => completions::completions(shell, console.out),
        Some(Command::DemoRouter(arguments)) => demo_router::demo_router(&arguments, &mut console),
        Some(Command::BenchResponder(responder)) => bench::respond(&responder, &mut console),
        Some(Command::Soak(arguments)) => soak::soak(&arguments, &variables, &mut console),
        Some(Command::SoakResponder(responder)) => soak::respond(&responder, &mut console),
        Some(Command::Request(arguments)) => asking(sources, &mut console, |config, console| {
            request::request(&arguments, Whereabouts::of(config), console)
        }),
        Some(Command::Publish(arguments)) => asking(sources, &mut console, |config, console| {
            request::publish(&arguments, Whereabouts::of(config), console)
        }),
        Some(Command::Subscribe(arguments)) => asking(sources, &mut console, |config, console| {
            subscribe::subscribe(&arguments, Whereabouts::of(config), console)
        }),
        Some(Command::Ping(arguments)) => asking(sources, &mut console, |config, console| {
            ping::ping(&arguments, Whereabouts::of(config), console)
        }),
        Some(Command::Status(arguments)) => asking(sources, &mut console, |config, console| {
            status::status(&arguments, &config.admin, console)
        }),
        Some(Command::Bench(arguments)) => asking(sources, &mut console, |config, console| {
            bench::bench(&arguments, config, &variables, console)
        }),
    }
}

/// Runs what speaks to a running gateway, under the configuration that says where that is.
fn asking(
    sources: Sources,
    console: &mut Console<'_>,
    ask: impl FnOnce(&Config, &mut Console<'_>) -> io::Result<u8>,
) -> io::Result<u8> {
    match question::config(sources) {
        Ok(config) => ask(&config, console),
        Err(problems) => {
            // Many lines, each one problem: not for `complain`, which writes one.
            writeln!(console.complaints, "{problems}")?;
            Ok(code::USAGE)
        }
    }
}
