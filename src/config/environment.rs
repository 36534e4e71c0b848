//! The environment: the gateway's own names, the predecessor's, and what is wrong with both.
//!
//! A map and not the process's environment, so that it is an input like any other.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::candidate::{Candidate, Content, Rank};
use super::family::{self, FAMILIES, Family, Names, TABLE_NAME, is_table_name};
use super::key::{ENVIRONMENT_PREFIX, Key, OldName, own_name};
use super::keys::keys;
use super::problem::{Problem, Source, did_you_mean};
use super::unused::{UNUSED_NAMES, UNUSED_PREFIX};
use super::value::{Kind, Value};

/// Names and values.
pub type Environment = BTreeMap<String, String>;

/// The environment as a map, from `std::env::vars_os()`. Names that are not UTF-8 are none of ours; in values
/// what is not UTF-8 is replaced, and then told by whatever reads the value.
pub fn environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    };
    variables.into_iter().filter_map(text).collect()
}

/// What the environment says.
#[derive(Default)]
pub(super) struct Heard {
    /// The values.
    pub(super) candidates: Vec<Candidate>,
    /// Tables of families that the environment names.
    pub(super) tables: Names,
    /// Names that mean nothing.
    pub(super) problems: Vec<Problem>,
    /// What somebody should know.
    pub(super) warnings: Vec<String>,
}

/// Reads the environment; `names` are those of tables known from elsewhere.
pub(super) fn read(environment: &Environment, names: &Names) -> Heard {
    let mut heard = Heard::default();
    heard.read_own_names(environment, names);
    heard.read_old_names(environment);
    heard.warn_of_unused(environment);
    heard
}

impl Heard {
    fn read_own_names(&mut self, environment: &Environment, names: &Names) {
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let Some((path, key, kept)) = find_own(rest, names) else {
                let hint = suggest_own(name);
                let problem = Problem::new(name, format!("is not the name of a setting{hint}"));
                self.problems.push(problem.from(Source::Environment(name.clone())));
                continue;
            };
            if let Some((family, table, _)) = family::split(&path) {
                if !is_table_name(table) {
                    let what = format!("does not name {}", family.one);
                    let problem = Problem::new(path, what).allowed(TABLE_NAME);
                    self.problems.push(problem.from(Source::Environment(name.clone())));
                    continue;
                }
                self.tables.entry(family.name).or_default().insert(table.to_owned());
            }
            self.push(&path, key, Rank::OwnName, name, value, kept);
        }
    }

    fn read_old_names(&mut self, environment: &Environment) {
        let mut known = Vec::new();
        for (path, key, names) in old_names() {
            for (place, old) in names.iter().enumerate() {
                known.push(old.name);
                if let Some(value) = environment.get(old.name) {
                    self.push_old(&path, key, Rank::OldName(place), old, value);
                }
                let kept = format!("{}_FILE", old.name);
                if let Some(value) = environment.get(&kept)
                    && key.may_be_file()
                {
                    self.push(&path, key, Rank::OldName(place), &kept, value, true);
                }
            }
        }
        for name in environment.keys().filter(|name| name.starts_with("CGW_IPC_")) {
            let base = name.strip_suffix("_FILE").unwrap_or(name);
            if !known.contains(&base) {
                let hint = did_you_mean(name, known.iter().copied());
                self.warnings.push(format!("{name} is not known and has no effect{hint}"));
            }
        }
    }

    fn push_old(&mut self, path: &str, key: &'static Key, rank: Rank, old: &OldName, value: &str) {
        let Some((off, on)) = old.switch else { return self.push(path, key, rank, old.name, value, false) };
        if value.is_empty() {
            return self.push(path, key, rank, old.name, value, false);
        }
        let source = Source::Environment(old.name.to_owned());
        let candidate = match Kind::Bool.parse_text(value) {
            Ok(on_or_off) => {
                let word = if on_or_off == Value::Bool(true) { on } else { off };
                Candidate::from_text(path, key, rank, source, word)
            }
            Err(what) => {
                let mut broken = Candidate::from_outcome(path, key, rank, source, Err(what), value);
                if let Content::Broken(problem) = &mut broken.content {
                    problem.allowed = Some(format!("1 for {on}, 0 for {off}"));
                }
                broken
            }
        };
        self.candidates.push(candidate);
    }

    /// An empty value is what a template leaves for "not given"; it is told, because it may also be a secret
    /// that did not arrive.
    fn push(&mut self, path: &str, key: &'static Key, rank: Rank, name: &str, value: &str, kept: bool) {
        if value.is_empty() {
            self.warnings.push(format!("{name} is empty, which counts as not set ({path})"));
            return;
        }
        let source = Source::Environment(name.to_owned());
        self.candidates.push(if kept {
            Candidate::from_kept(path, key, rank, source, value)
        } else {
            Candidate::from_text(path, key, rank, source, value)
        });
    }

    fn warn_of_unused(&mut self, environment: &Environment) {
        let (prefix, feature) = UNUSED_PREFIX;
        for (name, value) in environment {
            let unused = UNUSED_NAMES.iter().find(|(unused, _)| unused == name).map(|(_, feature)| *feature);
            let unused = unused.or_else(|| name.starts_with(prefix).then_some(feature));
            if let Some(feature) = unused
                && !value.is_empty()
            {
                self.warnings.push(format!("{name} is not used by this version ({feature})"));
            }
        }
    }
}

/// Every key that has old names, with its full path.
fn old_names() -> impl Iterator<Item = (String, &'static Key, &'static [OldName])> {
    let fixed = keys().map(|key| (key.path.to_owned(), key, key.old_names));
    let tables = FAMILIES.iter().flat_map(|family| family.built_in.iter().map(move |table| (family, table)));
    let of_tables = tables.flat_map(|(family, table)| {
        table.old_names.iter().map(move |(name, names)| {
            let key = family.key(name).expect("old names belong to a key of the family");
            (format!("{}.{}.{name}", family.name, table.name), key, *names)
        })
    });
    fixed.chain(of_tables)
}

/// The old names of one path.
pub(super) fn old_names_of(path: &str) -> &'static [OldName] {
    old_names().find(|(known, _, _)| known == path).map_or(&[], |(_, _, names)| names)
}

/// The path and key that an own name stands for, without its prefix, and whether it names a file that holds
/// the value.
fn find_own(rest: &str, names: &Names) -> Option<(String, &'static Key, bool)> {
    let exact = |rest: &str| match of_family(rest) {
        Some((family, rest)) => find_table_key(family, rest, names),
        None => keys()
            .find(|key| own_name(key.path)[ENVIRONMENT_PREFIX.len()..] == *rest)
            .map(|key| (key.path.to_owned(), key)),
    };
    if let Some((path, key)) = exact(rest) {
        return Some((path, key, false));
    }
    let (path, key) = exact(rest.strip_suffix("_FILE")?)?;
    key.may_be_file().then_some((path, key, true))
}

/// The family that an own name, without its prefix, begins with, and what follows.
fn of_family(rest: &str) -> Option<(&'static Family, &str)> {
    FAMILIES.iter().find_map(|family| {
        let rest = rest.strip_prefix(&family.name.to_ascii_uppercase())?.strip_prefix("__")?;
        Some((*family, rest))
    })
}

fn find_table_key(family: &'static Family, rest: &str, names: &Names) -> Option<(String, &'static Key)> {
    let (table, name) = rest.rsplit_once("__")?;
    let name = name.to_ascii_lowercase();
    let key = family.key(&name)?;
    if table.bytes().any(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let table = table.to_ascii_lowercase();
    let known = names.get(family.name);
    // A dash cannot stand in such a name, so a table that has one is found by its name with _ instead.
    let dashed = || known.and_then(|known| known.iter().find(|known| known.replace('-', "_") == table));
    let table = known.and_then(|known| known.get(&table)).or_else(dashed).cloned().unwrap_or(table);
    Some((format!("{}.{table}.{name}", family.name), key))
}

fn suggest_own(name: &str) -> String {
    let rest = &name[ENVIRONMENT_PREFIX.len()..].to_ascii_uppercase();
    let bare = |name: String| name[ENVIRONMENT_PREFIX.len()..].to_owned();
    let mut known: Vec<String> = keys().map(|key| bare(own_name(key.path))).collect();
    let files = keys().filter(|key| key.may_be_file());
    known.extend(files.map(|key| format!("{}_FILE", bare(own_name(key.path)))));
    if let Some((family, (table, _))) =
        of_family(rest).and_then(|(family, rest)| Some((family, rest.rsplit_once("__")?)))
    {
        let name = family.name.to_ascii_uppercase();
        known.extend(
            family.keys.iter().map(|key| format!("{name}__{table}__{}", key.path.to_ascii_uppercase())),
        );
    }
    let hint = did_you_mean(rest, known.iter().map(String::as_str));
    hint.replace("did you mean ", &format!("did you mean {ENVIRONMENT_PREFIX}"))
}
