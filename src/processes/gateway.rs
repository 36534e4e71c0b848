//! A gateway as a process: started with nothing of this machine's configuration, and found by its banner.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::time::{Instant, sleep};

use super::process::{LOOK_EVERY, Process, READY_LIMIT};
use crate::client::Reach;

/// The gateway, and where it is reached.
#[derive(Debug)]
pub(crate) struct GatewayProcess {
    pub(crate) process: Process,
    /// Its doors.
    pub(crate) reach: Reach,
    /// Its admin listener.
    pub(crate) admin: SocketAddr,
}

impl GatewayProcess {
    /// Starts it in front of the NATS server at `url`, with its socket in `folder` and `configuration` as its
    /// file, and waits until it says where its doors are. What `shape` adds to the command counts before the
    /// file. Fails with a line for a person.
    pub(crate) async fn start(
        program: &Path,
        folder: &Path,
        url: &str,
        configuration: &str,
        shape: impl FnOnce(&mut Command),
    ) -> Result<Self, String> {
        std::fs::write(file(folder), configuration)
            .map_err(|error| format!("cannot write the gateway's configuration: {error}"))?;
        let grpc = free_address().map_err(|error| format!("no free port: {error}"))?;
        let socket = folder.join("gateway.sock");
        let mut command = Command::new(program);
        // No variables of this machine's, and a file of the run's own.
        command.env_clear().arg("run").arg("--config").arg(file(folder));
        command.arg("--socket").arg(&socket).args(["--nats-url", url, "--admin-port", "0"]);
        command.args(["--log-level", "warn", "--set", "http.port=0"]);
        command.args(["--set", &format!("grpc.port={}", grpc.port())]);
        shape(&mut command);
        let mut process = Process::start("gateway", folder, command)?;
        let (http, admin) = addresses(&mut process).await?;
        Ok(Self { process, reach: Reach { socket, http, grpc }, admin })
    }
}

/// The file that a gateway in `folder` is configured by.
pub(crate) fn file(folder: &Path) -> PathBuf {
    folder.join("gateway.toml")
}

/// Where the HTTP door and the admin listener are: their ports are free ones, and the banner has them.
async fn addresses(process: &mut Process) -> Result<(String, SocketAddr), String> {
    let until = Instant::now() + READY_LIMIT;
    loop {
        let banner = process.whole_log();
        // A line without its end is not whole.
        let whole = banner.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let find = |name| whole.lines().find_map(|line| address_in(line, name));
        if let (Some(http), Some(Ok(admin))) = (find("http"), find("admin").map(|admin| admin.parse())) {
            return Ok((http, admin));
        }
        process.check()?;
        if Instant::now() > until {
            return Err(format!("the gateway does not say where its doors are\n{banner}"));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Host and port in a line of the banner that is for `name`: `http     http://127.0.0.1:8081  …`.
fn address_in(line: &str, name: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let address = words.by_ref().next().filter(|door| *door == name).and(words.next())?;
    address.strip_prefix("http://").map(ToOwned::to_owned)
}

/// An address whose port was free just now. The gateway says so if somebody took it since.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
