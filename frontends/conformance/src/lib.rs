//! Proves that all doors are one gateway: one table of cases, tried by every door, on both backends.
//!
//! Every cell has a gateway of its own, started in this process with the case's settings, a client that speaks
//! the door's protocol over a real socket, and an outside party behind the backend. A cell passes, or its
//! protocol has no words for the case and says where that is written. `cargo run -p ipc-gateway-conformance`
//! writes the matrix to `docs/conformance.md`.
//!
//! | module | holds |
//! |---|---|
//! | [`doors`] | the columns, and what each cannot express |
//! | [`cases`] | the rows |
//! | [`broker`] | the backends with their outside party |
//! | [`ground`] | one cell's gateway, and what cases say and expect |
//! | [`matrix`] | all cells, and the page |

pub mod broker;
pub mod cases;
pub mod doors;
pub mod ground;
pub mod matrix;
#[path = "../../../tests/fixtures/nats_server.rs"]
#[expect(clippy::unwrap_used, dead_code, reason = "a fixture of tests, of which this uses a part")]
mod nats_server;
