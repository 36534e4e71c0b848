//! The program under test: a gateway with the demo in a directory of its own, and its subcommands.
//!
//! A gateway is there when its banner is, and gone with the value, however a test ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine. What is waited for this long is a failure.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a subcommand did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) complaints: String,
}

impl Ran {
    /// Standard output as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// Standard output as JSON, an object a line.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// That it ended with this code, and said on one line of complaint all of this.
    pub(crate) fn assert_complains(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.complaints.lines().count(), 1, "{self:?}");
        for part in parts {
            assert!(self.complaints.contains(part), "{part:?} is not in {:?}", self.complaints);
        }
    }
}

/// The program with arguments, which inherits nothing but the path.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipc-gateway"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end with this input.
pub(crate) fn run(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command.spawn().unwrap();
    // A program that does not read its input may have closed it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().expect("it was not killed"),
        out: output.stdout,
        complaints: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A process whose output is read line by line while it runs.
pub(crate) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next line of its output, without its end; empty at the end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and gives what else it wrote to both outputs, as far as they come here.
    pub(crate) fn end(&mut self) -> (ExitStatus, String) {
        let patience = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < patience, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        if let Some(mut complaints) = self.child.stderr.take() {
            complaints.read_to_string(&mut rest).unwrap();
        }
        (status, rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended, which is just as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway that runs.
pub(crate) struct Gateway {
    running: Running,
    admin: String,
    http: String,
    grpc: String,
    place: TempDir,
}

impl Gateway {
    /// With the demo behind it.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these arguments besides its addresses.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let place = TempDir::with_prefix("gw").unwrap();
        let socket = place.path().join("s");
        let mut command = command(&["--socket", socket.to_str().unwrap(), "--admin-port", "0"]);
        command.args(["--set", "http.port=0", "--set", "grpc.port=0"]);
        command.args(arguments).current_dir(place.path());
        let mut running = Running::start(command);
        let (mut admin, mut http, mut grpc) = (None, None, None);
        loop {
            let line = running.line();
            assert!(!line.is_empty() || admin.is_some(), "the gateway did not start: {}", running.end().1);
            if let Some((name, rest)) = line.split_once("http://") {
                let address = rest.split_whitespace().next().unwrap();
                let port = address.rsplit_once(':').map(|(_, port)| port.to_owned());
                match name.trim() {
                    "admin" => admin = port,
                    "http" => http = port,
                    _ => {}
                }
            }
            if let Some(rest) = line.trim_start().strip_prefix("grpc ") {
                grpc = rest.split_whitespace().next().map(str::to_owned);
            }
            if line == "Try:" {
                let admin = admin.expect("the banner has the admin listener");
                let http = http.expect("the banner has the HTTP door");
                let grpc = grpc.expect("the banner has the gRPC door");
                return Self { running, admin, http, grpc, place };
            }
        }
    }

    /// A subcommand that speaks to this gateway.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.arg("--socket").arg(self.place.path().join("s")).args(["--admin-port", &self.admin]);
        command.args(["--set", &format!("http.port={}", self.http)]);
        command.args(["--grpc", &self.grpc]);
        command.current_dir(self.place.path());
        command
    }

    /// Runs a subcommand without input.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        run(self.command(arguments), b"")
    }

    /// Waits until its backend can be reached: the banner is there before the connections to NATS are.
    pub(crate) fn until_ready(&self) {
        let patience = Instant::now() + PATIENCE;
        while self.run(&["status", "--json", "--interval", "1ms"]).code != 0 {
            assert!(Instant::now() < patience, "the gateway is not ready within {PATIENCE:?}");
        }
    }

    /// Its directory, in which subcommands run.
    pub(crate) fn place(&self) -> &TempDir {
        &self.place
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Host and port of its HTTP door.
    pub(crate) fn http(&self) -> String {
        format!("127.0.0.1:{}", self.http)
    }
}
