//! The text of `config/gateway.toml`: every key with its description, its range and its default.
//!
//! Written by the program so that the file can be compared with it, and never drifts.

use super::environment::old_names_of;
use super::key::{Key, OldName};
use super::keys::SECTIONS;
use super::route_keys::{BUILT_IN_ROUTES, ROUTE_KEYS, route_default};
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

const ROUTES_HEAD: &str = "\
# Routes: which requests go where, and who may send them. Any table [routes.<name>] is one more. The two below
# exist without this file; patterns = [] and message_types = [] switch one off. A reload puts all of this in
# force.
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
    text.push_str("\n\n");
    text.push_str(ROUTES_HEAD);
    for (number, route) in BUILT_IN_ROUTES.iter().enumerate() {
        text.push('\n');
        comment(&mut text, route.doc);
        table(&mut text, &format!("routes.{}", route.name));
        for key in ROUTE_KEYS {
            // Once is enough: the keys of all routes are the same.
            if number == 0 {
                describe(&mut text, key, old_names_of(&format!("routes.{}.{}", route.name, key.path)));
            }
            assign(&mut text, key.path, key, route_default(route.name, key));
        }
    }
    text
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
