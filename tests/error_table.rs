//! Keeps the table of errors in the documentation equal to the program's: clients are written from that page, so
//! a number that differs there is a bug in each of them.

use std::path::Path;

use contract::error::{Row, TABLE};
use contract::{Blame, Retry, Scope};

/// Names of the gRPC status codes, by number (grpc/doc/statuscodes.md).
const GRPC_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[test]
fn the_documented_table_of_errors_is_the_programs() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocols/errors.md");
    let text = std::fs::read_to_string(page).unwrap();
    let documented: Vec<String> = table(&text, "kind").collect();
    let expected: Vec<String> = TABLE.iter().map(line).collect();
    assert_eq!(documented, expected);
}

#[test]
fn every_kind_has_its_advice() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations/troubleshooting.md");
    let text = std::fs::read_to_string(page).unwrap();
    let advised: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("### `")).collect();
    let advised: Vec<&str> = advised.iter().map(|line| line.trim_end_matches('`')).collect();
    let expected: Vec<&str> = TABLE.iter().map(|row| row.code).collect();
    assert_eq!(advised, expected);
}

/// The rows of the table whose first heading is `first`, each with its cells joined by one space.
fn table<'a>(text: &'a str, first: &str) -> impl Iterator<Item = String> + use<'a> {
    let heading = format!("| {first} |");
    text.lines()
        .skip_while(move |line| !line.starts_with(&heading))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" "))
}

fn line(row: &Row) -> String {
    let blame = match row.blame {
        Blame::Peer => "peer",
        Blame::Gateway => "gateway",
        Blame::Backend => "backend",
    };
    let retry = match row.retry {
        Retry::Never => "never",
        Retry::Later => "later",
        Retry::IfIdempotent => "if idempotent",
    };
    let scope = match row.scope {
        Scope::Request => "request",
        Scope::Connection => "connection",
    };
    let Row { code, ipc, http, grpc, websocket, .. } = row;
    let (name, outcome) = (GRPC_NAMES[usize::from(*grpc)], row.outcome.code());
    format!("`{code}` {ipc} {http} {grpc} {name} {websocket} {blame} {retry} {scope} `{outcome}`")
}
