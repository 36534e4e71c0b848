//! Runs the matrix and writes `docs/conformance.md`. An argument limits it to cases whose names contain it, and
//! then nothing is written.

use std::path::Path;
use std::process::ExitCode;

use conformance::matrix::{self, page};

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]
async fn main() -> ExitCode {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let matrices = matrix::run(&filter).await;
    let text = page(&matrices);
    println!("{text}");
    let failures: Vec<_> = matrices.iter().flat_map(matrix::Matrix::failures).collect();
    for failure in &failures {
        eprintln!("{failure}");
    }
    if filter.is_empty() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
        if let Err(error) = std::fs::write(&file, text) {
            eprintln!("cannot write {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
