//! The environment: the gateway's own names, the predecessor's, and what is wrong with both.
//!
//! A map and not the process's environment, so that it is an input like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use super::candidate::{Candidate, Content, Rank};
use super::file::{ROUTE_NAME, is_route_name};
use super::key::{ENVIRONMENT_PREFIX, Key, OldName, own_name};
use super::keys::keys;
use super::problem::{Problem, Source, did_you_mean};
use super::route_keys::{BUILT_IN_ROUTES, ROUTE_KEYS};
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
    /// Routes that only the environment names.
    pub(super) routes: BTreeSet<String>,
    /// Names that mean nothing.
    pub(super) problems: Vec<Problem>,
    /// What somebody should know.
    pub(super) warnings: Vec<String>,
}

/// Reads the environment; `routes` are the names known from elsewhere.
pub(super) fn read(environment: &Environment, routes: &BTreeSet<String>) -> Heard {
    let mut heard = Heard::default();
    heard.read_own_names(environment, routes);
    heard.read_old_names(environment);
    heard.warn_of_unused(environment);
    heard
}

impl Heard {
    fn read_own_names(&mut self, environment: &Environment, routes: &BTreeSet<String>) {
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let Some((path, key, kept)) = find_own(rest, routes) else {
                let hint = suggest_own(name);
                let problem = Problem::new(name, format!("is not the name of a setting{hint}"));
                self.problems.push(problem.from(Source::Environment(name.clone())));
                continue;
            };
            if let Some(route) = route_of(&path) {
                if !is_route_name(route) {
                    let problem = Problem::new(path, "does not name a route").allowed(ROUTE_NAME);
                    self.problems.push(problem.from(Source::Environment(name.clone())));
                    continue;
                }
                self.routes.insert(route.to_owned());
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
    let of_routes = BUILT_IN_ROUTES.iter().flat_map(|route| {
        route.old_names.iter().map(|(name, names)| {
            let key =
                ROUTE_KEYS.iter().find(|key| key.path == *name).expect("old names belong to a route's keys");
            (format!("routes.{}.{name}", route.name), key, *names)
        })
    });
    fixed.chain(of_routes)
}

/// The old names of one path.
pub(super) fn old_names_of(path: &str) -> &'static [OldName] {
    old_names().find(|(known, _, _)| known == path).map_or(&[], |(_, _, names)| names)
}

/// The path and key that an own name stands for, without its prefix, and whether it names a file that holds
/// the value.
fn find_own(rest: &str, routes: &BTreeSet<String>) -> Option<(String, &'static Key, bool)> {
    let exact = |rest: &str| match rest.strip_prefix("ROUTES__") {
        Some(route) => find_route_key(route, routes),
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

fn find_route_key(rest: &str, routes: &BTreeSet<String>) -> Option<(String, &'static Key)> {
    let (route, name) = rest.rsplit_once("__")?;
    let name = name.to_ascii_lowercase();
    let key = ROUTE_KEYS.iter().find(|key| key.path == name)?;
    if route.bytes().any(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let route = route.to_ascii_lowercase();
    // A dash cannot stand in such a name, so a route that has one is found by its name with _ instead.
    let dashed = || routes.iter().find(|known| known.replace('-', "_") == route);
    let route = routes.get(&route).or_else(dashed).cloned().unwrap_or(route);
    Some((format!("routes.{route}.{name}"), key))
}

fn route_of(path: &str) -> Option<&str> {
    path.strip_prefix("routes.")?.rsplit_once('.').map(|(route, _)| route)
}

fn suggest_own(name: &str) -> String {
    let rest = &name[ENVIRONMENT_PREFIX.len()..].to_ascii_uppercase();
    let bare = |name: String| name[ENVIRONMENT_PREFIX.len()..].to_owned();
    let mut known: Vec<String> = keys().map(|key| bare(own_name(key.path))).collect();
    let files = keys().filter(|key| key.may_be_file());
    known.extend(files.map(|key| format!("{}_FILE", bare(own_name(key.path)))));
    if let Some((route, _)) = rest.strip_prefix("ROUTES__").and_then(|rest| rest.rsplit_once("__")) {
        known.extend(
            ROUTE_KEYS.iter().map(|key| format!("ROUTES__{route}__{}", key.path.to_ascii_uppercase())),
        );
    }
    let hint = did_you_mean(rest, known.iter().map(String::as_str));
    hint.replace("did you mean ", &format!("did you mean {ENVIRONMENT_PREFIX}"))
}
