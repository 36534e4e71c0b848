//! A gateway to test: the real binary in its own process, with a clean environment and a directory of its own.
//!
//! It is there when its banner is, so nothing sleeps for luck; and it is gone with the value, however a test
//! ends: killed if it still runs, and its directory removed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{Client, JsonClient};

/// Longer than anything here takes on a busy machine. What is waited for this long is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that takes its time.
const GLANCE: Duration = Duration::from_millis(5);

/// The binary under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ipc-gateway");

/// Looks again and again until `what` is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < patience, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(GLANCE);
    }
}

/// Waits for the end of a process; kills it when it does not come.
pub(crate) fn end_of(child: &mut Child) -> ExitStatus {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > patience {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the process did not end within {PATIENCE:?}");
        }
        std::thread::sleep(GLANCE);
    }
}

/// What a gateway is started with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    place: Option<Arc<TempDir>>,
    admin_port: u16,
    /// Options and value of `ulimit`.
    descriptors: Option<String>,
}

impl Start {
    /// Sets a key by `--set`.
    pub(crate) fn set(mut self, setting: &str) -> Self {
        self.arguments.extend(["--set".to_owned(), setting.to_owned()]);
        self
    }

    /// Sends every task of version 1 to this subject.
    pub(crate) fn tasks_to(self, subject: &str) -> Self {
        self.set(&format!("routes.decide.subject={subject}")).raw_tasks()
    }

    /// Sends every task of version 1 as it is: without the router's profile, its bound, and questions for its pressure.
    pub(crate) fn raw_tasks(self) -> Self {
        let start = self.set("routes.decide.profile=raw").set("routes.decide.calls_max=0");
        start.set("routes.decide.backpressure_enabled=false")
    }

    /// Puts a variable into its environment, which is empty otherwise.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it in the directory of another one, on the same socket path.
    pub(crate) fn in_place_of(mut self, place: &Arc<TempDir>) -> Self {
        self.place = Some(Arc::clone(place));
        self
    }

    /// The admin listener's port, instead of any free one.
    pub(crate) fn admin_port(mut self, port: u16) -> Self {
        self.admin_port = port;
        self
    }

    /// Starts it with this soft limit of open descriptors.
    pub(crate) fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(format!("-S -n {limit}"));
        self
    }

    /// Starts it with this limit of open descriptors, which it cannot raise.
    #[allow(dead_code, reason = "for the test of what happens when they run out")]
    pub(crate) fn descriptors_max(mut self, limit: u32) -> Self {
        self.descriptors = Some(format!("-n {limit}"));
        self
    }

    fn spawn(&self, place: &Path) -> Child {
        let mut command = match &self.descriptors {
            None => clean(PROGRAM),
            Some(limit) => {
                let mut command = clean("sh");
                command.args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\""), PROGRAM]);
                command
            }
        };
        command
            .arg("--socket")
            .arg(socket_in(place))
            .args([
                "--admin-port",
                &self.admin_port.to_string(),
                "--set",
                "http.port=0",
                "--set",
                "grpc.port=0",
            ])
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(place)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(place.join("log")).unwrap());
        command.spawn().unwrap()
    }

    /// Starts it and waits for its banner.
    pub(crate) fn gateway(self) -> Gateway {
        static ONCE: Once = Once::new();
        // Some tests hold a thousand connections.
        ONCE.call_once(|| drop(ipc_gateway::limits::raise_descriptors()));
        let place = self.place.clone().unwrap_or_else(new_place);
        let mut child = self.spawn(place.path());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        // The banner is written at once, so its last lines are there when its first are.
        while !banner.contains("Try:\n") {
            if output.read_line(&mut banner).unwrap() == 0 {
                let status = end_of(&mut child);
                panic!("the gateway did not start ({status}): {banner}\n{}", log_in(&place));
            }
        }
        Gateway { child, output, banner, place }
    }

    /// Starts it although it should not start, and returns its exit code and what it complained about.
    pub(crate) fn refusal(self) -> (i32, String) {
        let place = self.place.clone().unwrap_or_else(new_place);
        let log_before = log_in(&place).len();
        let mut child = self.spawn(place.path());
        let code = end_of(&mut child).code().expect("it was not killed");
        (code, log_in(&place)[log_before..].to_owned())
    }
}

/// A command that inherits nothing but the path: a variable of whoever runs the tests changes nothing.
pub(crate) fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Runs a subcommand of the program to its end, in an empty directory.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let place = new_place();
    let child = clean(PROGRAM)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(place.path())
        .stdin(Stdio::null())
        .stdout(File::create(place.path().join("out")).unwrap())
        .stderr(File::create(place.path().join("complaints")).unwrap())
        .spawn();
    let code = end_of(&mut child.unwrap()).code().expect("it was not killed");
    let read = |name: &str| fs::read_to_string(place.path().join(name)).unwrap();
    (code, read("out"), read("complaints"))
}

/// Runs a tool with this input to its end; `None` when there is no such tool here.
pub(crate) fn run_tool(program: &str, arguments: &[&str], input: &[u8]) -> Option<Output> {
    let mut command = clean(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child.stdin.take().unwrap().write_all(input).unwrap();
    end_of(&mut child);
    Some(child.wait_with_output().unwrap())
}

fn new_place() -> Arc<TempDir> {
    Arc::new(TempDir::with_prefix("gw").unwrap())
}

fn socket_in(place: &Path) -> PathBuf {
    place.join("s")
}

fn log_in(place: &TempDir) -> String {
    fs::read_to_string(place.path().join("log")).unwrap_or_default()
}

/// A gateway that runs.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    banner: String,
    place: Arc<TempDir>,
}

impl Gateway {
    /// What a gateway is started with; nothing set.
    pub(crate) fn with() -> Start {
        Start::default()
    }

    /// One with no setting but its addresses.
    pub(crate) fn start() -> Self {
        Start::default().gateway()
    }

    /// What it printed when it was there.
    #[allow(dead_code, reason = "for the tests of the WebSocket door, which share this file")]
    pub(crate) fn banner(&self) -> &str {
        &self.banner
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its directory, to start another in.
    pub(crate) fn place(&self) -> &Arc<TempDir> {
        &self.place
    }

    /// The path of its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(self.place.path())
    }

    /// The address of its admin listener, as the banner tells it.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.listener("admin")
    }

    /// The address of its HTTP door, as the banner tells it.
    #[allow(dead_code, reason = "for the documentation's examples, which the other tests do not run")]
    pub(crate) fn http(&self) -> SocketAddr {
        self.listener("http")
    }

    /// The address of its gRPC door, as the banner tells it.
    #[allow(dead_code, reason = "for the documentation's examples, which the other tests do not run")]
    pub(crate) fn grpc(&self) -> SocketAddr {
        self.listener("grpc")
    }

    fn listener(&self, name: &str) -> SocketAddr {
        let line = self.banner.lines().find(|line| line.trim_start().starts_with(name));
        let address = line.expect("the banner has every listener").split_whitespace().nth(1).unwrap();
        address.trim_start_matches("http://").parse().unwrap()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        log_in(&self.place)
    }

    /// A client that speaks version 1.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// A client that speaks raw JSON.
    pub(crate) fn json(&self) -> JsonClient {
        JsonClient::connect(&self.socket())
    }

    /// Status and body of an admin page.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.page_for("localhost", path);
        (status, body)
    }

    /// Status, head and body of an admin page asked for under this `Host`.
    pub(crate) fn page_for(&self, host: &str, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.admin()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    /// `/ready` as JSON, with its status.
    pub(crate) fn ready(&self) -> (u16, serde_json::Value) {
        let (status, body) = self.page("/ready");
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Every series of `/metrics`, by its name with labels.
    pub(crate) fn metrics(&self) -> Metrics {
        let (status, text) = self.page("/metrics");
        assert_eq!(status, 200);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Metrics(
            lines
                .map(|line| {
                    let (series, value) = line.rsplit_once(' ').expect("a series has a value");
                    (series.to_owned(), value.parse().unwrap())
                })
                .collect(),
        )
    }

    /// Waits until a gauge or a counter has this value.
    pub(crate) fn until(&self, series: &str, value: f64) {
        let mut seen = f64::NAN;
        eventually(&format!("{series} is {value}"), || {
            seen = self.metrics().of(series);
            (seen - value).abs() < 0.5
        });
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; returns its exit status.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        end_of(&mut self.child)
    }

    /// Stops it by SIGTERM and sees that it ends well, with its files gone. Returns all that it printed.
    pub(crate) fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log());
        let left: Vec<_> =
            fs::read_dir(self.place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "log"), "files are left: {left:?}");
        let mut printed = self.banner.clone();
        self.output.read_to_string(&mut printed).unwrap();
        printed
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both fail when it has ended, which is just as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let mut text = String::new();
            let _ = write!(text, "--- what the gateway of the failed test logged\n{}---", self.log());
            println!("{text}");
        }
    }
}

/// What a scrape found.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

/// What a busy gateway holds and an idle one must not: all of these return to where they were.
pub(crate) const HELD: [&str; 8] = [
    "ipc_gateway_calls",
    "ipc_gateway_streams",
    "ipc_gateway_memory_used_bytes",
    "ipc_gateway_door_connections{door=\"unix\"}",
    "ipc_gateway_door_in_flight{door=\"unix\"}",
    "ipc_gateway_door_streams{door=\"unix\"}",
    "ipc_gateway_door_buffers_lent{door=\"unix\"}",
    "process_open_fds",
];

impl Metrics {
    /// The value of a series; 0 for one that has not begun.
    pub(crate) fn of(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or(0.0)
    }

    /// A count of the Unix-socket door.
    pub(crate) fn door(&self, name: &str) -> f64 {
        self.of(&format!("ipc_gateway_door_{name}{{door=\"unix\"}}"))
    }

    /// The values of [`HELD`]. The scrape's own connection is among the descriptors, in every scrape.
    pub(crate) fn held(&self) -> Vec<(&'static str, f64)> {
        HELD.iter().map(|series| (*series, self.of(series))).collect()
    }
}

impl Gateway {
    /// Waits until the gateway holds no more than it held `before`.
    pub(crate) fn until_held(&self, before: &[(&'static str, f64)]) {
        let patience = Instant::now() + PATIENCE;
        loop {
            let now = self.metrics().held();
            if now.iter().zip(before).all(|((_, now), (_, before))| now <= before) {
                return;
            }
            assert!(Instant::now() < patience, "it holds {now:?}, and held {before:?}");
            std::thread::sleep(GLANCE);
        }
    }
}
