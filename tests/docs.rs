//! The documentation's examples are run: what a reader pastes does what the page says.
//!
//! A block marked ```` ```sh run ```` is given to a shell beside a gateway of its own, whose addresses stand in for
//! the default ones; a ```` ```text output ```` block behind it is what the shell must print, where `…` stands for
//! anything within a line. A ```` ```hex frame ```` block is a conversation on one connection: lines of `>` are
//! sent, each line of `<` is one frame that must come, where `..` stands for any byte and `…` for any rest. A
//! ```` ```toml config ```` block is the file of the gateways that the examples behind it have. All other blocks are for
//! reading.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests state their expectations with unwrap, in functions they share too; what a failed gateway \
              logged is printed for whoever looks"
)]

#[path = "docs/blocks.rs"]
mod blocks;
#[allow(dead_code, reason = "shared with the tests of the whole program, which use all of it")]
#[path = "e2e/client.rs"]
mod client;
#[allow(dead_code, reason = "shared with the tests of the whole program, which use all of it")]
#[path = "fixtures/gateway.rs"]
mod gateway;
#[path = "fixtures/grpc_python.rs"]
mod grpc_python;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use blocks::{Example, examples};
use client::Client;
use gateway::{Gateway, PATIENCE, Start};

/// What the pages write for the addresses.
const SOCKET: &str = "/tmp/beamline-gateway.sock";
const ADMIN: &str = "127.0.0.1:8080";
const HTTP: &str = "127.0.0.1:8081";
const GRPC: &str = "127.0.0.1:50051";

/// Runs all examples of a page; returns what is wrong, each with its place, and how many were run.
fn run_page(name: &str, text: &str) -> (Vec<String>, usize) {
    let examples = match examples(text) {
        Ok(examples) => examples,
        Err((line, what)) => return (vec![format!("{name}:{line}: {what}")], 0),
    };
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("page.toml");
    let wrong = examples.iter().filter_map(|(line, example)| {
        if let Example::Configuration { text } = example {
            fs::write(&file, text).unwrap();
            return None;
        }
        let with_file = |start: Start| start.environment("IPC_GATEWAY_CONFIG", file.to_str().unwrap());
        let start = Gateway::with();
        let gateway = if file.exists() { with_file(start).gateway() } else { start.gateway() };
        let outcome = match example {
            Example::Configuration { .. } => Ok(()),
            Example::Shell { script, output } => run_shell(&gateway, script, output.as_deref()),
            Example::Frames { said } => run_frames(&gateway, said),
        };
        gateway.stop();
        outcome.err().map(|what| format!("{name}:{line}: {what}"))
    });
    (wrong.collect(), examples.len())
}

fn run_shell(gateway: &Gateway, script: &str, expected: Option<&str>) -> Result<(), String> {
    let here = |text: &str| {
        text.replace(SOCKET, gateway.socket().to_str().unwrap())
            .replace(ADMIN, &gateway.admin().to_string())
            .replace(HTTP, &gateway.http().to_string())
            .replace(GRPC, &gateway.grpc().to_string())
    };
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name);
    let mut shell = Command::new("sh");
    if script.contains("import grpc") {
        let folder = grpc_python::python().parent().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}:{path}", folder.display()));
    }
    shell
        .args(["-c", &here(script)])
        .env("NO_PROXY", "*")
        .env("no_grpc_proxy", "*")
        .current_dir(place.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(file("out")).unwrap())
        .stderr(fs::File::create(file("err")).unwrap())
        // A group of its own, so that nothing it started is left when it takes too long.
        .process_group(0);
    let mut shell = shell.spawn().unwrap();
    let patience = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = shell.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > patience {
            let group = i32::try_from(shell.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
            shell.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let printed = String::from_utf8_lossy(&fs::read(file("out")).unwrap()).into_owned();
    let complaints = fs::read_to_string(file("err")).unwrap();
    let all = format!("it printed:\n{printed}{complaints}");
    match status {
        None => return Err(format!("it did not end within {PATIENCE:?}; {all}")),
        Some(status) if !status.success() => return Err(format!("it ended with {status}; {all}")),
        Some(_) => {}
    }
    match expected {
        Some(expected) if !blocks::lines_match(&here(expected), &printed) => {
            Err(format!("the page says:\n{expected}\n{all}"))
        }
        _ => Ok(()),
    }
}

fn run_frames(gateway: &Gateway, said: &[blocks::Frame]) -> Result<(), String> {
    let mut client = Client::connect(&gateway.socket());
    let mut version = 1;
    for frame in said {
        match frame {
            blocks::Frame::Sent(bytes) => {
                // The first frame fixes the version; what is none is answered in version 1.
                version = if bytes.get(4) == Some(&2) { 2 } else { 1 };
                client.expect_version(version);
                client.write(bytes);
            }
            blocks::Frame::Expected(pattern) => {
                let came = client.receive();
                let mut bytes = client::frame(came.kind, &came.payload);
                bytes[4] = version;
                if !pattern.matches(&bytes) {
                    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    return Err(format!("the page says: {pattern}\nthis came:     {}", bytes.join(" ")));
                }
            }
        }
    }
    Ok(())
}

/// The README and all pages below `docs`.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut pages, mut directories) = (vec![root.join("README.md")], vec![root.join("docs")]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.retain(|page| page.exists());
    pages.sort();
    pages
}

#[test]
fn every_example_does_what_its_page_says() {
    let mut wrong = Vec::new();
    for page in pages() {
        let name = page.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
        let (findings, run) = run_page(&name, &fs::read_to_string(&page).unwrap());
        println!("{name}: {run} examples");
        assert!(name != "README.md" || run > 0 || !findings.is_empty(), "the README shows no request");
        wrong.extend(findings);
    }
    assert!(wrong.is_empty(), "{} examples are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn right_examples_pass() {
    let (wrong, run) = run_page("right.md", include_str!("docs/right.md"));
    assert_eq!((wrong, run), (Vec::new(), 5));
}

#[test]
fn each_wrong_example_is_found_at_its_line() {
    let (wrong, run) = run_page("wrong.md", include_str!("docs/wrong.md"));
    let places: Vec<_> = wrong.iter().map(|what| what.split(": ").next().unwrap()).collect();
    assert_eq!(
        (places, run),
        (vec!["wrong.md:4", "wrong.md:13", "wrong.md:19", "wrong.md:28"], 4),
        "{wrong:?}"
    );
}

#[test]
fn blocks_that_mean_nothing_are_found() {
    for (text, line) in [
        ("```sh runn\ntrue\n```\n", 1),
        ("\n```text output\nlost\n```\n", 2),
        ("```hex frame\n> 0\n```\n", 2),
        ("```hex frame\n> 00 xy\n```\n", 2),
        ("```hex frame\n> .. 00\n```\n", 2),
        ("```hex frame\n< … 00\n```\n", 2),
        ("```hex frame\n00\n```\n", 2),
        ("```sh run\ntrue\n", 1),
    ] {
        let (wrong, _) = run_page("page.md", text);
        assert!(wrong.len() == 1 && wrong[0].starts_with(&format!("page.md:{line}: ")), "{text}{wrong:?}");
    }
}
