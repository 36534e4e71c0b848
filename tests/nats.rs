//! The NATS backend over a real nats-server: recovery, order, limits, permissions, the size of the pool.
//! What every backend must do is in `tests/backend.rs`.

#![expect(
    clippy::unwrap_used,
    reason = "tests state their expectations with unwrap, in functions they share too"
)]

#[path = "fixtures/certificates.rs"]
mod certificates;
#[path = "fixtures/nats_server.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod nats_server;
#[path = "fixtures/operator.rs"]
mod operator;
#[path = "nats/scene.rs"]
mod scene;

#[path = "nats/lame_duck.rs"]
mod lame_duck;
#[path = "nats/limits.rs"]
mod limits;
#[path = "nats/load.rs"]
mod load;
#[path = "nats/permissions.rs"]
mod permissions;
#[path = "nats/recovery.rs"]
mod recovery;
#[path = "nats/security.rs"]
mod security;
