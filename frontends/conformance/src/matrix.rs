//! All cells: run, counted, and written as a page.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::broker::{Behind, Server};
use crate::cases::{CASES, Case};
use crate::doors::{DOORS, Door};
use crate::ground::Ground;

/// No cell takes longer: a hang is a failure with a name.
const CELL_SECONDS_MAX: u64 = 60;
/// Cells that are tried at the same time.
const CELLS_AT_ONCE: usize = 4;

/// What came of one cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// As it must be.
    Passes,
    /// The protocol cannot express it, by this section.
    NotExpressible(&'static str),
    /// Not as it must be, and why.
    Fails(String),
}

/// The matrix of one backend, a row a case and a column a door.
#[derive(Debug)]
pub struct Matrix {
    /// The backend.
    pub behind: &'static str,
    /// The cells.
    pub rows: Vec<(&'static Case, Vec<Cell>)>,
}

/// Tries every cell on both backends; `filter` limits it to cases and doors whose names contain it.
pub async fn run(filter: &str) -> Vec<Matrix> {
    let server = Server::start();
    let mut matrices = Vec::new();
    for behind in [Behind::Embedded, server.behind()] {
        let mut rows = Vec::new();
        for case in CASES.iter().filter(|case| chosen(case, filter)) {
            let cells = DOORS.iter().map(|door| cell(case, door, behind));
            rows.push((case, at_once(cells).await));
        }
        matrices.push(Matrix { behind: behind.name(), rows });
    }
    matrices
}

fn chosen(case: &Case, filter: &str) -> bool {
    case.name.contains(filter)
}

async fn at_once(cells: impl Iterator<Item = impl Future<Output = Cell>>) -> Vec<Cell> {
    use futures_util::StreamExt;
    futures_util::stream::iter(cells).buffered(CELLS_AT_ONCE).collect().await
}

async fn cell(case: &'static Case, door: &'static Door, behind: Behind) -> Cell {
    static SUBJECTS: AtomicUsize = AtomicUsize::new(0);
    if let Some(section) = door.cannot(case.name) {
        return Cell::NotExpressible(section);
    }
    let subject = format!("matrix.s{}", SUBJECTS.fetch_add(1, Ordering::Relaxed));
    let whole = async {
        let mut ground = Ground::open(door, behind, &subject, case.settings).await;
        let outcome = (case.run)(&mut ground).await;
        ground.close().await;
        outcome
    };
    match tokio::time::timeout(Duration::from_secs(CELL_SECONDS_MAX), whole).await {
        Ok(Ok(())) => Cell::Passes,
        Ok(Err(fault)) => Cell::Fails(fault),
        Err(_) => Cell::Fails(format!("not done within {CELL_SECONDS_MAX} s")),
    }
}

impl Matrix {
    /// Each cell that fails, as a line.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        self.rows.iter().flat_map(move |(case, cells)| {
            DOORS.iter().zip(cells).filter_map(move |(door, cell)| match cell {
                Cell::Fails(fault) => {
                    Some(format!("{} on {} by {}: {fault}", case.name, self.behind, door.name))
                }
                _ => None,
            })
        })
    }

    /// How many cells pass, cannot be expressed, and fail.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |which: fn(&Cell) -> bool| {
            self.rows.iter().flat_map(|(_, cells)| cells).filter(|cell| which(cell)).count()
        };
        (
            count(|cell| matches!(cell, Cell::Passes)),
            count(|cell| matches!(cell, Cell::NotExpressible(_))),
            count(|cell| matches!(cell, Cell::Fails(_))),
        )
    }
}

/// The page of the documentation.
pub fn page(matrices: &[Matrix]) -> String {
    let mut text = String::from(HEAD);
    let mut sections: Vec<&str> = Vec::new();
    for matrix in matrices {
        let (passed, not, failed) = matrix.counts();
        let _ = writeln!(text, "\n## Backend `{}`\n", matrix.behind);
        let _ = writeln!(text, "{passed} cells pass, {not} cannot be expressed, {failed} fail.\n");
        let names: Vec<_> = DOORS.iter().map(|door| door.name).collect();
        let _ = writeln!(text, "| case | {} |", names.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(names.len()));
        for (case, cells) in &matrix.rows {
            let shown: Vec<_> = cells
                .iter()
                .map(|cell| match cell {
                    Cell::Passes => "✓".to_owned(),
                    Cell::Fails(_) => "**✗**".to_owned(),
                    Cell::NotExpressible(section) => {
                        let known = sections.iter().position(|known| known == section);
                        let number = known.unwrap_or_else(|| {
                            sections.push(section);
                            sections.len() - 1
                        });
                        format!("[{}](#what-a-protocol-cannot-express)", number + 1)
                    }
                })
                .collect();
            let _ = writeln!(text, "| {} | {} |", case.name, shown.join(" | "));
        }
    }
    text.push_str(CANNOT);
    for (number, section) in sections.iter().enumerate() {
        let (page, says) = section.split_once(", ").unwrap_or((section, ""));
        let _ = writeln!(text, "{}. [{page}](protocols/{page}), {says}", number + 1);
    }
    text
}

const HEAD: &str = "\
# Conformance

All doors are one gateway: the same case by every door, on both backends, over real sockets and a real
nats-server. This page is written by

```sh
cargo run -p ipc-gateway-conformance
```

and `tests/run` tries every cell again. A number names the section that says that the protocol has no words for
the case.
";

const CANNOT: &str = "
## What a protocol cannot express

";
