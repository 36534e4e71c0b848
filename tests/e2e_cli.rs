//! The command line against a running gateway: the real binary on both sides of a real socket.

#![expect(
    clippy::unwrap_used,
    reason = "tests state their expectations with unwrap, in functions they share too"
)]

#[path = "fixtures/nats_server.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod nats_server;
#[path = "e2e_cli/program.rs"]
mod program;

#[path = "e2e_cli/bench.rs"]
mod bench;
#[path = "e2e_cli/deploy.rs"]
mod deploy;
#[path = "e2e_cli/questions.rs"]
mod questions;
#[path = "e2e_cli/soak.rs"]
mod soak;
#[path = "e2e_cli/status.rs"]
mod status;
#[path = "e2e_cli/subscriptions.rs"]
mod subscriptions;
