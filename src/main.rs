//! The program: hands the command line and the environment to the library, and turns its answer into an exit
//! code. Nothing else ends the process.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use ipc_gateway::cli::{self, CommandLine};

fn main() -> ExitCode {
    let line = CommandLine::parse();
    match cli::main(line, std::env::vars_os(), &mut io::stdout().lock(), &mut io::stderr()) {
        Ok(code) => ExitCode::from(code),
        // Whoever read our output has gone; there is nobody left to tell.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            use io::Write as _;
            let _ = writeln!(io::stderr(), "ipc-gateway: {error}");
            ExitCode::from(cli::code::FAILED)
        }
    }
}
