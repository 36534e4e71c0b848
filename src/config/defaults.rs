//! The text of `config/gateway.toml`: every key with its description, its range and its default.
//!
//! Written by the program so that the file can be compared with it, and never drifts.

use super::environment::old_names_of;
use super::family::{FAMILIES, Family};
use super::key::{Key, OldName};
use super::keys::SECTIONS;
use super::value::Value;

const HEAD: &str = "\
# The configuration of IPC Gateway: every key, set to its default. Keys that are not set by default are
# commented out, with an example. `ipc-gateway config --defaults` prints this file.
#
# Flags count before the environment, the environment before this file, this file before the defaults. In the
# environment a key is called IPC_GATEWAY__SECTION__KEY: IPC_GATEWAY__IPC__PATH is the key path of [ipc]. A
# secret can be kept in a file of its own, which the same name with _FILE, or here the same key with _file,
# names.
";

/// The widest line, as everywhere in the sources.
const WIDTH: usize = 110;

/// The whole file.
pub fn defaults() -> String {
    let mut text = HEAD.to_owned();
    for section in SECTIONS {
        text.push_str("\n\n");
        comment(&mut text, section.heading);
        if !section.name.is_empty() {
            table(&mut text, section.name);
        }
        for key in section.keys {
            describe(&mut text, key, key.old_names);
            assign(&mut text, key.name(), key, key.default);
        }
    }
    for family in FAMILIES {
        text.push_str("\n\n");
        text.push_str(family.introduction);
        tables(&mut text, family);
    }
    text
}

/// The tables of a family that exist without a file; of a family without any, one as an example.
fn tables(text: &mut String, family: &Family) {
    for (number, built_in) in family.built_in.iter().enumerate() {
        text.push('\n');
        comment(text, built_in.doc);
        table(text, &format!("{}.{}", family.name, built_in.name));
        for key in family.keys {
            // Once is enough: the keys of all tables are the same.
            if number == 0 {
                describe(text, key, old_names_of(&format!("{}.{}.{}", family.name, built_in.name, key.path)));
            }
            assign(text, key.path, key, family.default(built_in.name, key));
        }
    }
    if family.built_in.is_empty() {
        text.extend(["\n#[", family.name, ".example]\n"]);
        for key in family.keys {
            describe(text, key, &[]);
            let shown = key.default.unwrap_or(key.example);
            let value =
                key.kind.parse_text(shown).expect("defaults and examples are valid, which a test proves");
            let line = format!("#{} = {value}\n", key.path);
            text.push_str(&line);
        }
    }
}

fn table(text: &mut String, name: &str) {
    text.extend(["[", name, "]\n"]);
}

fn describe(text: &mut String, key: &Key, old_names: &[OldName]) {
    text.push('\n');
    comment(text, key.doc);
    let mut allowed = format!("Allowed: {}.", key.kind.allowed());
    if !old_names.is_empty() {
        let names: Vec<_> = old_names.iter().map(|old| old.name).collect();
        allowed = format!("{allowed} Also set by {}.", names.join(" and "));
    }
    if key.reloadable {
        allowed.push_str(" A reload puts it in force.");
    }
    comment(text, &allowed);
}

fn assign(text: &mut String, name: &str, key: &Key, default: Option<&str>) {
    let value =
        |text: &str| key.kind.parse_text(text).expect("defaults and examples are valid, which a test proves");
    let line = match default {
        Some(default) => format!("{name} = {}\n", value(default)),
        // A secret's example is shown as it is written here, not hidden.
        None if key.is_secret() => format!("#{name} = {}\n", Value::Text(key.example.into())),
        None => format!("#{name} = {}\n", value(key.example)),
    };
    text.push_str(&line);
}

/// Adds `words` as comment lines no wider than the rest of the sources.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
