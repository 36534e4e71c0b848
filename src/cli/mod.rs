//! The command line: each subcommand is a function that writes to what it is given and returns an exit code.

pub mod check;
pub mod show;
