//! The list of keys against what is made from it: defaults, file, schema, outputs and the typed
//! configuration.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::super::family::FAMILIES;
use super::super::key::own_name;
use super::super::route_keys::BUILT_IN_ROUTES;
use super::super::unused::UNUSED_NAMES;
use super::*;
use crate::cli::check::GOOD;
use crate::cli::show::{Form, show};

/// The committed file.
fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/gateway.toml")
}

fn output(sources: Sources, form: Form) -> String {
    let mut out = Vec::new();
    assert_eq!(show(sources, form, &mut out).unwrap(), GOOD);
    String::from_utf8(out).unwrap()
}

#[test]
fn defaults_and_examples_are_valid_and_names_are_unique() {
    let mut names = BTreeSet::new();
    for key in keys().chain(ROUTE_KEYS) {
        let text = key.default.unwrap_or(key.example);
        key.kind.parse_text(text).unwrap_or_else(|what| panic!("{}: {text:?} {what}", key.path));
        assert!(names.insert(key.path), "{} is declared twice", key.path);
        assert!(key.doc.ends_with('.'), "{} has no sentence", key.path);
        assert!(key.path.split('.').count() <= 2 && key.path == key.path.to_ascii_lowercase());
        for old in key.old_names {
            assert!(names.insert(old.name), "{} sets two keys", old.name);
        }
    }
    for key in FAMILIES.iter().flat_map(|family| family.keys) {
        let text = key.default.unwrap_or(key.example);
        key.kind.parse_text(text).unwrap_or_else(|what| panic!("{}: {text:?} {what}", key.path));
        assert!(key.doc.ends_with('.') && !key.path.contains('.'), "{}", key.path);
    }
}

#[test]
fn every_key_reaches_the_typed_configuration() {
    // A valid value that is not the default; contradictions between keys do not matter here.
    let other = |key: &Key| -> String {
        match (&key.kind, key.default) {
            // On as its section is.
            _ if key.path == "backpressure_enabled" => "false".into(),
            (Kind::Bool, default) => if default == Some("true") { "false" } else { "true" }.into(),
            (Kind::Int { min, max, .. }, default) => {
                let default = default.and_then(|text| text.parse().ok());
                let other = if default == Some(*max) { min } else { max };
                other.to_string()
            }
            (Kind::Choice(words), default) => {
                words.iter().rfind(|word| Some(**word) != default).unwrap().to_string()
            }
            (Kind::Mode, _) => "0660".into(),
            (Kind::Address, _) => "::1".into(),
            (Kind::Filter, _) => "debug".into(),
            (Kind::List(Kind::Id), _) => "7".into(),
            (Kind::List(Kind::Choice(words)), _) => words[0].into(),
            (Kind::List(Kind::Peer), _) => "any".into(),
            (Kind::List(Kind::Origin), _) => "https://other.example".into(),
            _ => "other".into(),
        }
    };
    let typed = |pairs: &[(&str, &str)]| Config::from_resolved(&with_environment(pairs).resolve().resolved);
    // Keys that only count together with another one, which is set beside it.
    let beside = |key: &Key| match key.path {
        "nats.user" => ("IPC_GATEWAY__NATS__PASSWORD", "p"),
        "nats.password" => ("IPC_GATEWAY__NATS__USER", "u"),
        "nats.tls_certificate_file" => ("IPC_GATEWAY__NATS__TLS_KEY_FILE", "k"),
        "nats.tls_key_file" => ("IPC_GATEWAY__NATS__TLS_CERTIFICATE_FILE", "c"),
        "limits.rate_burst" => ("IPC_GATEWAY__LIMITS__RATE_PER_SECOND", "2"),
        "limits.peer_rate_burst" => ("IPC_GATEWAY__LIMITS__PEER_RATE_PER_SECOND", "2"),
        "rate_burst" => ("IPC_GATEWAY__ROUTES__LOCAL__RATE_PER_SECOND", "2"),
        "concurrency.adaptive" => ("UNRELATED", ""),
        "idempotency_window_ms" => ("IPC_GATEWAY__ROUTES__LOCAL__IDEMPOTENCY", "1"),
        path if path == "idempotency.bucket"
            || path.starts_with("idempotency.bucket_")
            || ["idempotency.when_unavailable", "idempotency.lease_ms", "idempotency.store_timeout_ms"]
                .contains(&path) =>
        {
            ("IPC_GATEWAY__IDEMPOTENCY__STORE", "nats_kv")
        }
        path if path.starts_with("concurrency.") => ("IPC_GATEWAY__CONCURRENCY__ADAPTIVE", "1"),
        "backpressure_enabled" => ("IPC_GATEWAY__ROUTES__LOCAL__BACKPRESSURE_SUBJECT", "s"),
        "breaker_enabled" => ("UNRELATED", ""),
        path if path.starts_with("breaker_") => ("IPC_GATEWAY__ROUTES__LOCAL__BREAKER_ENABLED", "1"),
        "default_task_type" | "envelope_bytes_max" | "assignment_allowed" => {
            ("IPC_GATEWAY__ROUTES__LOCAL__PROFILE", "beamline-router-v1")
        }
        "results_keys_max" => ("IPC_GATEWAY__ROUTES__LOCAL__PROFILE", "beamline-results-v1"),
        "replies_bytes_max" | "reply_gap_timeout_ms" | "replies_timeout_ms" => {
            ("IPC_GATEWAY__ROUTES__LOCAL__REPLIES_MAX", "2")
        }
        _ => ("UNRELATED", ""),
    };
    let names = keys().map(|key| (key, own_name(key.path)));
    let table = |family: &str| if family == "routes" { "local" } else { "x" };
    let of_families = FAMILIES.iter().flat_map(|family| {
        let path = move |key: &Key| format!("{}.{}.{}", family.name, table(family.name), key.path);
        family.keys.iter().map(move |key| (key, own_name(&path(key))))
    });
    for (key, name) in names.chain(of_families) {
        // The built-in route's default is * already.
        let value = other(key);
        let (with, without) = (typed(&[(&name, &value), beside(key)]), typed(&[beside(key)]));
        assert_ne!(with, without, "{} has no effect with {value}", key.path);
    }
}

#[test]
fn the_file_of_defaults_is_what_the_program_prints() {
    let printed = output(nothing(), Form::Defaults);
    let file = std::fs::read_to_string(committed()).unwrap();
    assert!(
        file == printed,
        "config/gateway.toml differs from the list of keys; write it again with \
         `cargo run -- config --defaults > config/gateway.toml`"
    );
    let widest = file.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(110), "a line is {widest:?} wide");
}

#[test]
fn the_file_of_defaults_says_nothing_but_defaults() {
    let loaded = good(&Sources { file: Some(committed()), ..nothing() });
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, [] as [String; 0]);
    for setting in loaded.resolved.iter() {
        assert_eq!(setting.is_set(), setting.value().is_some(), "{} is not in the file", setting.path);
    }
    // What is commented out is there as well, and valid in itself.
    let text = std::fs::read_to_string(committed()).unwrap();
    for key in keys().filter(|key| key.default.is_none()) {
        assert!(text.contains(&format!("\n#{} = ", key.name())), "{} is not in the file", key.path);
    }
    let uncommented: String = text
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with(' ') && (rest.contains(" = ") || rest.starts_with('[')))
                .unwrap_or(line)
                .to_owned()
                + "\n"
        })
        .collect();
    let (_directory, sources) = with_file(&uncommented);
    let problems = Config::load(&Sources { missing_files: MissingFiles::Warn, ..sources }).unwrap_err();
    let text = problems.to_string();
    assert_eq!(problems.0.len(), 1, "only the kinds of credentials contradict each other: {text}");
    assert!(text.contains("more than one kind of credential"), "{text}");
}

#[test]
fn the_documentation_knows_every_old_name() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let of_routes = BUILT_IN_ROUTES.iter().flat_map(|route| route.old_names).flat_map(|(_, names)| *names);
    let old = keys().flat_map(|key| key.old_names).chain(of_routes).map(|old| old.name);
    for name in old.chain(UNUSED_NAMES.iter().map(|(name, _)| *name)) {
        assert!(text.contains(&format!("`{name}`")), "{name} is not documented");
    }
}

#[test]
fn the_schema_knows_every_key_with_its_range_and_default() {
    let schema: Json = serde_json::from_str(&output(nothing(), Form::Schema)).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let top = &schema["properties"];
    for key in keys() {
        let property = match key.section() {
            "" => &top[key.name()],
            section => &top[section]["properties"][key.name()],
        };
        let default = key.default.map_or(Json::Null, |text| key.kind.parse_text(text).unwrap().to_json());
        assert_eq!(property["default"], default, "{}", key.path);
        assert!(property["description"].as_str().unwrap().contains(key.doc), "{}", key.path);
    }
    assert_eq!(top["ipc"]["properties"]["in_flight_max"]["maximum"], 4096);
    assert_eq!(top["ipc"]["additionalProperties"], false);
    assert_eq!(top["backend"]["properties"]["kind"]["enum"], serde_json::json!(["auto", "embedded", "nats"]));
    assert_eq!(top["nats"]["properties"]["password"]["writeOnly"], true);
    assert_eq!(top["nats"]["properties"]["password_file"]["type"], "string");
    for family in FAMILIES {
        let one = &top[family.name]["additionalProperties"]["properties"];
        for key in family.keys {
            assert!(one[key.path]["type"].is_string(), "{}.{}", family.name, key.path);
        }
    }
}

#[test]
fn the_schema_accepts_the_file_of_defaults() {
    // The few keywords that the schema uses; another one is a failure here.
    fn accepts(schema: &Json, value: &toml::Value, at: &str) {
        for (keyword, argument) in schema.as_object().unwrap() {
            let fits = match keyword.as_str() {
                "type" => match argument.as_str().unwrap() {
                    "object" => value.is_table(),
                    "array" => value.is_array(),
                    "string" => value.is_str(),
                    "integer" => value.is_integer(),
                    "boolean" => value.is_bool(),
                    other => panic!("type {other}"),
                },
                "minimum" => value.as_integer() >= argument.as_i64(),
                "maximum" => value.as_integer() <= argument.as_i64(),
                "minLength" => !value.as_str().unwrap().is_empty(),
                "enum" => argument.as_array().unwrap().iter().any(|word| word.as_str() == value.as_str()),
                "items" => {
                    value.as_array().unwrap().iter().for_each(|element| accepts(argument, element, at));
                    true
                }
                "properties" => {
                    for (name, member) in value.as_table().unwrap() {
                        match argument.get(name) {
                            Some(schema) => accepts(schema, member, &format!("{at}.{name}")),
                            None => assert_eq!(schema["additionalProperties"], false, "{at}.{name}"),
                        }
                    }
                    value.as_table().unwrap().keys().all(|name| argument.get(name).is_some())
                }
                "additionalProperties" if argument.is_object() => {
                    for (name, member) in value.as_table().unwrap() {
                        accepts(argument, member, &format!("{at}.{name}"));
                    }
                    true
                }
                "$schema"
                | "title"
                | "description"
                | "default"
                | "writeOnly"
                | "pattern"
                | "propertyNames"
                | "anyOf"
                | "additionalProperties" => true,
                other => panic!("keyword {other}"),
            };
            assert!(fits, "{at} does not fit {keyword} {argument}");
        }
    }
    let file: toml::Value = toml::from_str(&defaults()).unwrap();
    accepts(&schema(), &file, "");
}

#[test]
fn config_shows_values_with_their_sources() {
    let sources =
        with_environment(&[("GATEWAY_PORT", "9"), ("CGW_IPC_NONE", "1"), ("IPC_GATEWAY__NATS__TOKEN", "x")]);
    let table = output(sources.clone(), Form::Table);
    let line = |start: &str| table.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(line("admin.port = 9 ").ends_with("  # environment GATEWAY_PORT"));
    assert!(
        line("ipc.path = ").contains("\"/tmp/beamline-gateway.sock\"")
            && line("ipc.path = ").ends_with("# default")
    );
    assert!(line("nats.token = ").contains("\"***\""));
    assert!(table.contains("# nats.user is not set"));
    assert!(line("# warning: ").contains("CGW_IPC_NONE"));
    let json: Json = serde_json::from_str(&output(sources, Form::Json)).unwrap();
    let settings = json["settings"].as_array().unwrap();
    assert_eq!(settings.len(), keys().count() + 2 * ROUTE_KEYS.len());
    let port = settings.iter().find(|setting| setting["key"] == "admin.port").unwrap();
    assert_eq!((&port["value"], &port["source"]), (&9.into(), &"environment GATEWAY_PORT".into()));
    // Without comments the table is a file that says the same.
    let _parsed: toml::Table = toml::from_str(&output(nothing(), Form::Table)).unwrap();
}
