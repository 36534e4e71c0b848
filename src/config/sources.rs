//! Where settings come from, and which one counts: flags, then the environment, then the file, then defaults.
//!
//! A value that is overridden is checked all the same, but only warned of: so a wrong file can be put right
//! from the command line in a hurry, and is still told.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::candidate::{Candidate, Content, Rank};
use super::environment::{self, Environment};
use super::family::{self, FAMILIES, Family, Names, is_table_name};
use super::file::Document;
use super::key::Key;
use super::keys::keys;
use super::problem::{Problem, Source, did_you_mean};
use super::resolved::{Resolved, Setting};
use super::value::Value;

/// All that a configuration is made from. `Sources::default()` is none of it: the defaults alone, and a file
/// if one lies in the usual places.
#[derive(Clone, Debug)]
pub struct Sources {
    /// What flags set; of two that set one key the last counts.
    pub flags: Vec<Flag>,
    /// The environment, see [`environment`](super::environment()).
    pub environment: Environment,
    /// The file of the `--config` flag.
    pub file: Option<PathBuf>,
    /// Files that are taken if they exist and none is named, the first of them.
    pub usual_files: Vec<PathBuf>,
    /// What it means when a secret, a certificate or the like is to be read from a file that cannot be read.
    pub missing_files: MissingFiles,
}

/// One setting from the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag as the user knows it, such as `--socket`.
    pub name: String,
    /// The full path of the key it sets.
    pub path: String,
    /// Its value as text, in the form the environment uses.
    pub text: String,
}

/// What a file that is named but cannot be read means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingFiles {
    /// A problem: for running, and for `check --strict`.
    Refuse,
    /// A warning: for looking at a configuration on a machine that does not have its secrets. What is in the
    /// file is then missing from the [`Config`](super::Config), which must not be run.
    Warn,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            flags: Vec::new(),
            environment: Environment::new(),
            file: None,
            usual_files: vec!["gateway.toml".into(), "/etc/ipc-gateway/gateway.toml".into()],
            missing_files: MissingFiles::Refuse,
        }
    }
}

/// The name in the environment for the file.
const FILE_NAME: &str = "IPC_GATEWAY_CONFIG";

/// What the sources say together, before the checks across keys.
pub(super) struct Outcome {
    pub(super) resolved: Resolved,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    pub(super) file: Option<PathBuf>,
    /// Whether the file says something that could not be read, so that its settings are unknown.
    pub(super) file_unreadable: bool,
}

impl Sources {
    /// The file that is read: the flag's, then that of `IPC_GATEWAY_CONFIG`, then the first of the usual ones
    /// that exists.
    pub fn find_file(&self) -> Option<PathBuf> {
        let named = || self.environment.get(FILE_NAME).filter(|path| !path.is_empty()).map(PathBuf::from);
        // One that exists but cannot be read is still the one meant.
        let usual = || self.usual_files.iter().find(|path| path.symlink_metadata().is_ok()).cloned();
        self.file.clone().or_else(named).or_else(usual)
    }

    pub(super) fn resolve(&self) -> Outcome {
        let file = self.find_file();
        let document = file.as_deref().map(Document::open).unwrap_or_default();
        let mut names = family::built_in_names();
        let file_unreadable = document.unreadable;
        add(&mut names, document.tables);
        for (family, table, _) in self.flags.iter().filter_map(Flag::of_family) {
            names.entry(family.name).or_default().insert(table.to_owned());
        }
        let heard = environment::read(&self.environment, &names);
        add(&mut names, heard.tables);
        let mut weighing = Weighing {
            candidates: BTreeMap::new(),
            problems: document.problems,
            warnings: heard.warnings,
            missing_files: self.missing_files,
        };
        weighing.problems.extend(heard.problems);
        // The last flag counts, so it comes first.
        for flag in self.flags.iter().rev() {
            match flag.candidate() {
                Ok(candidate) => weighing.add(candidate),
                Err(problem) => weighing.problems.push(*problem),
            }
        }
        heard.candidates.into_iter().chain(document.candidates).for_each(|candidate| weighing.add(candidate));

        let mut settings: Vec<Setting> =
            keys().map(|key| weighing.settle(key.path.to_owned(), key, key.default)).collect();
        for (family, table) in
            FAMILIES.iter().flat_map(|family| names[family.name].iter().map(move |table| (family, table)))
        {
            settings.extend(family.keys.iter().map(|key| {
                weighing.settle(
                    format!("{}.{table}.{}", family.name, key.path),
                    key,
                    family.default(table, key),
                )
            }));
        }
        let resolved = Resolved::new(settings, names);
        weighing.look_for_files(&resolved);
        Outcome { resolved, problems: weighing.problems, warnings: weighing.warnings, file, file_unreadable }
    }
}

fn add(names: &mut Names, more: Names) {
    for (family, tables) in more {
        names.entry(family).or_default().extend(tables);
    }
}

impl Flag {
    /// The family, table and key that it is about.
    fn of_family(&self) -> Option<(&'static Family, &str, &'static Key)> {
        family::split(&self.path).filter(|(_, table, _)| is_table_name(table))
    }

    fn candidate(&self) -> Result<Candidate, Box<Problem>> {
        let source = Source::Flag(self.name.clone());
        let of_family = self.of_family().map(|(_, _, key)| key);
        let key = of_family.or_else(|| keys().find(|key| key.path == self.path));
        let Some(key) = key else {
            let hint = did_you_mean(&self.path, keys().map(|key| key.path));
            return Err(Box::new(Problem::new(&self.path, format!("is not a setting{hint}")).from(source)));
        };
        Ok(Candidate::from_text(&self.path, key, Rank::Flag, source, &self.text))
    }
}

/// The candidates of all keys, being weighed against each other.
struct Weighing {
    candidates: BTreeMap<String, Vec<Candidate>>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    missing_files: MissingFiles,
}

impl Weighing {
    fn add(&mut self, candidate: Candidate) {
        self.candidates.entry(candidate.path.clone()).or_default().push(candidate);
    }

    /// Picks the value of one key.
    fn settle(&mut self, path: String, key: &'static Key, default: Option<&'static str>) -> Setting {
        let mut candidates = self.candidates.remove(&path).unwrap_or_default();
        candidates.sort_by_key(|candidate| candidate.rank);
        let mut candidates = candidates.into_iter();
        let Some(first) = candidates.next() else {
            let value = |text| key.kind.parse_text(text).expect("defaults are valid, which a test proves");
            let content = default.map(|text| Content::Value(value(text)));
            return Setting { path, key, source: Source::Default, content };
        };
        for other in candidates {
            self.compare(&path, &first, &other);
        }
        match &first.content {
            Content::Value(_) => {}
            Content::Broken(problem) => self.problems.push(problem.clone()),
            Content::Unread(problem) => self.missing(problem.clone()),
        }
        Setting { path, key, source: first.source, content: Some(first.content) }
    }

    /// Tells of a candidate that does not count because of a stronger one.
    fn compare(&mut self, path: &str, first: &Candidate, other: &Candidate) {
        if first.rank == other.rank && first.rank != Rank::Flag {
            // Only a name and its file variant can be equally strong.
            let what = format!("is set twice: {} and {}", first.source, other.source);
            self.problems.push(Problem::new(path, what).allowed("one of the two"));
            return;
        }
        let in_environment = |rank| matches!(rank, Rank::OwnName | Rank::OldName(_));
        if in_environment(first.rank) && in_environment(other.rank) {
            self.warnings.push(format!("{path}: {} counts, {} does not", first.source, other.source));
        }
        if let Content::Broken(problem) | Content::Unread(problem) = &other.content {
            let what =
                format!("{path} {} in {}, which {} overrides", problem.what, other.source, first.source);
            self.warnings.push(what);
        }
    }

    fn missing(&mut self, problem: Problem) {
        match self.missing_files {
            MissingFiles::Refuse => self.problems.push(problem),
            MissingFiles::Warn => {
                let source = problem.source.as_ref().map(|source| format!(" [{source}]")).unwrap_or_default();
                self.warnings.push(format!("{} {}{source}", problem.key, problem.what));
            }
        }
    }

    /// Looks whether files that settings name are there; the ones they belong to read them later.
    fn look_for_files(&mut self, resolved: &Resolved) {
        for path in
            ["nats.credentials_file", "nats.tls_ca_file", "nats.tls_certificate_file", "nats.tls_key_file"]
        {
            let setting = resolved.setting(path);
            let Some(Value::Text(file)) = setting.value() else { continue };
            // Only a regular file is opened to see: a pipe would wait for its writer, and lose what it says.
            let readable = fs::metadata(file)
                .and_then(|found| if found.is_file() { fs::File::open(file).map(drop) } else { Ok(()) });
            if let Err(error) = readable {
                let what = format!("names a file that cannot be read: {file}: {error}");
                self.missing(Problem::new(path, what).from(setting.source.clone()));
            }
        }
    }
}
