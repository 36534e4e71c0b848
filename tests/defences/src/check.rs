//! What must hold of the list for a run to mean anything, looked at in the sources without building them.
//!
//! The text of a defence stands in its file exactly once, so that the one that is switched off is the one that is meant;
//! and its test is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::list::{Area, Defence, Test};

/// What is wrong with the list: a finding each, with the name of the row.
pub fn findings(root: &Path, areas: &[Area]) -> Vec<String> {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    for area in areas {
        if area.defences.is_empty() {
            findings.push(format!("{}: an area without a defence", area.name));
        }
        for defence in &area.defences {
            *names.entry(&defence.name).or_default() += 1;
            findings.extend(
                wrong_with(root, defence).into_iter().map(|what| format!("{}: {what}", defence.name)),
            );
        }
    }
    let twice = names.into_iter().filter(|(_, times)| *times > 1);
    findings.extend(twice.map(|(name, times)| format!("{name}: {times} rows have this name")));
    findings
}

fn wrong_with(root: &Path, defence: &Defence) -> Vec<String> {
    let mut wrong = Vec::new();
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if defence.name.is_empty() || !defence.name.chars().all(is_word) {
        wrong.push("a name is of small letters, digits and hyphens".to_owned());
    }
    for (what, text) in [("fault", &defence.fault), ("answer", &defence.answer)] {
        if text.trim().is_empty() || text.contains(['\n', '|']) {
            wrong.push(format!("its {what} is one line of text, without |"));
        }
    }
    if defence.text == defence.off {
        wrong.push("it is replaced with itself".to_owned());
    }
    match fs::read_to_string(root.join(&defence.file)) {
        Err(error) => wrong.push(format!("{}: {error}", defence.file)),
        Ok(source) => match source.matches(&defence.text).count() {
            1 if !defence.text.is_empty() => {}
            times => wrong.push(format!("{}: its text is there {times} times, not once", defence.file)),
        },
    }
    if !is_there(root, &defence.test) {
        wrong.push(format!("there is no test {}", defence.test));
    }
    wrong
}

/// Whether a file that the test's modules can be in has it.
fn is_there(root: &Path, test: &Test) -> bool {
    let modules: Vec<&str> = test.name.split("::").collect();
    let Some((name, modules)) = modules.split_last() else { return false };
    let package = root.join(test.folder());
    let has_it = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|text| has_test(&text, name));
    match &test.program {
        None => files_of_a_module(&package.join("src"), modules).iter().any(has_it),
        Some(program) => {
            let main = package.join(format!("tests/{program}.rs"));
            let Ok(main) = fs::read_to_string(&main) else { return false };
            let Some(module) = modules.first() else { return has_test(&main, name) };
            // Programs of tests say where their modules are, since they share some.
            let declared = format!("mod {module};");
            let lines: Vec<&str> = main.lines().map(str::trim).collect();
            let place = lines.iter().position(|line| *line == declared).and_then(|at| {
                let mut above = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
                above.find_map(|line| line.strip_prefix("#[path = \"")?.strip_suffix("\"]"))
            });
            place.is_some_and(|place| has_it(&package.join("tests").join(place)))
        }
    }
}

/// The files that a module may be written in: its own, and those of the modules that it is in.
fn files_of_a_module(source: &Path, modules: &[&str]) -> Vec<PathBuf> {
    let mut files = vec![source.join("lib.rs")];
    let mut folder = source.to_owned();
    for module in modules {
        folder.push(module);
        files.push(folder.with_extension("rs"));
        files.push(folder.join("mod.rs"));
    }
    files
}

/// Whether the text has a function of this name below a test's attribute (property tests stand within a macro and have
/// the plain attribute too), or a table of tests, such as the router's checks, that names it by its path.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_it = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")
            .and_then(|line| line.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let in_a_table = format!("::{name}");
    lines.iter().enumerate().any(|(at, line)| {
        let mut above =
            lines[..at].iter().rev().take_while(|line| !line.is_empty() && !line.starts_with('}'));
        line.ends_with(&in_a_table)
            || is_it(line)
                && above.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}
