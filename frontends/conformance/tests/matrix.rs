//! The matrix is full: every cell passes or cites why it cannot, and the page of the documentation says so.

use std::path::Path;

use conformance::matrix::{self, Matrix, page};

/// Cells that a protocol has no words for, on each backend. A change here is a change of what a door can say.
const NOT_EXPRESSIBLE: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_door_is_the_same_gateway() {
    let matrices = matrix::run("").await;
    let text = page(&matrices);
    println!("{text}");
    let failures: Vec<_> = matrices.iter().flat_map(Matrix::failures).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    for matrix in &matrices {
        assert_eq!(matrix.counts().1, NOT_EXPRESSIBLE, "{}", matrix.behind);
    }
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    let written = std::fs::read_to_string(written).expect("the page is there");
    assert_eq!(written, text, "the page is old: cargo run -p ipc-gateway-conformance");
}
