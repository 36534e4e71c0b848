//! `ipc-gateway check`: is this configuration good?
//!
//! Made for the machine that prepares a deployment, which has the file but not the secrets: a missing one is
//! a warning there, and an error with `--strict`.

use std::io::{self, Write};

use crate::app::{backends, rest};
use crate::backend::nats;
use crate::config::{Backend, Config, Loaded, MissingFiles, Problem, Problems, Sources};

/// The exit code for a good configuration.
pub const GOOD: u8 = 0;
/// The exit code for a bad one.
pub const BAD: u8 = 2;

/// Checks what `sources` say together and writes the result to `out`. Returns [`GOOD`] or [`BAD`]; fails only
/// if `out` does.
pub fn check(mut sources: Sources, strict: bool, out: &mut dyn Write) -> io::Result<u8> {
    sources.missing_files = if strict { MissingFiles::Refuse } else { MissingFiles::Warn };
    let loaded = match Config::load(&sources) {
        Ok(loaded) => loaded,
        Err(problems) => {
            writeln!(out, "{problems}")?;
            return Ok(BAD);
        }
    };
    let mut problems = problems_of_nats(&loaded, strict);
    if let Err(of_paths) = rest::check(&loaded) {
        problems.extend(of_paths.0);
    }
    if !problems.is_empty() {
        writeln!(out, "{}", Problems(problems))?;
        return Ok(BAD);
    }
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let file = loaded.file.map_or("no file".to_owned(), |path| path.display().to_string());
    let backend = match loaded.config.backend {
        Backend::Embedded => "embedded (no NATS)",
        Backend::Nats => "NATS",
    };
    writeln!(out, "ok: {file}, {} routes, backend {backend}", loaded.config.routes.len())?;
    Ok(GOOD)
}

/// What would keep the NATS backend from being opened, such as a file with the wrong thing in it. Missing files
/// were told already, with the configuration.
fn problems_of_nats(loaded: &Loaded, strict: bool) -> Vec<Problem> {
    if loaded.config.backend != Backend::Nats {
        return Vec::new();
    }
    let settings = backends::nats(&loaded.config);
    let Err(errors) = settings.and_then(|settings| settings.check()) else { return Vec::new() };
    let is_there = |error: &nats::OpenError| {
        let setting = loaded.resolved.get(&format!("nats.{}", error.setting));
        !error.missing_file && setting.is_none_or(|setting| !setting.is_set() || setting.value().is_some())
    };
    let wrong = errors.0.into_iter().filter(|error| strict || is_there(error));
    let problem = |error: nats::OpenError| {
        let key = format!("nats.{}", error.setting);
        let setting = loaded.resolved.get(&key);
        Problem {
            source: setting.map(|setting| setting.source.clone()),
            key,
            value: None,
            what: format!("cannot be used: {}", error.reason),
            allowed: None,
        }
    };
    wrong.map(problem).collect()
}
