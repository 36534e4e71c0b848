//! What is wrong with a configuration, all of it at once.
//!
//! A problem is made where it is found and holds only what may be printed: secrets are hidden before.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The environment.
    Environment(String),
    /// The command line.
    Flag(String),
    /// A file that holds this one value, named by one of the others.
    Kept {
        /// The file.
        path: PathBuf,
        /// Where it is named.
        named_by: Box<Source>,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Kept { path, named_by } => write!(f, "{} ({named_by})", path.display()),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, or the name that is no key.
    pub key: String,
    /// Where it was set. `None` for what concerns several keys.
    pub source: Option<Source>,
    /// The value, hidden where it is secret. `None` where there is none to show.
    pub value: Option<String>,
    /// What is wrong, to be read after the key.
    pub what: String,
    /// What would be right.
    pub allowed: Option<String>,
}

impl Problem {
    /// A problem with a key and what is wrong with it.
    pub(super) fn new(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { key: key.into(), source: None, value: None, what: what.into(), allowed: None }
    }

    /// The same with where it came from.
    pub(super) fn from(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// The same with what would be right.
    pub(super) fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.what)?;
        if let Some(value) = &self.value {
            write!(f, "\n   value    {value}")?;
        }
        if let Some(source) = &self.source {
            write!(f, "\n   from     {source}")?;
        }
        if let Some(allowed) = &self.allowed {
            write!(f, "\n   allowed  {allowed}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong; at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} problem{plural} in the configuration:", self.0.len())?;
        for (number, problem) in (1..).zip(&self.0) {
            write!(f, "\n{number}. {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The known name that `name` was probably meant to be, as the end of a sentence; empty if none is near.
pub(super) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    // Below this, suggestions are odder than none ("port" for "mode").
    const LIKENESS_MIN: f64 = 0.6;
    let likeness = |known: &'a str| (strsim::normalized_damerau_levenshtein(name, known), known);
    let nearest = known.map(likeness).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((how_near, known)) if how_near >= LIKENESS_MIN => format!("; did you mean {known}?"),
        _ => String::new(),
    }
}
