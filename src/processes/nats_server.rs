//! A nats-server on a port of its own, which it keeps when it is started again.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::process::{LOOK_EVERY, Process, READY_LIMIT};

/// Only a file can ask for a WebSocket listener.
const CONFIGURATION: &str = "websocket { host: \"127.0.0.1\", port: -1, no_tls: true }\n";
/// Below the first port for outgoing connections on Linux (32768) and on the BSDs and macOS (49152): so nothing
/// takes the port while the server is down, not even whoever tries to connect to it.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How often another port is tried when somebody took the one that was free.
const TRIES: usize = 20;

/// The server.
#[derive(Debug)]
pub(crate) struct NatsServer {
    pub(crate) process: Process,
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    /// Host and port of its own WebSocket listener, another one after each start.
    pub(crate) web_socket: Option<String>,
}

impl NatsServer {
    /// Starts it with its files in `folder`, and waits until it listens. Fails with a line for a person.
    pub(crate) async fn start(program: &Path, folder: &Path) -> Result<Self, String> {
        std::fs::write(folder.join("nats.conf"), CONFIGURATION)
            .map_err(|error| format!("cannot write nats-server's configuration: {error}"))?;
        let mut problem = String::new();
        for _ in 0..TRIES {
            let port = free_port();
            match launch(program, folder, port).await {
                Ok((process, web_socket)) => {
                    let (program, folder) = (program.to_owned(), folder.to_owned());
                    return Ok(Self { process, program, folder, port, web_socket });
                }
                Err(line) => problem = line,
            }
        }
        Err(problem)
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it on its port after [`Process::kill`].
    pub(crate) async fn start_again(&mut self) -> Result<(), String> {
        (self.process, self.web_socket) = launch(&self.program, &self.folder, self.port).await?;
        Ok(())
    }
}

async fn launch(program: &Path, folder: &Path, port: u16) -> Result<(Process, Option<String>), String> {
    let mut command = Command::new(program);
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--ports_file_dir"]).arg(folder);
    command.arg("--config").arg(folder.join("nats.conf"));
    let mut process = Process::start("nats-server", folder, command)?;
    let Ports { web_socket } = ports(&mut process, folder).await?;
    let web_socket = web_socket.first().and_then(|url| url.strip_prefix("ws://")).map(ToOwned::to_owned);
    Ok((process, web_socket))
}

/// The addresses that the server took.
#[derive(Deserialize)]
struct Ports {
    #[serde(default, rename = "websocket")]
    web_socket: Vec<String>,
}

/// The addresses that the server took, once it wrote them down: in a file with its process in the name, so that
/// what an earlier one left is not taken for it.
async fn ports(process: &mut Process, folder: &Path) -> Result<Ports, String> {
    let end = format!("_{}.ports", process.id());
    let written = || {
        let files = std::fs::read_dir(folder).ok()?;
        let mut paths = files.filter_map(Result::ok).map(|file| file.path());
        let path = paths.find(|path| path.to_string_lossy().ends_with(&end))?;
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    };
    let waiting = async {
        loop {
            if let Some(ports) = written() {
                return Ok(ports);
            }
            process.check()?;
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(READY_LIMIT, waiting).await.unwrap_or_else(|_| Err("nats-server is not up".to_owned()))
}

/// A port that nothing listens on. nats-server says so if somebody took it since.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
