//! The command `tests/defences/run`.

use std::path::PathBuf;
use std::process::ExitCode;

use defences::bench::{self, Verdict};
use defences::list::{self, Area, Defence};
use defences::{check, page};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
Usage: tests/defences/run [--list | --page] [--area AREA]... [--jobs N] [NAME]...

Proves that each defence is seen by a test. In a copy of the sources, each test is first seen to pass; then one defence
after the other is switched off, and its test must fail. Exits 0 if each was caught, 1 if one was not or could not be
judged, 2 if it was not understood.

  NAME          only rows whose names contain it
  --area AREA   only rows of this area, a file of tests/defences/areas/
  --jobs N      build with so many jobs at once
  --list        print the rows and run nothing
  --page        write docs/faults.md and run nothing
  --help        this text

Builds in target/defences, which stays and is used again; what tests printed is in target/defences/logs. Tests that
need a nats-server or Python's clients find them as in tests/run, which installs them.
";

#[derive(Debug, Default)]
struct Wanted {
    list: bool,
    page: bool,
    areas: Vec<String>,
    names: Vec<String>,
    jobs: Option<usize>,
}

impl Wanted {
    /// `None` if an argument is not understood.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut wanted = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => wanted.list = true,
                "--page" => wanted.page = true,
                "--area" => wanted.areas.push(arguments.next()?),
                "--jobs" => wanted.jobs = Some(arguments.next()?.parse().ok()?),
                option if option.starts_with('-') => return None,
                _ => wanted.names.push(argument),
            }
        }
        Some(wanted)
    }

    fn rows<'a>(&self, areas: &'a [Area]) -> Vec<&'a Defence> {
        let in_areas = areas.iter().filter(|area| self.areas.is_empty() || self.areas.contains(&area.name));
        let has_name = |row: &Defence| {
            self.names.is_empty() || self.names.iter().any(|name| row.name.contains(name.as_str()))
        };
        bench::in_order(in_areas.flat_map(|area| &area.defences).filter(|row| has_name(row)))
    }
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]
async fn main() -> ExitCode {
    if std::env::args().skip(1).any(|argument| argument == "--help" || argument == "-h") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Some(wanted) = Wanted::parse(std::env::args().skip(1)) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    tokio::select! {
        outcome = carry_out(&wanted) => outcome.unwrap_or_else(|what| {
            eprintln!("tests/defences/run: {what}");
            ExitCode::FAILURE
        }),
        () = interrupted() => {
            eprintln!("tests/defences/run: interrupted");
            ExitCode::FAILURE
        }
    }
}

/// Resolves when the run is to end: the test that runs then, and what it started, end with it.
async fn interrupted() {
    let mut asked = signal(SignalKind::terminate()).expect("signals can be listened to at the start");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = asked.recv() => {}
    }
}

#[expect(clippy::print_stdout, reason = "a program for a terminal")]
async fn carry_out(wanted: &Wanted) -> Result<ExitCode, String> {
    let root = list::root();
    let areas = list::read(&root)?;
    if wanted.page {
        let place = root.join(page::PLACE);
        std::fs::write(&place, page::text(&areas))
            .map_err(|error| format!("{}: {error}", place.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = wanted.rows(&areas);
    if rows.is_empty() {
        return Err("no row has such a name; see --list".to_owned());
    }
    if wanted.list {
        for row in &rows {
            println!("{}\n    {}\n    {}\n    {}", row.name, row.fault, row.file, row.test);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let findings = check::findings(&root, &areas);
    if !findings.is_empty() {
        return Err(format!("the list is not in order:\n{}", findings.join("\n")));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let scratch = target.join("defences");
    let lines = bench::run(&root, &scratch, &rows, wanted.jobs, &mut |line| println!("==> {line}"))
        .await
        .map_err(|error| error.to_string())?;
    print!("\n{}", bench::table(&lines));
    let caught = lines.iter().filter(|line| matches!(line.verdict, Verdict::Caught(_))).count();
    println!("\n{caught} of {} were caught", lines.len());
    Ok(if caught == lines.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
