//! `ipc-gateway config`: the settings that count, and where each came from.
//!
//! Secrets are hidden by the values themselves, so no form of output can show one.

use std::io::{self, Write};

use serde_json::json;

use super::check::{BAD, GOOD};
use crate::config::{self, Config, Loaded, MissingFiles, Sources};

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A line a setting: `key = value  # source`.
    Table,
    /// The same as one JSON document.
    Json,
    /// The JSON Schema of the file; the sources do not matter.
    Schema,
    /// A file with every key at its default; the sources do not matter.
    Defaults,
}

/// Writes the settings to `out` in the given form. Returns [`GOOD`], or [`BAD`] with all problems written
/// where the configuration has some; fails only if `out` does.
pub fn show(mut sources: Sources, form: Form, out: &mut dyn Write) -> io::Result<u8> {
    match form {
        Form::Schema => writeln!(out, "{:#}", config::schema())?,
        Form::Defaults => out.write_all(config::defaults().as_bytes())?,
        Form::Table | Form::Json => {
            sources.missing_files = MissingFiles::Warn;
            match Config::load(&sources) {
                Ok(loaded) if form == Form::Json => writeln!(out, "{:#}", json(&loaded))?,
                Ok(loaded) => table(&loaded, out)?,
                Err(problems) => {
                    writeln!(out, "{problems}")?;
                    return Ok(BAD);
                }
            }
        }
    }
    Ok(GOOD)
}

fn table(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    for warning in &loaded.warnings {
        writeln!(out, "# warning: {warning}")?;
    }
    let line = |setting: &config::Setting| match setting.value() {
        Some(value) => format!("{} = {value}", setting.path),
        None if setting.is_set() => format!("# {} (in a file that cannot be read)", setting.path),
        None => format!("# {} is not set", setting.path),
    };
    let lines: Vec<_> = loaded.resolved.iter().map(|setting| (line(setting), &setting.source)).collect();
    // Longer lines than this push their source out instead of everybody's.
    let width =
        lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    for (line, source) in lines {
        writeln!(out, "{line:width$}  # {source}")?;
    }
    Ok(())
}

fn json(loaded: &Loaded) -> serde_json::Value {
    let setting = |setting: &config::Setting| {
        json!({
            "key": setting.path,
            "value": setting.value().map(config::Value::to_json),
            "source": setting.source.to_string(),
        })
    };
    json!({
        "file": loaded.file,
        "warnings": loaded.warnings,
        "settings": loaded.resolved.iter().map(setting).collect::<Vec<_>>(),
    })
}
