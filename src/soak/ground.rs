//! The ground of a soak: nats-server, a responder that is its witness, and a gateway whose configuration is a
//! file, so that it can be changed while it runs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::caller::WORK;
use super::course::Course;
use super::plan::Plan;
use super::task::Task;
use crate::bench;
use crate::client::{Call, Line, Lost, Pages, Reach, Samples, Say, Via, What};
use crate::processes::Tools;
use crate::processes::gateway::{self, GatewayProcess};
use crate::processes::nats_server::NatsServer;
use crate::processes::process::{LOOK_EVERY, Process, READY_LIMIT};

/// How long the responder may take to end in good order.
const END_LIMIT: Duration = Duration::from_secs(20);

/// The processes. Fields are dropped in their order: the gateway first, the folder last.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) gateway: GatewayProcess,
    pub(super) responder: Process,
    pub(super) nats: NatsServer,
    /// Those who read what responders tell.
    readers: Vec<JoinHandle<()>>,
    folder: TempDir,
    tools: Tools,
    plan: Plan,
}

impl Ground {
    /// Starts all of them, and waits until a request goes all the way. What the responder sees is taken down in
    /// the ledger of `course`. Fails with a line for a person.
    pub(super) async fn start(tools: &Tools, course: &Arc<Course>) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| format!("no temporary folder: {error}"))?;
        let path = folder.path();
        let nats = NatsServer::start(&tools.nats_server, path).await?;
        let (url, plan) = (nats.url(), course.plan.clone());
        let (responder, reader) = responder(tools, path, &url, course)?;
        let configuration = configuration(&plan, CALLS_MAX);
        let gateway = GatewayProcess::start(&tools.gateway, path, &url, &configuration, |_| ()).await?;
        let (tools, readers) = (tools.clone(), vec![reader]);
        let mut ground = Self { gateway, responder, nats, readers, folder, tools, plan };
        ground.until_answered().await?;
        Ok(ground)
    }

    /// Starts a responder, when the last one has ended.
    pub(super) fn start_responder(&mut self, course: &Arc<Course>) -> Result<(), String> {
        let (responder, reader) = responder(&self.tools, self.folder.path(), &self.nats.url(), course)?;
        self.responder = responder;
        self.readers.retain(|reader| !reader.is_finished());
        self.readers.push(reader);
        Ok(())
    }

    /// Ends the responder in good order, and waits until all it told has been heard.
    pub(super) async fn end_responder(&mut self) -> Result<(), String> {
        self.responder.end_input(END_LIMIT).await?;
        for reader in self.readers.drain(..) {
            reader.join().map_err(|_| "who reads the responder's output panicked".to_owned())?;
        }
        Ok(())
    }

    /// What there is to measure a maximum of.
    pub(super) fn target(&self) -> bench::Target {
        bench::Target {
            reach: self.gateway.reach.clone(),
            nats: None,
            subject: WORK.to_owned(),
            gateway_pid: Some(self.gateway.process.id()),
            nats_pid: Some(self.nats.process.id()),
            nats_web_socket: None,
            answer_bytes: None,
        }
    }

    /// The gateway's metrics.
    pub(super) async fn metrics(&self) -> Result<Samples, String> {
        let (_, page) = Pages::connect(self.gateway.admin).await?.get("/metrics").await?;
        Ok(Samples::parse(&String::from_utf8_lossy(&page)))
    }

    /// Gives the gateway another limit of requests in progress and has it read its configuration again.
    pub(super) fn reload(&self, calls_max: u32) -> Result<(), String> {
        std::fs::write(gateway::file(self.folder.path()), configuration(&self.plan, calls_max))
            .map_err(|error| format!("cannot write the gateway's configuration: {error}"))?;
        self.gateway.process.signal(Signal::HUP)
    }

    /// That everything runs that should.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.gateway.process.check()?;
        self.responder.check()?;
        self.nats.process.check()
    }

    /// Waits until a request goes all the way.
    async fn until_answered(&mut self) -> Result<(), String> {
        let until = Instant::now() + READY_LIMIT;
        loop {
            let Err(problem) = ask(&self.gateway.reach).await else { return Ok(()) };
            self.check()?;
            if Instant::now() > until {
                return Err(format!("the gateway is not up: {problem}\n{}", self.gateway.process.log()));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Asks once, with what the witness takes no notice of.
async fn ask(reach: &Reach) -> Result<(), String> {
    let call = Call { subject: WORK.to_owned(), payload: "{}".into(), ..Call::default() };
    let told = |lost: Lost| lost.to_string();
    let mut line = Via::Unix.open(reach).await.map_err(told)?;
    let line: &mut dyn Line = &mut *line;
    line.say(0, &Say::Request(call)).map_err(|failure| failure.to_string())?;
    let heard = timeout(READY_LIMIT, line.heard()).await.map_err(|_| "no answer".to_owned())?;
    match heard.map_err(told)?.what {
        What::Reply { .. } => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// The limit of requests in progress at the start.
pub(super) const CALLS_MAX: u32 = 8192;

/// A gateway with every rule at work, in which what follows a fault is over as soon as the pace of faults needs
/// it.
fn configuration(plan: &Plan, calls_max: u32) -> String {
    let milliseconds = |duration: Duration| duration.as_millis().max(100);
    let (timeout, soon) = (milliseconds(plan.deadline()), milliseconds(plan.hold() / 5));
    format!(
        "[limits]\n\
         calls_max = {calls_max}\n\
         rate_per_second = 10000000\n\
         peer_rate_per_second = 10000000\n\
         peer_rate_local = true\n\
         slow_start_ms = {soon}\n\
         [ipc]\n\
         write_queue_bytes_max = 65536\n\
         [http]\n\
         keep_alive_ms = 3600000\n\
         [nats]\n\
         idle_shrink_ms = 5000\n\
         ping_interval_ms = {soon}\n\
         reconnect_delay_ms_max = {soon}\n\
         [breaker]\n\
         open_ms = {soon}\n\
         [reload]\n\
         watch_ms = 0\n\
         [routes.decide]\n\
         subject = \"{WORK}\"\n\
         profile = \"raw\"\n\
         calls_max = 0\n\
         timeout_ms = {timeout}\n\
         backpressure_enabled = false\n\
         [routes.work]\n\
         patterns = [\"{WORK}\"]\n\
         allow = [\"local\", \"loopback\"]\n\
         timeout_ms = {timeout}\n\
         [routes.flood]\n\
         patterns = [\"{FLOOD}\"]\n\
         queue_messages_max = 64\n",
        FLOOD = super::slow::FLOOD,
    )
}

/// A responder, and who reads what it tells.
fn responder(
    tools: &Tools,
    folder: &Path,
    url: &str,
    course: &Arc<Course>,
) -> Result<(Process, JoinHandle<()>), String> {
    let mut command = Command::new(&tools.gateway);
    // Its end of the pipe is closed when this process ends, however it ends, and that ends the responder.
    command.args(["soak-responder", "--servers", url, "--subject", WORK]).stdin(Stdio::piped());
    let (process, output) = Process::start_telling("responder", folder, command)?;
    let course = Arc::clone(course);
    Ok((process, std::thread::spawn(move || read(output, &course))))
}

/// Reads numbers, one a line, until the responder has ended.
fn read(output: ChildStdout, course: &Course) {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    // A line without its end was cut by the responder's.
    while output.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
        if let Ok(number) = line.trim_end().parse() {
            course.ledger().seen(number, course.now());
        }
        line.clear();
    }
}

/// What the responder writes down of a payload, and does about it: how long it waits, and whether it says no. What
/// is no task is echoed.
pub fn note(payload: &[u8], out: &mut dyn std::io::Write) -> std::io::Result<(Duration, bool)> {
    let Some(task) = Task::parse(payload) else { return Ok((Duration::ZERO, false)) };
    // In one write each, which a pipe takes whole or not at all.
    out.write_all(format!("{}\n", task.number).as_bytes())?;
    out.flush()?;
    Ok((task.wait, task.wants_no))
}
