//! Families of tables whose names are free, such as `[routes.<name>]`: declared once, like the sections.
//!
//! Each key of a family stands for one setting in every table of it, and its default may differ from table to table.
//! Reading, checking, showing and describing know families and no family in particular.

use std::collections::{BTreeMap, BTreeSet};

use super::key::{Key, OldName};
use super::rest_keys::{REST, REST_ERRORS};
use super::route_keys::ROUTES;

/// One family.
#[derive(Debug)]
pub(super) struct Family {
    /// The first name of its tables.
    pub(super) name: &'static str,
    /// What one of them is, for people.
    pub(super) one: &'static str,
    /// What they are for, in a sentence.
    pub(super) heading: &'static str,
    /// What the file of defaults says before them.
    pub(super) introduction: &'static str,
    /// The keys of a table; their paths lack `<family>.<name>.`.
    pub(super) keys: &'static [Key],
    /// The tables that exist without a file.
    pub(super) built_in: &'static [BuiltIn],
}

/// A table that exists without a file. Each of its keys can be set like that of any other.
#[derive(Debug)]
pub(super) struct BuiltIn {
    /// Its name.
    pub(super) name: &'static str,
    /// Why it exists, for the file of defaults.
    pub(super) doc: &'static str,
    /// The defaults that differ from those of the family's keys.
    pub(super) defaults: &'static [(&'static str, &'static str)],
    /// Names of the predecessor that set one of its keys.
    pub(super) old_names: &'static [(&'static str, &'static [OldName])],
}

/// The families in the order of the file, after all sections. A reload puts each of their keys in force.
pub(super) static FAMILIES: &[&Family] = &[&ROUTES, &REST, &REST_ERRORS];

/// The names of the tables that there are, by the name of their family.
pub(super) type Names = BTreeMap<&'static str, BTreeSet<String>>;

/// What a table may be called.
pub(super) const TABLE_NAME: &str = "lower-case letters, digits, - and _";

/// Whether `name` may be the name of a table.
pub(super) fn is_table_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed)
}

impl Family {
    /// The key of that name.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.path == name)
    }

    /// The built-in table of that name.
    pub(super) fn built_in(&self, name: &str) -> Option<&'static BuiltIn> {
        self.built_in.iter().find(|table| table.name == name)
    }

    /// The default of one key of one table, as text.
    pub(super) fn default(&self, table: &str, key: &Key) -> Option<&'static str> {
        let own =
            self.built_in(table).and_then(|table| table.defaults.iter().find(|(name, _)| *name == key.path));
        own.map(|(_, text)| *text).or(key.default)
    }
}

/// The family of that name.
pub(super) fn of(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.name == name).copied()
}

/// The names of the tables that exist without a file.
pub(super) fn built_in_names() -> Names {
    let names =
        |family: &&'static Family| family.built_in.iter().map(|table| table.name.to_owned()).collect();
    FAMILIES.iter().map(|family| (family.name, names(family))).collect()
}

/// Family, table and key of a full path such as `routes.decide.subject`; `None` if it is none.
pub(super) fn split(path: &str) -> Option<(&'static Family, &str, &'static Key)> {
    let (family, rest) = path.split_once('.')?;
    let (table, key) = rest.rsplit_once('.')?;
    let family = of(family)?;
    Some((family, table, family.key(key)?))
}
