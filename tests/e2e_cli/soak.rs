//! `soak`: a short one with every fault holds, and ends well when it is told to.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::bench::assert_nothing_is_left;
use crate::program::{Running, command, run};

const FAULTS: [&str; 7] = [
    "late-answers",
    "nats-killed",
    "nats-paused",
    "reload",
    "responder-killed",
    "responder-paused",
    "slow-subscriber",
];
const DOORS: [&str; 8] = ["grpc", "http", "json", "tasks", "unix", "unix-v1", "ws", "ws-binary"];

/// The soak, with the nats-server of these tests and a temporary folder of its own.
fn soak(place: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = command(&["soak", "--self-contained", "--rate", "150/s", "--connections", "16"]);
    let server = std::env::var_os("NATS_SERVER_BIN");
    command
        .args(arguments)
        .envs(server.map(|server| ("NATS_SERVER_BIN", server)))
        .env("TMPDIR", place.path());
    command
}

fn names(list: &Value, name: &str) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|one| one[name].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_request_has_one_true_answer_and_nothing_is_kept_while_everything_fails_in_turn() {
    let place = tempfile::tempdir().unwrap();
    let results = tempfile::tempdir().unwrap();
    let mut command = soak(&place, &["--duration", "24s", "--fault-every", "3s", "--seed", "1", "--json"]);
    command.arg("--save").arg(results.path());
    let ran = run(command, b"");
    let [report] = &ran.objects()[..] else { panic!("{ran:?}") };
    // The verdict alone: what it rests on is long.
    assert_eq!(ran.code, 0, "{:#}\n{:#}", report["verdict"], report["findings"]);
    assert_eq!(report["holds"], true);
    let verdict = names(&report["verdict"], "name");
    assert_eq!(verdict, ["answers", "faults", "given back", "memory", "processes"].map(str::to_owned).into());
    assert_eq!(names(&report["faults"], "fault"), FAULTS.map(str::to_owned).into());
    assert_eq!(report["doors"].as_object().unwrap().keys().collect::<Vec<_>>(), DOORS);
    for (door, times) in report["doors"].as_object().unwrap() {
        assert!(times["answers"].as_u64().unwrap() > 0 && times["quiet"]["p99_ms"].is_number(), "{door}");
    }
    // Both kinds of truth were told, and clients went away in the middle.
    assert!(
        names(&report["errors"], "outcome").is_superset(&["not_sent", "unknown"].map(str::to_owned).into())
    );
    assert!(report["requests"]["left"].as_u64().unwrap() > 0, "{}", report["requests"]);
    assert!(
        report["news"]["delivered"].as_u64().unwrap() > 0 && report["news"]["gaps"].as_u64().unwrap() > 0
    );
    assert!(report["machine"]["nats_server"].is_string());
    let saved: Vec<_> =
        std::fs::read_dir(results.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let saved: Value = serde_json::from_slice(&std::fs::read(&saved[0]).unwrap()).unwrap();
    assert_eq!(saved, *report);
    assert_nothing_is_left(&place);
}

#[test]
fn a_signal_ends_it_with_the_report_so_far() {
    let place = tempfile::tempdir().unwrap();
    let progress = tempfile::NamedTempFile::new().unwrap();
    let mut command = soak(&place, &["--duration", "60m", "--faults", "none"]);
    command.stderr(File::create(progress.path()).unwrap());
    let mut running = Running::start(command);
    let told = || std::fs::read_to_string(progress.path()).unwrap();
    while !told().contains("answered") {
        assert!(!running.has_ended(), "{}", told());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    running.signal(Signal::INT);
    let (status, report) = running.end();
    assert!(report.contains("(interrupted)") && report.contains("ok    answers"), "{report}\n{}", told());
    assert!(report.contains("too few samples to judge it"), "{report}");
    assert_eq!(status.code(), Some(130), "{report}");
    assert_nothing_is_left(&place);
}

#[test]
fn a_run_that_ends_before_its_first_fault_is_refused_at_once() {
    let place = tempfile::tempdir().unwrap();
    let ran = run(soak(&place, &["--duration", "10s", "--fault-every", "10s"]), b"");
    ran.assert_complains(2, &["no fault would come", "--faults none"]);
}
