//! The processes of a self-contained run: nats-server, a responder and the gateway, each as it would run
//! anywhere, in a folder of their own, and all gone when the scene is dropped.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::load::probe;
use super::plan::{PAYLOAD_BYTES_MIN, Target};
use crate::client::{Call, Reach, Say, Via};

/// A process that is not up by then has failed.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks whether a process is up.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Only a file can ask for a WebSocket listener.
const NATS_CONFIGURATION: &str = "websocket { host: \"127.0.0.1\", port: -1, no_tls: true }\n";
/// The most of a log that is shown when something went wrong.
const LOG_BYTES_MAX: usize = 2000;

/// The programs to start.
#[derive(Clone, Debug)]
pub struct Tools {
    /// nats-server.
    pub nats_server: PathBuf,
    /// This program: the gateway and the responder.
    pub gateway: PathBuf,
}

/// The running processes. Fields are dropped in their order: the gateway first, the folder last.
#[derive(Debug)]
pub struct Scene {
    gateway: Process,
    responder: Process,
    nats: Process,
    url: String,
    /// Host and port of nats-server's WebSocket listener.
    nats_web_socket: Option<String>,
    /// Host and port of the HTTP door.
    http: String,
    /// The gRPC door.
    grpc: SocketAddr,
    folder: TempDir,
}

impl Scene {
    /// Starts all of them, and waits until a request has gone all the way. `subject` is what the responder
    /// answers on. Fails with a line for a person; what was started is ended then.
    pub async fn start(tools: &Tools, subject: &str) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| format!("no temporary folder: {error}"))?;
        let path = folder.path();
        std::fs::write(path.join("nats.conf"), NATS_CONFIGURATION)
            .map_err(|error| format!("cannot write nats-server's configuration: {error}"))?;
        let mut nats = Process::start("nats-server", path, nats(&tools.nats_server, path))?;
        let Ports { nats: urls, web_socket } = ports(&mut nats, path).await?;
        let url = urls.into_iter().next().ok_or("nats-server listens nowhere")?;
        let nats_web_socket =
            web_socket.first().and_then(|url| url.strip_prefix("ws://")).map(ToOwned::to_owned);
        let responder = Process::start("responder", path, responder(&tools.gateway, &url, subject))?;
        let grpc = free_address().map_err(|error| format!("no free port: {error}"))?;
        let gateway = Process::start("gateway", path, gateway(&tools.gateway, path, &url, subject, grpc))?;
        let http = String::new();
        let mut scene = Self { gateway, responder, nats, url, nats_web_socket, http, grpc, folder };
        scene.wait().await?;
        scene.http = scene.http_address().await?;
        Ok(scene)
    }

    /// What there is to measure, by answers of so many bytes.
    pub fn target(&self, answer_bytes: Option<usize>, subject: &str) -> Target {
        Target {
            reach: self.reach(),
            nats: Some(self.url.clone()),
            subject: subject.to_owned(),
            gateway_pid: Some(self.gateway.id()),
            nats_pid: Some(self.nats.id()),
            nats_web_socket: self.nats_web_socket.clone(),
            answer_bytes,
        }
    }

    fn reach(&self) -> Reach {
        Reach { socket: socket(self.folder.path()), http: self.http.clone(), grpc: self.grpc }
    }

    /// Where the HTTP door is: its port is a free one, and the banner has it.
    async fn http_address(&mut self) -> Result<String, String> {
        let until = Instant::now() + READY_LIMIT;
        loop {
            let banner = std::fs::read_to_string(&self.gateway.log).unwrap_or_default();
            // A line without its end is not whole.
            let mut lines = banner.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            if let Some(address) = lines.find_map(http_in) {
                return Ok(address);
            }
            self.gateway.check()?;
            if Instant::now() > until {
                return Err(format!("the gateway does not say where its HTTP door is\n{banner}"));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the gateway answers with what the responder said.
    async fn wait(&mut self) -> Result<(), String> {
        let until = Instant::now() + READY_LIMIT;
        let payload = r#"{"task_id":"bench","pad":""}"#;
        let say = Say::Request(Call {
            subject: "task_submit".to_owned(),
            payload: payload.into(),
            ..Call::default()
        });
        loop {
            let problem = match Via::UnixV1.open(&self.reach()).await {
                Ok(mut line) => probe(&mut *line, &say, Some(PAYLOAD_BYTES_MIN)).await,
                Err(lost) => Err(lost.to_string()),
            };
            let Err(problem) = problem else { return Ok(()) };
            for process in [&mut self.gateway, &mut self.responder, &mut self.nats] {
                process.check()?;
            }
            if Instant::now() > until {
                return Err(format!("the gateway is not up: {problem}\n{}", self.gateway.log()));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// The host and port of the HTTP door in a line of the banner: `http     http://127.0.0.1:8081  …`.
fn http_in(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let address = words.by_ref().next().filter(|door| *door == "http").and(words.next())?;
    address.strip_prefix("http://").map(ToOwned::to_owned)
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("gateway.sock")
}

/// An address whose port was free just now. The gateway says so if somebody took it since.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn nats(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir"]).arg(folder);
    command.arg("--config").arg(folder.join("nats.conf"));
    command
}

fn responder(program: &Path, url: &str, subject: &str) -> Command {
    let mut command = Command::new(program);
    // Its end of the pipe is closed when this process ends, however it ends, and that ends the responder.
    command.args(["bench-responder", "--servers", url, "--subject", subject]).stdin(Stdio::piped());
    command
}

/// A gateway with every rule at work and none that refuses: the limits are there, and are above any load.
fn gateway(program: &Path, folder: &Path, url: &str, subject: &str, grpc: SocketAddr) -> Command {
    let mut command = Command::new(program);
    // Nothing of this machine's configuration counts: no variables, and a file with nothing in it.
    // The responder echoes, and its answers are compared with what was asked: no profile changes that.
    command
        .env_clear()
        .env("ROUTER_DECIDE_SUBJECT", subject)
        .env("IPC_GATEWAY__ROUTES__DECIDE__PROFILE", "raw")
        .env("IPC_GATEWAY__ROUTES__DECIDE__CALLS_MAX", "0");
    command.arg("run");
    command.arg("--config").arg(folder.join("gateway.toml"));
    command.arg("--socket").arg(socket(folder)).args(["--nats-url", url, "--admin-port", "0"]);
    command.args(["--log-level", "warn"]);
    for setting in [
        "limits.rate_per_second=10000000",
        "limits.peer_rate_per_second=10000000",
        "limits.peer_rate_local=true",
        "http.port=0",
        &format!("grpc.port={}", grpc.port()),
    ] {
        command.args(["--set", setting]);
    }
    command
}

/// The addresses that the server took.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
    #[serde(default, rename = "websocket")]
    web_socket: Vec<String>,
}

/// The addresses that the server took, once it wrote them down.
async fn ports(nats: &mut Process, folder: &Path) -> Result<Ports, String> {
    let written = || {
        let files = std::fs::read_dir(folder).ok()?;
        let mut paths = files.filter_map(Result::ok).map(|file| file.path());
        let path = paths.find(|path| path.extension().is_some_and(|extension| extension == "ports"))?;
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    };
    let waiting = async {
        loop {
            if let Some(ports) = written() {
                return Ok(ports);
            }
            nats.check()?;
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(READY_LIMIT, waiting).await.unwrap_or_else(|_| Err("nats-server is not up".to_owned()))
}

/// A child process, ended when it is dropped.
#[derive(Debug)]
struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(name: &'static str, folder: &Path, mut command: Command) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot start {name}: {error}");
        let log = folder.join(format!("{name}.log"));
        std::fs::write(folder.join("gateway.toml"), "").map_err(failed)?;
        let file = File::create(&log).map_err(failed)?;
        let child = command
            .current_dir(folder)
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            .spawn()
            .map_err(failed)?;
        Ok(Self { name, child, log })
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    /// That it still runs.
    fn check(&mut self) -> Result<(), String> {
        let ended = self.child.try_wait().ok().flatten();
        match ended {
            None => Ok(()),
            Some(status) => Err(format!("{} ended ({status}): {}", self.name, self.log())),
        }
    }

    /// The end of its log.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let start = text.ceil_char_boundary(text.len().saturating_sub(LOG_BYTES_MAX));
        text[start..].trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already; either way nothing of it is left.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
