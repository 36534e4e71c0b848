//! What a setting is: its name, kind, default and description, and the names in the environment that set it.
//!
//! Constant functions instead of a builder, so that the whole list is built by the compiler.

use super::value::Kind;

/// One setting, or one setting of every route (then the path is relative to `routes.<name>`).
#[derive(Debug)]
pub struct Key {
    /// The dotted name, such as `ipc.path`: at most one section, then the key.
    pub path: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// One or more sentences for the person who sets it.
    pub doc: &'static str,
    /// The default as text, in the form the environment uses. `None`: not set unless somebody sets it.
    pub default: Option<&'static str>,
    /// A valid value for keys without a default, shown in the file of defaults.
    pub example: &'static str,
    /// Names of the predecessor that set it, the most specific first.
    pub old_names: &'static [OldName],
    /// Whether a reload puts another value in force; otherwise it needs a restart. Keys of routes always do.
    pub reloadable: bool,
}

/// A name in the environment that an earlier program used.
#[derive(Debug)]
pub struct OldName {
    /// The name.
    pub name: &'static str,
    /// For a name that was a switch: the values that off and on stand for. `None`: its value is the key's
    /// value.
    pub switch: Option<(&'static str, &'static str)>,
}

impl Key {
    /// A key without default.
    pub(super) const fn new(path: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { path, kind, doc, default: None, example: "", old_names: &[], reloadable: false }
    }

    /// The same with a default.
    pub(super) const fn default_to(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    /// The same with an example.
    pub(super) const fn example(mut self, text: &'static str) -> Self {
        self.example = text;
        self
    }

    /// The same with names of the predecessor.
    pub(super) const fn old(mut self, names: &'static [OldName]) -> Self {
        self.old_names = names;
        self
    }

    /// The same, put in force by a reload.
    pub(super) const fn reloadable(mut self) -> Self {
        self.reloadable = true;
        self
    }

    /// The section's name; empty for keys at the top of the file.
    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name within its section.
    pub fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }

    /// Whether the value must never be printed.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret)
    }

    /// Whether the value can be kept in a file of its own, named by `<key>_file` or `NAME_FILE`: secrets, and
    /// server addresses, since they may hold a password.
    pub fn may_be_file(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::List(Kind::Url))
    }
}

/// What every name of the gateway's own in the environment starts with.
pub(super) const ENVIRONMENT_PREFIX: &str = "IPC_GATEWAY__";

/// The gateway's own name of `path` in the environment: `ipc.path` is `IPC_GATEWAY__IPC__PATH`.
pub(super) fn own_name(path: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", path.replace('.', "__").replace('-', "_").to_ascii_uppercase())
}

/// An old name whose value is the key's value.
pub(super) const fn same(name: &'static str) -> OldName {
    OldName { name, switch: None }
}
