//! The processes of a self-contained run: nats-server, a responder that echoes, and a gateway with every rule at
//! work, in a folder of their own, and all gone when the scene is dropped.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::load::probe;
use super::plan::{PAYLOAD_BYTES_MIN, Target};
use crate::client::{Call, Say, Via};
use crate::processes::Tools;
use crate::processes::gateway::GatewayProcess;
use crate::processes::nats_server::NatsServer;
use crate::processes::process::{LOOK_EVERY, Process, READY_LIMIT};

/// Limits that are there, and are above any load.
const SETTINGS: [&str; 3] = [
    "limits.rate_per_second=10000000",
    "limits.peer_rate_per_second=10000000",
    "limits.peer_rate_local=true",
];

/// The running processes. Fields are dropped in their order: the gateway first, the folder last.
#[derive(Debug)]
pub struct Scene {
    gateway: GatewayProcess,
    responder: Process,
    nats: NatsServer,
    _folder: TempDir,
}

impl Scene {
    /// Starts all of them, and waits until a request has gone all the way. `subject` is what the responder
    /// answers on. Fails with a line for a person; what was started is ended then.
    pub async fn start(tools: &Tools, subject: &str) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| format!("no temporary folder: {error}"))?;
        let path = folder.path();
        let nats = NatsServer::start(&tools.nats_server, path).await?;
        let url = nats.url();
        let responder = Process::start("responder", path, responder(&tools.gateway, &url, subject))?;
        // The responder echoes, and its answers are compared with what was asked: no profile changes that.
        let shape = |command: &mut Command| {
            command
                .env("ROUTER_DECIDE_SUBJECT", subject)
                .env("IPC_GATEWAY__ROUTES__DECIDE__PROFILE", "raw")
                .env("IPC_GATEWAY__ROUTES__DECIDE__CALLS_MAX", "0");
            for setting in SETTINGS {
                command.args(["--set", setting]);
            }
        };
        let gateway = GatewayProcess::start(&tools.gateway, path, &url, "", shape).await?;
        let mut scene = Self { gateway, responder, nats, _folder: folder };
        scene.wait().await?;
        Ok(scene)
    }

    /// What there is to measure, by answers of so many bytes.
    pub fn target(&self, answer_bytes: Option<usize>, subject: &str) -> Target {
        Target {
            reach: self.gateway.reach.clone(),
            nats: Some(self.nats.url()),
            subject: subject.to_owned(),
            gateway_pid: Some(self.gateway.process.id()),
            nats_pid: Some(self.nats.process.id()),
            nats_web_socket: self.nats.web_socket.clone(),
            answer_bytes,
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
            let problem = match Via::UnixV1.open(&self.gateway.reach).await {
                Ok(mut line) => probe(&mut *line, &say, Some(PAYLOAD_BYTES_MIN)).await,
                Err(lost) => Err(lost.to_string()),
            };
            let Err(problem) = problem else { return Ok(()) };
            for process in [&mut self.gateway.process, &mut self.responder, &mut self.nats.process] {
                process.check()?;
            }
            if Instant::now() > until {
                return Err(format!("the gateway is not up: {problem}\n{}", self.gateway.process.log()));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn responder(program: &Path, url: &str, subject: &str) -> Command {
    let mut command = Command::new(program);
    // Its end of the pipe is closed when this process ends, however it ends, and that ends the responder.
    command.args(["bench-responder", "--servers", url, "--subject", subject]).stdin(Stdio::piped());
    command
}
