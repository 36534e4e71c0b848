//! The JSON Schema (draft 2020-12) of the configuration file, for editors and for checks in a pipeline.
//!
//! Derived from the list of keys; what it cannot say (contradictions between keys) is left to `check`.

use serde_json::{Map, Value as Json, json};

use super::family::FAMILIES;
use super::key::{Key, own_name};
use super::keys::{SECTIONS, keys};
use super::value::Kind;

/// The schema as a JSON document.
pub fn schema() -> Json {
    let mut top = Map::new();
    for section in SECTIONS {
        let properties = properties(section.keys.iter(), Key::name);
        if section.name.is_empty() {
            top.extend(properties);
        } else {
            top.insert(section.name.to_owned(), table(section.heading, &properties));
        }
    }
    for family in FAMILIES {
        let one =
            table(&format!("Settings of {}.", family.one), &properties(family.keys.iter(), |key| key.path));
        top.insert(
            family.name.into(),
            json!({
                "description": family.heading,
                "type": "object",
                "propertyNames": { "pattern": "^[a-z0-9_-]{1,64}$" },
                "additionalProperties": one,
            }),
        );
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "IPC Gateway configuration",
        "type": "object",
        "additionalProperties": false,
        "properties": top,
    })
}

fn table(description: &str, properties: &Map<String, Json>) -> Json {
    json!({
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn properties<'a>(keys: impl Iterator<Item = &'a Key>, name: fn(&Key) -> &'static str) -> Map<String, Json> {
    let mut properties = Map::new();
    for key in keys {
        let mut property = kind(&key.kind);
        property.insert("description".into(), description(key).into());
        // The default of a family's key may differ from table to table, so it is no default of the schema
        // then.
        if let Some(text) = key.default {
            let default = key.kind.parse_text(text).expect("defaults are valid, which a test proves");
            property.insert("default".into(), default.to_json());
        }
        if key.is_secret() {
            property.insert("writeOnly".into(), true.into());
        }
        properties.insert(name(key).to_owned(), property.into());
        if key.may_be_file() {
            let described = format!("A file that holds {}.", key.path);
            let file = json!({ "type": "string", "minLength": 1, "description": described });
            properties.insert(format!("{}_file", name(key)), file);
        }
    }
    properties
}

fn description(key: &Key) -> String {
    let text = format!("{} Allowed: {}.", key.doc, key.kind.allowed());
    // A family's key has no name before the table has one.
    if !keys().any(|known| std::ptr::eq(known, key)) {
        return text;
    }
    let old = key.old_names.iter().map(|old| format!(", {}", old.name));
    format!("{text} Environment: {}{}.", own_name(key.path), old.collect::<String>())
}

fn kind(kind: &Kind) -> Map<String, Json> {
    let schema = match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int { min, max, .. } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Id => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX - 1 }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Mode => json!({ "type": "string", "pattern": "^0?[0-7]{3}$" }),
        Kind::Address => json!({ "type": "string", "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] }),
        Kind::Peer => {
            json!({ "type": "string", "pattern": "^(any|local|loopback|anonymous|[ug]id:[0-9]+)$" })
        }
        Kind::List(item) => json!({ "type": "array", "items": self::kind(item) }),
        Kind::Text
        | Kind::Secret
        | Kind::Path
        | Kind::Filter
        | Kind::Host
        | Kind::Url
        | Kind::Subject
        | Kind::Pattern
        | Kind::Prefix
        | Kind::Header
        | Kind::Origin => json!({ "type": "string", "minLength": 1 }),
    };
    match schema {
        Json::Object(members) => members,
        _ => unreachable!("every kind's schema is an object"),
    }
}
