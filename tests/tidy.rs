//! Tidiness: what the compiler does not keep of the design. Who may know whom, what a file looks like, what no
//! file may hold. Each finding tells file, line and rule.
//!
//! A rule is a function from the sources (or the workspace's members) to findings, and is shown a fault of its
//! kind too, so that a rule that finds nothing is known to have looked.

#![expect(
    clippy::unwrap_used,
    reason = "tests state their expectations with unwrap, in functions they share too"
)]

#[path = "tidy/members.rs"]
mod members;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use members::Member;
use source::{Source, Text};

/// Sees that there is nothing to tidy up.
fn expect_none(findings: &[String]) {
    assert!(findings.is_empty(), "{} to tidy up:\n{}", findings.len(), findings.join("\n"));
}

/// Sees that a rule finds this fault, once, where it is.
fn expect_found(findings: &[String], place: &str) {
    assert!(findings.len() == 1 && findings[0].starts_with(&format!("{place}: ")), "{place}: {findings:?}");
}

#[test]
fn members_depend_on_whom_they_may() {
    expect_none(&members::dependencies(&members::all()));
    for (member, dependency) in [
        ("frontends/contract", "ipc-gateway-wire"),
        ("frontends/contract", "async-nats"),
        ("frontends/contract", "hyper"),
        ("frontends/wire", "ipc-gateway-ipc"),
        ("frontends/ipc", "ipc-gateway"),
        ("frontends/ipc", "ipc-gateway-http"),
        ("frontends/websocket", "async-nats"),
        ("frontends/http", "tonic"),
        ("", "prost"),
    ] {
        let fault = Member::example(member, dependency);
        expect_found(&members::dependencies(&[fault]), &members::manifest(member));
    }
    for (member, dependency) in [
        ("frontends/http", "ipc-gateway-websocket"),
        ("frontends/grpc", "tonic"),
        ("frontends/ipc", "ipc-gateway-contract"),
        ("", "async-nats"),
    ] {
        expect_none(&members::dependencies(&[Member::example(member, dependency)]));
    }
}

#[test]
fn members_are_where_the_layout_has_them_and_carry_licence_and_lints() {
    expect_none(&members::form(&members::all()));
    let fault = |change: fn(&mut Member)| {
        let mut member = Member::example("frontends/ipc", "ipc-gateway-contract");
        change(&mut member);
        members::form(&[member])
    };
    expect_none(&fault(|_| ()));
    expect_found(&fault(|member| member.licence = None), "frontends/ipc/Cargo.toml");
    expect_found(&fault(|member| member.inherits_lints = false), "frontends/ipc/Cargo.toml");
    expect_found(&fault(|member| member.name = "ipc".into()), "frontends/ipc/Cargo.toml");
    expect_found(&fault(|member| member.directory = "libraries/ipc".into()), "libraries/ipc/Cargo.toml");
}

#[test]
fn the_workspace_forbids_what_is_unsafe_and_has_a_licence() {
    let manifest = members::root_manifest();
    assert_eq!(manifest["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    assert!(members::licence().contains("MIT License"));
}

/// A rule over one source.
type Rule = fn(&Source) -> Vec<String>;

/// Runs a rule over every source, and over its faults.
fn keep(rule: Rule, faults: &[(&str, &str, usize)]) {
    let sources = source::all();
    assert!(sources.len() > 50, "only {} sources were found", sources.len());
    expect_none(&sources.iter().flat_map(rule).collect::<Vec<_>>());
    for (path, text, line) in faults {
        expect_found(&rule(&Source::new(path, text)), &format!("{path}:{line}"));
    }
}

#[test]
fn rules_know_no_door_and_no_backend() {
    keep(
        rules::policies_know_no_door_and_no_backend,
        &[
            ("src/policies/a.rs", "//! A.\nuse crate::backend::Backend;\n", 2),
            ("src/policies/a.rs", "//! A.\nuse crate::{\n    route::Call,\n    backend,\n};\n", 4),
            ("src/policies/a/mod.rs", "//! A.\nuse super::super::backend::Reading;\n", 2),
            ("src/policies/a.rs", "//! A.\nfn f() { crate::backend::f() }\n", 2),
            ("src/policies/a.rs", "//! A.\nuse ipc::UnixSocket;\n", 2),
        ],
    );
}

#[test]
fn backends_know_no_rule() {
    keep(
        rules::backends_know_no_policy,
        &[("src/backend/nats/pool.rs", "//! A.\n\nuse crate::policies::trace::Trace;\n", 3)],
    );
}

#[test]
fn only_the_assembly_sees_everything_and_only_the_pipeline_knows_the_order() {
    keep(
        rules::only_the_assembly_sees_everything,
        &[
            ("src/admin.rs", "//! A.\nuse ipc::Settings;\n", 2),
            ("src/client/v2.rs", "//! A.\nuse grpc::client::Session;\n", 2),
            ("src/client/grpc.rs", "//! A.\nuse grpc::Settings;\n", 2),
            ("src/rules.rs", "//! A.\nuse crate::pipeline::pipeline;\n", 2),
            (
                "src/rules.rs",
                "//! A.\nuse crate::policies::trace::Trace;\nuse crate::policies::measure::Measure;\n",
                3,
            ),
            ("src/app.rs", "//! A.\nfn f() { x.layer(Enforce(y)) }\n", 2),
        ],
    );
}

#[test]
fn only_main_ends_the_process() {
    keep(
        rules::only_main_ends_the_process,
        &[
            ("src/cli/run.rs", "//! A.\nuse std::process;\nfn f() { process::exit(1) }\n", 3),
            ("src/app.rs", "//! A.\nfn f() { std::process::abort() }\n", 2),
            ("src/app.rs", "//! A.\nuse std::process::ExitCode;\n", 2),
        ],
    );
}

#[test]
fn protocol_crates_are_named_by_their_owner_alone() {
    keep(
        rules::protocol_crates_have_one_owner,
        &[
            ("src/app.rs", "//! A.\nuse async_nats::Client;\n", 2),
            ("frontends/http/src/lib.rs", "//! A.\nuse tonic::Status;\n", 2),
            ("src/backend/nats/pool.rs", "//! A.\nfn f(x: prost::Message) {}\n", 2),
        ],
    );
}

#[test]
fn every_file_opens_with_its_purpose() {
    keep(rules::opens_with_its_purpose, &[("src/a.rs", "use std::io;\n//! Late.\n", 1), ("src/a.rs", "", 1)]);
}

#[test]
fn no_file_is_long() {
    let long = format!("//! A.\n{}", "fn f() {}\n".repeat(500));
    let tests = format!("//! A.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    fn f() {}\n".repeat(500));
    keep(rules::is_short, &[("src/a.rs", &long, 501)]);
    expect_none(&rules::is_short(&Source::new("src/a.rs", &tests)));
}

#[test]
fn no_unwrap_and_nothing_unfinished_outside_tests() {
    keep(
        rules::no_unwrap_and_nothing_unfinished,
        &[
            ("src/a.rs", "//! A.\nfn f() { x.unwrap(); }\n", 2),
            ("src/a.rs", "//! A.\nfn f() {\n    todo!()\n}\n", 3),
            ("frontends/ipc/src/a.rs", "//! A.\nfn f() { unimplemented!(\"later\") }\n", 2),
            (
                "src/a.rs",
                "//! A.\n#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }\nfn g() { x.unwrap() }\n",
                4,
            ),
        ],
    );
    for fine in [
        "//! x.unwrap()\nfn f() { \"x.unwrap()\"; /* todo!() */ x.unwrap_or(1); '\"'; x; \"\\\".unwrap()\" }\n",
        "//! A.\nfn f() { r#\"x.\".unwrap()\"#; }\n",
        "//! A.\n#[cfg(all(test, unix))]\nmod tests { fn f<'a>() { x.unwrap() } }\n",
    ] {
        expect_none(&rules::no_unwrap_and_nothing_unfinished(&Source::new("src/a.rs", fine)));
    }
}

#[test]
fn no_file_names_somebodys_home() {
    let texts = source::texts();
    assert!(texts.len() > 50, "only {} files were found", texts.len());
    expect_none(&texts.iter().flat_map(rules::no_home_directory).collect::<Vec<_>>());
    for home in ["home", "Users", "root"] {
        let fault = Text { path: "docs/a.md".into(), text: format!("See\n`/{home}/me/notes`.\n") };
        expect_found(&rules::no_home_directory(&fault), "docs/a.md:2");
    }
}
