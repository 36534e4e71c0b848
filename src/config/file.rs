//! The configuration file: from TOML to candidates, each with its line.
//!
//! Read as a document with positions instead of into a struct, so that every mistake is found in one go and
//! told with its line.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::candidate::{Candidate, Rank};
use super::family::{self, FAMILIES, Family, Names, TABLE_NAME, is_table_name};
use super::key::Key;
use super::keys::{SECTIONS, keys};
use super::problem::{Problem, Source, did_you_mean};

/// The most bytes of a configuration file; hundreds of routes need a tenth of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a file says.
#[derive(Default)]
pub(super) struct Document {
    /// The values.
    pub(super) candidates: Vec<Candidate>,
    /// The names of its tables in families.
    pub(super) tables: Names,
    /// What is wrong apart from values.
    pub(super) problems: Vec<Problem>,
    /// Whether none of it could be read, so that what it says is unknown.
    pub(super) unreadable: bool,
}

impl Document {
    /// Reads and parses `path`.
    pub(super) fn open(path: &Path) -> Self {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
        let what = match read {
            Ok(read) if read as u64 > FILE_BYTES_MAX => format!("is longer than {FILE_BYTES_MAX} bytes"),
            Ok(_) => return Self::parse(path, &text),
            Err(error) => format!("cannot be read: {error}"),
        };
        let problem = Problem::new(path.display().to_string(), what);
        Self { problems: vec![problem], unreadable: true, ..Self::default() }
    }

    /// Parses the text of a file; `path` is for the messages. With a mistake in the syntax nothing of the
    /// rest is taken, since what a broken line was meant to be can only be guessed.
    pub(super) fn parse(path: &Path, text: &str) -> Self {
        let mut reader = Reader { path: path.to_owned(), text, document: Self::default() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            // Only the message: the error's own Display repeats the line, which may hold a secret.
            let line = error.span().map_or(1, |span| reader.line(span.start));
            let what = format!("is not TOML: {}", error.message());
            let problem = Problem::new("the file", what).from(reader.source(line));
            if reader.document.problems.last() != Some(&problem) {
                reader.document.problems.push(problem);
            }
        }
        if errors.is_empty() {
            reader.read_top(table.get_ref());
        } else {
            reader.document.unreadable = true;
        }
        reader.document
    }
}

struct Reader<'a> {
    path: PathBuf,
    text: &'a str,
    document: Document,
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or(self.text).matches('\n').count() + 1
    }

    fn source(&self, line: usize) -> Source {
        Source::File { path: self.path.clone(), line }
    }

    fn problem(&mut self, at: usize, problem: Problem) {
        let source = self.source(self.line(at));
        self.document.problems.push(problem.from(source));
    }

    fn read_top(&mut self, table: &DeTable<'_>) {
        let all: Vec<_> = keys().collect();
        for (name, value) in table {
            let (at, name) = (name.span().start, name.get_ref().as_ref());
            match value.get_ref() {
                DeValue::Table(tables) if family::of(name).is_some() => {
                    self.read_family(family::of(name).expect("it was just found"), tables);
                }
                DeValue::Table(section) if SECTIONS.iter().any(|known| known.name == name) => {
                    self.read_section(&all, name, name, section);
                }
                _ if all.iter().any(|key| key.path == name) => {
                    self.read_entry(&all, name, name, at, value.get_ref(), value.span());
                }
                _ if family::of(name).is_some() || SECTIONS.iter().any(|known| known.name == name) => {
                    self.problem(
                        at,
                        Problem::new(name, "is a section, not a value").allowed(format!("[{name}]")),
                    );
                }
                _ => {
                    let sections =
                        SECTIONS.iter().map(|section| section.name).filter(|name| !name.is_empty());
                    let top = all.iter().map(|key| key.path).filter(|path| !path.contains('.'));
                    let hint = did_you_mean(
                        name,
                        sections.chain(top).chain(FAMILIES.iter().map(|family| family.name)),
                    );
                    self.problem(at, Problem::new(name, format!("is not known{hint}")));
                }
            }
        }
    }

    fn read_family(&mut self, family: &'static Family, tables: &DeTable<'_>) {
        let keys: Vec<_> = family.keys.iter().collect();
        for (name, value) in tables {
            let (at, name) = (name.span().start, name.get_ref().as_ref());
            let path = format!("{}.{name}", family.name);
            if !is_table_name(name) {
                let what = format!("is not a name for {}", family.one);
                self.problem(at, Problem::new(path, what).allowed(TABLE_NAME));
            } else if let DeValue::Table(table) = value.get_ref() {
                self.document.tables.entry(family.name).or_default().insert(name.to_owned());
                self.read_section(&keys, "", &path, table);
            } else {
                self.problem(
                    at,
                    Problem::new(&path, "is a section, not a value").allowed(format!("[{path}]")),
                );
            }
        }
    }

    /// Reads a table whose keys are those of `keys` that start with `section`; `path` is what it is called.
    fn read_section(&mut self, keys: &[&'static Key], section: &str, path: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let (at, name) = (name.span().start, name.get_ref().as_ref());
            let declared = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            let full = format!("{path}.{name}");
            self.read_entry(keys, &declared, &full, at, value.get_ref(), value.span());
        }
    }

    fn read_entry(
        &mut self,
        keys: &[&'static Key],
        declared: &str,
        path: &str,
        at: usize,
        value: &DeValue<'_>,
        span: std::ops::Range<usize>,
    ) {
        let source = self.source(self.line(at));
        if let Some(key) = keys.iter().find(|key| key.path == declared) {
            let (outcome, raw) = (key.kind.parse_toml(value), self.text.get(span).unwrap_or_default());
            let candidate = Candidate::from_outcome(path, key, Rank::File, source, outcome, raw);
            self.document.candidates.push(candidate);
            return;
        }
        let kept = declared.strip_suffix("_file").zip(path.strip_suffix("_file"));
        if let Some((declared, key_path)) = kept
            && let Some(key) = keys.iter().find(|key| key.path == declared && key.may_be_file())
        {
            match value.as_str() {
                Some(file) if !file.is_empty() => {
                    let candidate = Candidate::from_kept(key_path, key, Rank::File, source, file);
                    self.document.candidates.push(candidate);
                }
                _ => self.problem(at, Problem::new(path, "is not a path").allowed("the path of a file")),
            }
            return;
        }
        let names = keys.iter().map(|key| key.path);
        let hint = did_you_mean(declared, names);
        self.problem(at, Problem::new(path, format!("is not known{hint}")));
    }
}
