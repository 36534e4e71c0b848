//! Every setting with the value that counts and where it came from.
//!
//! Between the sources, which give candidates, and the typed [`Config`](super::Config), which the program
//! reads: here a value still knows its key, so `ipc-gateway config` can show it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::candidate::Content;
use super::family::{self, Names};
use super::key::Key;
use super::problem::Source;
use super::secret::Secret;
use super::value::Value;

/// One setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its full path, such as `routes.decide.timeout_ms`.
    pub path: String,
    /// Its declaration.
    pub key: &'static Key,
    /// Where its value came from.
    pub source: Source,
    pub(super) content: Option<Content>,
}

impl Setting {
    /// The value; `None` if nobody set it and it has no default, or if it is in a file that could not be
    /// read.
    pub fn value(&self) -> Option<&Value> {
        match &self.content {
            Some(Content::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// Whether a reload puts another value of it in force.
    pub fn is_reloadable(&self) -> bool {
        self.key.reloadable || family::split(&self.path).is_some()
    }

    /// Whether somebody set it, whatever to.
    pub fn is_set(&self) -> bool {
        self.source != Source::Default
    }
}

/// All settings in the order of the file of defaults, families of tables last.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    settings: Vec<Setting>,
    places: BTreeMap<String, usize>,
    tables: BTreeMap<&'static str, Vec<String>>,
}

impl Resolved {
    pub(super) fn new(settings: Vec<Setting>, names: Names) -> Self {
        let places = (0..).zip(&settings).map(|(place, setting)| (setting.path.clone(), place)).collect();
        let tables = names.into_iter().map(|(family, names)| (family, names.into_iter().collect())).collect();
        Self { settings, places, tables }
    }

    /// The same, but with what needs a restart as it is in `running`.
    pub(super) fn keeping(mut self, running: &Self) -> Self {
        for setting in self.settings.iter_mut().filter(|setting| !setting.is_reloadable()) {
            running.setting(&setting.path).clone_into(setting);
        }
        self
    }

    /// The settings in order.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter()
    }

    /// The names of all routes, in alphabetical order.
    pub fn routes(&self) -> &[String] {
        self.tables("routes")
    }

    /// The names of all tables of a family, in alphabetical order.
    pub(super) fn tables(&self, family: &str) -> &[String] {
        self.tables.get(family).map_or(&[], Vec::as_slice)
    }

    /// The setting of that full path.
    pub fn get(&self, path: &str) -> Option<&Setting> {
        self.places.get(path).map(|place| &self.settings[*place])
    }

    /// The same for a path that is declared.
    pub(super) fn setting(&self, path: &str) -> &Setting {
        self.get(path).expect("the path is declared in the list of keys")
    }

    fn value(&self, path: &str) -> Option<&Value> {
        self.setting(path).value()
    }

    // The readers below are for settings that were checked: what has a default has a value then. A kind other
    // than the one asked for is a mistake in this program, which every test of the defaults finds.

    pub(super) fn bool_if_set(&self, path: &str) -> Option<bool> {
        match self.value(path)? {
            Value::Bool(on) => Some(*on),
            other => unreachable!("{path} is a switch, not {other:?}"),
        }
    }

    pub(super) fn bool(&self, path: &str) -> bool {
        self.bool_if_set(path).expect("the key has a default")
    }

    pub(super) fn int_if_set<N: TryFrom<u64>>(&self, path: &str) -> Option<N> {
        match self.value(path)? {
            Value::Int(number) => Some(N::try_from(*number).ok().expect("a key's range fits its type")),
            other => unreachable!("{path} is a number, not {other:?}"),
        }
    }

    pub(super) fn int<N: TryFrom<u64>>(&self, path: &str) -> N {
        self.int_if_set(path).expect("the key has a default")
    }

    pub(super) fn millis_if_set(&self, path: &str) -> Option<Duration> {
        self.int_if_set(path).map(Duration::from_millis)
    }

    pub(super) fn millis(&self, path: &str) -> Duration {
        Duration::from_millis(self.int(path))
    }

    pub(super) fn text_if_set(&self, path: &str) -> Option<&str> {
        match self.value(path)? {
            Value::Text(text) => Some(text),
            other => unreachable!("{path} is a text, not {other:?}"),
        }
    }

    pub(super) fn text(&self, path: &str) -> &str {
        self.text_if_set(path).expect("the key has a default")
    }

    pub(super) fn path_if_set(&self, path: &str) -> Option<PathBuf> {
        self.text_if_set(path).map(PathBuf::from)
    }

    pub(super) fn secret_if_set(&self, path: &str) -> Option<Secret> {
        match self.value(path)? {
            Value::Secret(secret) => Some(secret.clone()),
            other => unreachable!("{path} is a secret, not {other:?}"),
        }
    }

    /// The elements of a list; none if the list is in a file that could not be read.
    pub(super) fn list(&self, path: &str) -> &[Value] {
        match self.value(path) {
            Some(Value::List(elements)) => elements,
            None => &[],
            Some(other) => unreachable!("{path} is a list, not {other:?}"),
        }
    }

    pub(super) fn texts(&self, path: &str) -> Vec<String> {
        let text = |value: &Value| match value {
            Value::Text(text) => text.clone(),
            other => unreachable!("{path} is a list of texts, not {other:?}"),
        };
        self.list(path).iter().map(text).collect()
    }

    pub(super) fn ids(&self, path: &str) -> Vec<u32> {
        let id = |value: &Value| match value {
            Value::Int(id) => u32::try_from(*id).expect("the kind's range is that of u32"),
            other => unreachable!("{path} is a list of numbers, not {other:?}"),
        };
        self.list(path).iter().map(id).collect()
    }
}
