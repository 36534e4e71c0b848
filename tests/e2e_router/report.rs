//! `docs/router-e2e.md`: every check with what was seen, and the objectives with what was measured.
//!
//! It is written when the environment says so, and otherwise looked at: a check that is new, gone or reworded makes
//! the page out of date, and so does one that was written in spite of a failure. Figures are those of a release build;
//! any other leaves them as they are in the page, which says when and where they were measured.

use std::fmt::Write as _;
use std::process::Command;

use crate::checks::{CHECKS, Cell, Check};
use crate::objectives::{self, LIMITS_MS, Measured};
use crate::ways::WAYS;

/// The page.
const PAGE: &str = "docs/router-e2e.md";
/// The heading of the figures.
const OBJECTIVES: &str = "\n## Objectives\n";
/// Set to `write`, it has the page written.
const VARIABLE: &str = "ROUTER_E2E";

const HEAD: &str = "\
# Router end to end

What a client of the [Beamline router](beamline.md) relies on, by four ways into the real gateway, over a real
nats-server, answered by the reference router (`ipc-gateway demo-router`). Every test run does the checks again. This
page is written by

```sh
ROUTER_E2E=write cargo test --release --test e2e_router report
```

which measures the [objectives](#objectives), too; without `--release` it leaves those as they are.
";

/// The groups, by how the names of their checks begin.
const GROUPS: [(&str, &str); 5] = [
    ("subjects_", "Subjects and headers"),
    ("errors_", "Errors"),
    ("time_", "Time"),
    ("reconnect_", "Reconnect"),
    ("pressure_", "Backpressure"),
];

/// The heading of a check.
fn heading(check: &Check) -> String {
    format!("| `{}` | {} |", check.name, check.says)
}

#[test]
fn the_page_tells_of_these_checks() {
    if std::env::var(VARIABLE).is_ok_and(|wish| wish == "write") {
        return write();
    }
    let text = std::fs::read_to_string(PAGE).unwrap();
    for check in CHECKS {
        let lines = text.lines().filter(|line| line.starts_with(&heading(check))).count();
        assert_eq!(
            lines, 1,
            "{PAGE} does not tell of {}: see its first lines for how to write it",
            check.name
        );
    }
    let lines = text.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(lines, CHECKS.len(), "{PAGE} tells of a check that is none");
    assert!(!text.contains('✗'), "{PAGE} was written in spite of a failure");
}

/// Does every check, measures in a release build, writes, and fails if anything was not as it must be.
fn write() {
    let figures = if cfg!(debug_assertions) { figures_before() } else { figures(&objectives::measure()) };
    let cells: Vec<_> = CHECKS.iter().map(|check| (check, check.cells())).collect();
    let text = page(&cells, &figures);
    std::fs::write(PAGE, &text).unwrap();
    assert!(!text.contains('✗'), "not all is as it must be:\n{text}");
}

/// The section of the objectives as the page has it.
fn figures_before() -> String {
    let text = std::fs::read_to_string(PAGE).unwrap_or_default();
    let Some((_, section)) = text.split_once(OBJECTIVES) else {
        return format!("{OBJECTIVES}\nNot measured yet.\n");
    };
    let (section, _) = section.split_once("\n## ").expect("another section follows");
    format!("{OBJECTIVES}{section}")
}

fn page(cells: &[(&'static Check, Vec<Cell>)], figures: &str) -> String {
    let mut text = String::from(HEAD);
    let count = |which: fn(&Cell) -> bool| {
        cells.iter().flat_map(|(_, cells)| cells).filter(|cell| which(cell)).count()
    };
    let _ = writeln!(
        text,
        "\nOn {}: {} checks by {} ways, of which {} cells hold, {} cannot be expressed and {} fail.",
        today(),
        cells.len(),
        WAYS.len(),
        count(|cell| matches!(cell, Cell::Seen(_))),
        count(|cell| matches!(cell, Cell::NotExpressible(_))),
        count(|cell| matches!(cell, Cell::Failed(_))),
    );
    let mut sections = Vec::new();
    for (prefix, title) in GROUPS {
        let names: Vec<_> = WAYS.iter().map(|way| way.name).collect();
        let _ = writeln!(text, "\n## {title}\n\n| check | | {} | seen |", names.join(" | "));
        let _ = writeln!(text, "|---|---|{}---|", "---|".repeat(names.len()));
        for (check, cells) in cells.iter().filter(|(check, _)| check.name.starts_with(prefix)) {
            let marks: Vec<_> = cells.iter().map(|cell| mark(cell, &mut sections)).collect();
            let _ = writeln!(text, "{} {} | {} |", heading(check), marks.join(" | "), seen(cells));
        }
    }
    text.push_str(figures);
    text.push_str("\n## What a protocol cannot express\n\n");
    for (number, section) in sections.iter().enumerate() {
        let (page, says) = section.split_once(", ").unwrap();
        let _ = writeln!(text, "{}. [{page}](protocols/{page}), {says}", number + 1);
    }
    text
}

/// A cell in a word. What cannot be expressed is a number of the list of sections.
fn mark(cell: &Cell, sections: &mut Vec<&'static str>) -> String {
    match cell {
        Cell::Seen(_) => "✓".to_owned(),
        Cell::Failed(_) => "**✗**".to_owned(),
        Cell::NotExpressible(section) => {
            let known = sections.iter().position(|known| known == section);
            let number = known.unwrap_or_else(|| {
                sections.push(section);
                sections.len() - 1
            });
            format!("[{}](#what-a-protocol-cannot-express)", number + 1)
        }
    }
}

/// What was seen, once for all ways that saw the same.
fn seen(cells: &[Cell]) -> String {
    let mut told: Vec<(String, Vec<&str>)> = Vec::new();
    for (way, cell) in WAYS.iter().zip(cells) {
        let text = match cell {
            Cell::Seen(text) => text.clone(),
            Cell::Failed(text) => format!("**{}**", text.lines().collect::<Vec<_>>().join(" ")),
            Cell::NotExpressible(_) => continue,
        };
        match told.iter_mut().find(|(known, _)| *known == text) {
            Some((_, ways)) => ways.push(way.name),
            None => told.push((text, vec![way.name])),
        }
    }
    if let [(text, _)] = &*told {
        return text.clone();
    }
    let each = told.into_iter().map(|(text, ways)| format!("{}: {text}", ways.join(", ")));
    each.collect::<Vec<_>>().join("<br>")
}

/// The section of the objectives.
fn figures(measured: &Measured) -> String {
    let machine = &measured.machine;
    let fact = |name: &str| machine[name].as_str().unwrap_or("?").to_owned();
    let mut text = format!(
        "{OBJECTIVES}\n{}\n\nOn {}: {} processors {}, {} of memory, {} {}; load before {}; version {}.\n\n",
        objectives::how(),
        today(),
        machine["processors"],
        fact("processor"),
        fact("memory"),
        fact("system"),
        fact("kernel"),
        fact("load_before").split(' ').next().unwrap_or_default(),
        fact("version"),
    );
    let headings = LIMITS_MS.map(|(_, limit, name)| format!("{name} < {limit} ms"));
    let success = 100.0 - objectives::FAILED_OF_1000_MAX / 10.0;
    let _ = writeln!(text, "| way | decisions | success > {success} % | {} | kept |", headings.join(" | "));
    let _ = writeln!(text, "|---|---|---|{}---|", "---|".repeat(headings.len()));
    for line in &measured.lines {
        let times = line.quantiles_ms.map(|time| format!("{time:.2} ms"));
        let kept = if line.is_kept() { "✓" } else { "**✗**" };
        let (share, times) = (line.success_percent(), times.join(" | "));
        let _ = writeln!(text, "| {} | {} | {share:.3} % | {times} | {kept} |", line.way, line.decisions);
    }
    text
}

/// The date, as ISO 8601 writes it.
fn today() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
