//! `ipc-gateway completions`: what a shell completes after the program's name.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{CommandLine, code};

/// Writes the script for `shell`. Returns the exit code.
pub(super) fn completions(shell: Shell, out: &mut dyn Write) -> io::Result<u8> {
    // Into memory first: the generator panics when an output is gone.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "ipc-gateway", &mut script);
    out.write_all(&script)?;
    out.flush()?;
    Ok(code::OK)
}
