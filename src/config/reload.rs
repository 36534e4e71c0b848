//! The configuration read again by a program that runs on an earlier one.
//!
//! The sources are read and checked as at the start. What only a restart can change then stays as it runs, and
//! that mixture is checked as well: it is what will be in force, and nobody wrote it down as a whole.

use super::Config;
use super::checks::Checks;
use super::problem::{Problem, Problems};
use super::resolved::Resolved;
use super::sources::Sources;
use super::value::Value;

/// What a reload found.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// What is to be in force from now on.
    pub config: Config,
    /// Its settings, to compare the next reload with.
    pub resolved: Resolved,
    /// What differs from what runs, in the order of the file.
    pub changes: Vec<Change>,
    /// What is not wrong but should be known; one sentence each, without secrets.
    pub warnings: Vec<String>,
}

/// One setting that differs. Its texts show no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The full path of the key.
    pub path: String,
    /// The value that runs; `None` if it is not set.
    pub before: Option<String>,
    /// The value that was read; `None` if it is not set any more.
    pub after: Option<String>,
    /// Whether it needs a restart, and is not in force until then.
    pub needs_restart: bool,
}

impl Config {
    /// Reads all sources again. Fails with every problem that was found; then nothing is to be changed.
    pub fn reload(sources: &Sources, running: &Resolved) -> Result<Reloaded, Problems> {
        let loaded = Self::load(sources)?;
        let changes = changes(running, &loaded.resolved);
        let resolved = loaded.resolved.keeping(running);
        let checks = Checks::run(&resolved);
        if !checks.problems.is_empty() {
            return Err(Problems(
                checks.problems.into_iter().map(|problem| beside(problem, &changes)).collect(),
            ));
        }
        let config = Self::from_resolved(&resolved);
        Ok(Reloaded { config, resolved, changes, warnings: loaded.warnings })
    }
}

/// A problem of what is new together with what stays until a restart: the file alone does not show it.
fn beside(mut problem: Problem, changes: &[Change]) -> Problem {
    let stays: Vec<_> =
        changes.iter().filter(|change| change.needs_restart).map(|change| change.path.as_str()).collect();
    if !stays.is_empty() {
        problem.what.push_str("; what is new stands beside old values until a restart, which these need: ");
        problem.what.push_str(&stays.join(", "));
    }
    problem
}

fn changes(before: &Resolved, after: &Resolved) -> Vec<Change> {
    let read = |resolved: &Resolved, path: &str| resolved.get(path).and_then(|s| s.value().cloned());
    let gone = before.iter().filter(|setting| after.get(&setting.path).is_none());
    let differs = |setting: &&super::Setting| read(before, &setting.path) != read(after, &setting.path);
    after
        .iter()
        .chain(gone)
        .filter(differs)
        .map(|setting| Change {
            path: setting.path.clone(),
            before: read(before, &setting.path).as_ref().map(Value::to_string),
            after: read(after, &setting.path).as_ref().map(Value::to_string),
            needs_restart: !setting.is_reloadable(),
        })
        .collect()
}
