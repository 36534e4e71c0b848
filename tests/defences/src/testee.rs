//! Building a program of tests and running one test of it, with a limit to its time.
//!
//! The test's process leads a group, so that what it started (a gateway, a nats-server) ends with it when the time is
//! over. Cargo builds and does not run: it would be in between when the group is ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::process::Command;

use crate::list::Test;

/// The packages that are built again and again.
const MEMBERS: [&str; 7] = [
    "ipc-gateway",
    "ipc-gateway-contract",
    "ipc-gateway-grpc",
    "ipc-gateway-http",
    "ipc-gateway-ipc",
    "ipc-gateway-websocket",
    "ipc-gateway-wire",
];

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It passed.
    Passed,
    /// It failed; what it said first about it.
    Failed(String),
    /// Its time was over.
    TimedOut,
    /// Its process ended before it could say anything, such as by a signal.
    Died(String),
    /// The program has no such test.
    Missing,
}

/// Where programs of tests are built and run.
#[derive(Debug)]
pub struct Testees {
    sources: PathBuf,
    target: PathBuf,
    jobs: Option<usize>,
}

impl Testees {
    /// Builds the sources in `sources` into `target`, with so many jobs at once if it is said.
    pub fn new(sources: &Path, target: &Path, jobs: Option<usize>) -> Self {
        Self { sources: sources.to_owned(), target: target.to_owned(), jobs }
    }

    /// Builds the program of a test; the file, or what the compiler said.
    ///
    /// # Errors
    ///
    /// Cargo cannot be started.
    pub async fn build(&self, test: &Test) -> io::Result<Result<PathBuf, String>> {
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--locked", "--no-run", "--message-format=json-render-diagnostics", "--quiet"]);
        cargo.args(test.target()).current_dir(&self.sources).env("CARGO_TARGET_DIR", &self.target);
        // Half of the time would go into debug information, which nobody looks at here. Of the members alone: other
        // profiles of what they depend on would be built anew.
        for member in MEMBERS {
            cargo.args(["--config", &format!("profile.dev.package.{member}.debug=false")]);
            cargo.args(["--config", &format!("profile.dev.package.{member}.strip='debuginfo'")]);
        }
        if let Some(jobs) = self.jobs {
            cargo.args(["--jobs", &jobs.to_string()]);
        }
        let output = cargo.stdin(Stdio::null()).kill_on_drop(true).output().await?;
        if !output.status.success() {
            return Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let programs: BTreeMap<String, PathBuf> = messages.filter_map(|message| program(&message)).collect();
        let wanted = test.program.clone().unwrap_or_default();
        Ok(programs.get(&wanted).cloned().ok_or_else(|| "cargo told of no program".to_owned()))
    }

    /// Runs one test, writes what it printed to `log`, and says how it ended.
    ///
    /// # Errors
    ///
    /// The program cannot be started, or the log cannot be written.
    pub async fn run(&self, program: &Path, test: &Test, limit: Duration, log: &Path) -> io::Result<End> {
        let folder = self.sources.join(test.folder());
        let printed = fs::File::create(log)?;
        let mut child = Command::new(program)
            .args(["--exact", &test.name, "--nocapture"])
            .current_dir(&folder)
            .env("CARGO_MANIFEST_DIR", &folder)
            .env("CARGO", "cargo")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(printed.try_clone()?)
            .stderr(printed)
            .process_group(0)
            .spawn()?;
        let group = Group(child.id());
        let ended = tokio::time::timeout(limit, child.wait()).await;
        drop(group);
        let Ok(status) = ended else {
            child.wait().await?;
            return Ok(End::TimedOut);
        };
        Ok(end(status?, &String::from_utf8_lossy(&fs::read(log)?)))
    }
}

/// A process and what it started, ended when dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Nothing is left of it in the usual case.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// The program that a message of cargo tells of, by its name; of the library's unit tests the empty one.
fn program(message: &Value) -> Option<(String, PathBuf)> {
    let file = message["executable"].as_str()?;
    if message["profile"]["test"] != true {
        return None;
    }
    let target = &message["target"];
    let is_program = target["kind"].as_array()?.iter().any(|kind| kind == "test");
    let name = if is_program { target["name"].as_str()?.to_owned() } else { String::new() };
    Some((name, PathBuf::from(file)))
}

fn end(status: ExitStatus, text: &str) -> End {
    let has = |what: &str| text.lines().any(|line| line.contains(what));
    if status.success() {
        return if has("test result: ok. 1 passed") { End::Passed } else { End::Missing };
    }
    if has("test result: FAILED. 0 passed; 1 failed") {
        return End::Failed(first_said(text));
    }
    End::Died(status.to_string())
}

/// The first line of what a test said when it failed: the message of the panic that is told last of all is the test's.
fn first_said(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().rposition(|line| line.starts_with("thread '") && line.contains("panicked at"));
    let said = at.and_then(|at| lines[at + 1..].iter().find(|line| !line.trim().is_empty()));
    said.map_or_else(|| "it said nothing".to_owned(), |line| line.trim().chars().take(120).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn ended(code: i32, text: &str) -> End {
        end(ExitStatus::from_raw(code), text)
    }

    #[test]
    fn an_end_is_told_by_what_the_test_says_and_not_by_the_status_alone() {
        let passed = "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        assert_eq!(ended(0, passed), End::Passed);
        let none = "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 3 filtered out\n";
        assert_eq!(ended(0, none), End::Missing);
        let failed = "thread 'a' (7) panicked at src/a.rs:1:2:\n\nassertion failed: x\ntest a ... FAILED\n\n\
                      test result: FAILED. 0 passed; 1 failed; 0 ignored\n";
        assert_eq!(ended(101 << 8, failed), End::Failed("assertion failed: x".into()));
        assert_eq!(ended(6, "running 1 test\n"), End::Died("signal: 6 (SIGABRT)".into()));
    }
}
