//! The gRPC door of the whole gateway, over real sockets: a stock client, and raw HTTP/2 that is up to no good.

#![expect(
    clippy::unwrap_used,
    reason = "tests state their expectations with unwrap, in functions they share too"
)]

#[path = "e2e_grpc/bad_calls.rs"]
mod bad_calls;
#[path = "e2e_grpc/calls.rs"]
mod calls;
#[path = "e2e_grpc/floods.rs"]
mod floods;
#[path = "fixtures/grpc_python.rs"]
mod grpc_python;
#[path = "e2e_grpc/health.rs"]
mod health;
#[path = "e2e_grpc/load.rs"]
mod load;
#[path = "fixtures/nats_server.rs"]
#[expect(dead_code, reason = "each test program uses a part of it")]
mod nats_server;
#[path = "fixtures/running.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod running;
#[path = "e2e_grpc/stock.rs"]
mod stock;
#[path = "e2e_grpc/takers.rs"]
mod takers;
#[path = "e2e_grpc/web.rs"]
mod web;

/// The door that is tested.
const DOOR: &str = "grpc";
