//! A child process: its log is a file of the run's folder, and it ends when its value is dropped.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

/// A process that is not up by then has failed.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks whether a process is up, or has ended.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The most of a log that is shown when something went wrong.
const LOG_BYTES_MAX: usize = 2000;

/// The process.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it in `folder`, with both outputs in a log there. Fails with a line for a person.
    pub(crate) fn start(name: &'static str, folder: &Path, mut command: Command) -> Result<Self, String> {
        let (file, log) = log_in(folder, name)?;
        let copy = file.try_clone().map_err(|error| failed(name, &error))?;
        command.stdout(copy).stderr(file);
        Self::spawn(name, folder, command, log)
    }

    /// As [`Self::start`], with standard output for the caller to read.
    pub(crate) fn start_telling(
        name: &'static str,
        folder: &Path,
        mut command: Command,
    ) -> Result<(Self, ChildStdout), String> {
        let (file, log) = log_in(folder, name)?;
        command.stdout(Stdio::piped()).stderr(file);
        let mut process = Self::spawn(name, folder, command, log)?;
        let output = process.child.stdout.take().expect("its output is a pipe");
        Ok((process, output))
    }

    fn spawn(name: &'static str, folder: &Path, mut command: Command, log: PathBuf) -> Result<Self, String> {
        let child = command.current_dir(folder).spawn().map_err(|error| failed(name, &error))?;
        Ok(Self { name, child, log })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// That it still runs.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let ended = self.child.try_wait().ok().flatten();
        match ended {
            None => Ok(()),
            Some(status) => Err(format!("{} ended ({status}): {}", self.name, self.log())),
        }
    }

    /// All of its log.
    pub(crate) fn whole_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        let text = self.whole_log();
        let start = text.ceil_char_boundary(text.len().saturating_sub(LOG_BYTES_MAX));
        text[start..].trim().to_owned()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|error| format!("cannot signal {}: {error}", self.name))
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .map_err(|error| format!("cannot end {}: {error}", self.name))
    }

    /// Ends its input, which ends a responder in good order, and waits for that.
    pub(crate) async fn end_input(&mut self, limit: Duration) -> Result<(), String> {
        drop(self.child.stdin.take());
        let until = Instant::now() + limit;
        while self.child.try_wait().ok().flatten().is_none() {
            if Instant::now() > until {
                return Err(format!("{} did not end within {limit:?}", self.name));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

fn log_in(folder: &Path, name: &'static str) -> Result<(File, PathBuf), String> {
    let log = folder.join(format!("{name}.log"));
    let file = File::create(&log).map_err(|error: io::Error| failed(name, &error))?;
    Ok((file, log))
}

fn failed(name: &str, error: &io::Error) -> String {
    format!("cannot start {name}: {error}")
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already; either way nothing of it is left.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
