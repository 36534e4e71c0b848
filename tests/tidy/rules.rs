//! The rules over sources.

use std::collections::BTreeSet;

use crate::members::door_crates;
use crate::source::{Source, Text};

/// Lines of a file, its tests not counted.
const LINES_MAX: usize = 500;

fn is_in(source: &Source, places: &[&str]) -> bool {
    places.iter().any(|place| source.path.starts_with(place))
}

/// Whether a path of names begins with these.
fn begins(path: &[String], names: &[&str]) -> bool {
    path.len() >= names.len() && path.iter().zip(names).all(|(have, want)| have == want)
}

/// Whether a path of names begins with the crate of a door.
fn is_of_a_door(path: &[String]) -> bool {
    path.len() > 1 && door_crates().contains(&path[0])
}

pub(crate) fn policies_know_no_door_and_no_backend(source: &Source) -> Vec<String> {
    if !is_in(source, &["src/policies/", "src/policies.rs"]) {
        return Vec::new();
    }
    source.first_named("a policy names neither a door nor the backend", |path| {
        begins(path, &["crate", "backend"]) || is_of_a_door(path)
    })
}

pub(crate) fn backends_know_no_policy(source: &Source) -> Vec<String> {
    if !is_in(source, &["src/backend/", "src/backend.rs"]) {
        return Vec::new();
    }
    source.first_named("a backend names no policy", |path| begins(path, &["crate", "policies"]))
}

pub(crate) fn only_the_assembly_sees_everything(source: &Source) -> Vec<String> {
    if source.is_test || !is_in(source, &["src/"]) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if !is_in(source, &["src/app.rs", "src/app/"]) {
        // A door whose protocol has crates of its own brings its client along: nobody else may name those crates.
        let client = source.path == "src/client/grpc.rs";
        findings.extend(source.first_named("only app.rs names the doors", |path| {
            let is_the_client =
                client && path[0] == "grpc" && path.get(1).is_some_and(|part| part != "Settings");
            is_of_a_door(path) && !is_the_client
        }));
        findings.extend(source.first_named("only app.rs builds on the pipeline", |path| {
            begins(path, &["crate", "pipeline", "pipeline"])
        }));
    }
    if !is_in(source, &["src/pipeline.rs", "src/policy.rs", "src/policies"]) {
        let enforce = |path: &[String]| path.last().is_some_and(|name| name == "Enforce");
        findings.extend(source.first_named("only pipeline.rs puts a policy into the order", enforce));
        let mut policies = BTreeSet::new();
        let second = source.names().into_iter().find(|named| {
            begins(&named.path, &["crate", "policies"])
                && named.path.get(2).is_some_and(|policy| policies.insert(policy.clone()))
                && policies.len() > 1
        });
        let rule = "only pipeline.rs names more than one policy";
        findings.extend(second.map(|named| source.finding(named.line, rule)));
    }
    findings
}

pub(crate) fn only_main_ends_the_process(source: &Source) -> Vec<String> {
    if source.is_test || source.path == "src/main.rs" {
        return Vec::new();
    }
    source.first_named("only main.rs ends the process", |path| {
        path.windows(2).any(|pair| {
            pair[0] == "process" && matches!(pair[1].as_str(), "exit" | "abort" | "ExitCode" | "Termination")
        })
    })
}

pub(crate) fn protocol_crates_have_one_owner(source: &Source) -> Vec<String> {
    if source.is_test {
        return Vec::new();
    }
    let owners =
        [("async_nats", "src/backend/nats"), ("tonic", "frontends/grpc/"), ("prost", "frontends/grpc/")];
    source.first_named(
        "async-nats is named by src/backend/nats alone, tonic and prost by frontends/grpc",
        |path| {
            owners.iter().any(|(name, owner)| {
                let is_it = |first: &String| first == name || first.starts_with(&format!("{name}_"));
                path.first().is_some_and(is_it) && path.len() > 1 && !source.path.starts_with(owner)
            })
        },
    )
}

pub(crate) fn opens_with_its_purpose(source: &Source) -> Vec<String> {
    let opens = source.text.lines().next().is_some_and(|line| {
        line.strip_prefix("//! ").is_some_and(|purpose| purpose.starts_with(|c: char| !c.is_whitespace()))
    });
    if opens { Vec::new() } else { vec![source.finding(1, "a file opens with //! and its purpose")] }
}

pub(crate) fn is_short(source: &Source) -> Vec<String> {
    if source.is_test {
        return Vec::new();
    }
    // Where the module of tests stands, its lines are blank in `code` and not in the text.
    let of_tests = source.text.lines().zip(source.code.lines());
    let of_tests = of_tests.filter(|(text, code)| code.is_empty() && !text.is_empty() && !is_comment(text));
    let lines = source.text.lines().count();
    let counted = lines - of_tests.count();
    if counted <= LINES_MAX {
        return Vec::new();
    }
    vec![source.finding(lines, &format!("{counted} lines beside its tests, {LINES_MAX} are allowed"))]
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

pub(crate) fn no_unwrap_and_nothing_unfinished(source: &Source) -> Vec<String> {
    if source.is_test {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in source.code.lines().enumerate() {
        let compact: String = line.split_whitespace().collect();
        if compact.contains(".unwrap()") {
            findings.push(source.finding(number + 1, "no unwrap outside tests: expect(\"<the invariant>\")"));
        }
        if ["todo!", "unimplemented!"].iter().any(|unfinished| compact.contains(unfinished)) {
            findings.push(source.finding(number + 1, "nothing is left unfinished"));
        }
    }
    findings
}

pub(crate) fn no_home_directory(text: &Text) -> Vec<String> {
    let is_home = |line: &str| {
        ["home", "Users", "root"].iter().any(|home| {
            let home = format!("/{home}/");
            // Not within a longer path, such as an address on the web.
            line.match_indices(&home)
                .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == '}'))
        })
    };
    let lines = text.text.lines().enumerate().filter(|(_, line)| is_home(line));
    lines.map(|(number, _)| format!("{}:{}: a path of somebody's home", text.path, number + 1)).collect()
}
