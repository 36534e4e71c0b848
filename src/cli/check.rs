//! `ipc-gateway check`: is this configuration good?
//!
//! Made for the machine that prepares a deployment, which has the file but not the secrets: a missing one is
//! a warning there, and an error with `--strict`.

use std::io::{self, Write};

use crate::config::{Backend, Config, MissingFiles, Sources};

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
