//! Backends: one suite of cases, run on each of them.

#![expect(
    clippy::unwrap_used,
    reason = "tests state their expectations with unwrap, in functions they share too"
)]

#[path = "backend/cases.rs"]
mod cases;
#[path = "backend/streamed.rs"]
mod streamed;
#[path = "backend/suite.rs"]
mod suite;

#[path = "backend/embedded.rs"]
mod embedded;
#[path = "backend/hub.rs"]
mod hub;
#[path = "backend/model.rs"]
mod model;

#[path = "fixtures/certificates.rs"]
mod certificates;
#[path = "backend/nats.rs"]
mod nats;
#[path = "fixtures/nats_server.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod nats_server;
#[path = "fixtures/operator.rs"]
mod operator;
