//! The commands of `docs/beamline.md` that put a gateway before a router: what an operator pastes works.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::client::{Client, kind};
use crate::gateway::{PROGRAM, eventually};
use crate::nats_server::{self, free_port};

/// The page.
const PAGE: &str = "docs/beamline.md";

/// What the commands started, which ends with the value.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // A group of its own: the shell and the three programs.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// The first block of commands below this heading.
fn block(heading: &str) -> String {
    let page = fs::read_to_string(PAGE).unwrap();
    let (_, below) = page.split_once(&format!("\n## {heading}\n")).expect("the page has the heading");
    let (_, begun) = below.split_once("```sh\n").unwrap();
    begun.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_three_commands_of_the_page_put_a_gateway_before_a_router() {
    let place = TempDir::with_prefix("gw").unwrap();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("bin")).unwrap();
    symlink(PROGRAM, path("bin/ipc-gateway")).unwrap();
    let server = which(nats_server::binary().to_str().unwrap());
    // It takes its time to be there; the two behind it are not typed by a person who waits.
    let slow = format!("#!/bin/sh\nsleep 0.7\nexec '{}' \"$@\"\n", server.display());
    fs::write(path("bin/nats-server"), slow).unwrap();
    fs::set_permissions(path("bin/nats-server"), Permissions::from_mode(0o755)).unwrap();
    // The page has the usual port; here it is a free one.
    let commands = block("Three commands");
    assert_eq!(commands.lines().count(), 3, "{commands}");
    assert_eq!(commands.matches("127.0.0.1:4222").count(), 2, "{commands}");
    let commands = commands.replace("4222", &free_port().to_string());
    let shell = Command::new("sh")
        .args(["-c", &commands])
        .env_clear()
        .env("PATH", format!("{}:{}", path("bin").display(), std::env::var("PATH").unwrap()))
        .env("IPC_GATEWAY__IPC__PATH", path("socket"))
        .env("IPC_GATEWAY__HTTP__PORT", "0")
        .env("IPC_GATEWAY__GRPC__PORT", "0")
        .env("IPC_GATEWAY__ADMIN__PORT", "0")
        .current_dir(place.path())
        .stdin(Stdio::null())
        .stdout(File::create(path("out")).unwrap())
        .stderr(File::create(path("complaints")).unwrap())
        .process_group(0)
        .spawn();
    let started = Started(shell.unwrap());
    let said = || format!("{:?}", ["out", "complaints"].map(|name| fs::read_to_string(path(name)).unwrap()));
    let mut answer = String::new();
    eventually("a task is decided", || {
        if !path("socket").exists() {
            return false;
        }
        let frame = Client::connect(&path("socket")).ask(kind::TASK_SUBMIT, r#"{"task_id":"test1"}"#);
        answer = format!("{} {}", frame.text(), said());
        frame.kind == kind::RESPONSE_OK
    });
    assert!(answer.contains(r#""provider_id""#) && answer.contains("test1"), "{answer}");
    assert!(!answer.contains(r#""demo":true"#), "the gateway's own demo answered: {answer}");
    drop(started);
}

/// Where a program of this name is.
fn which(program: &str) -> std::path::PathBuf {
    let dirs = std::env::var_os("PATH").unwrap();
    // A path that is whole stays as it is.
    let found = std::env::split_paths(&dirs).map(|dir| dir.join(program)).find(|path| path.is_file());
    found.expect("nats-server is there")
}
