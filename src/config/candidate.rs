//! One value that somebody gave for one key, before it is known whether it counts.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::key::Key;
use super::problem::{Problem, Source};
use super::value::Value;

/// Who said it, the strongest first: the order of the variants is the order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// A flag.
    Flag,
    /// The gateway's own name in the environment.
    OwnName,
    /// An old name, by its place in the key's list.
    OldName(usize),
    /// The file.
    File,
}

/// A value with its key and its source.
pub(super) struct Candidate {
    /// The full path: `routes.decide.subject`.
    pub(super) path: String,
    /// Its precedence.
    pub(super) rank: Rank,
    /// Where it came from.
    pub(super) source: Source,
    /// What it says.
    pub(super) content: Content,
}

/// What a candidate says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// A valid value.
    Value(Value),
    /// Something else.
    Broken(Problem),
    /// It is in a file that cannot be read here.
    Unread(Problem),
}

/// The most bytes of a file that holds one value: a list of server addresses is the longest of them.
const KEPT_BYTES_MAX: u64 = 64 * 1024;

impl Candidate {
    /// A value given as text.
    pub(super) fn from_text(path: &str, key: &'static Key, rank: Rank, source: Source, text: &str) -> Self {
        let outcome = key.kind.parse_text(text);
        Self::from_outcome(path, key, rank, source, outcome, text)
    }

    /// A value that was read already, or what is wrong with it; `raw` is what was written.
    pub(super) fn from_outcome(
        path: &str,
        key: &'static Key,
        rank: Rank,
        source: Source,
        outcome: Result<Value, String>,
        raw: &str,
    ) -> Self {
        let content = match outcome {
            Ok(value) => Content::Value(value),
            Err(what) => Content::Broken(Problem {
                value: Some(key.kind.shown(raw)),
                ..Problem::new(path, what).from(source.clone()).allowed(key.kind.allowed())
            }),
        };
        Self { path: path.to_owned(), rank, source, content }
    }

    /// A value that is kept in `file`; white space around it does not count.
    pub(super) fn from_kept(path: &str, key: &'static Key, rank: Rank, named_by: Source, file: &str) -> Self {
        let source = Source::Kept { path: file.into(), named_by: Box::new(named_by) };
        match read_kept(Path::new(file)) {
            Ok(text) => Self::from_text(path, key, rank, source, text.trim()),
            Err(why) => {
                let what = format!("is to be read from a file, which failed: {why}");
                let content = Content::Unread(Problem::new(path, what).from(source.clone()));
                Self { path: path.to_owned(), rank, source, content }
            }
        }
    }
}

fn read_kept(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    // One byte more than allowed tells a full file from a cut one.
    let read = file.take(KEPT_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if read as u64 > KEPT_BYTES_MAX {
        return Err(format!("it is longer than {KEPT_BYTES_MAX} bytes"));
    }
    Ok(text)
}
