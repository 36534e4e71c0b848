//! The gRPC door of the whole gateway, over real sockets: a stock client, and raw HTTP/2 that is up to no good.

#![expect(
    clippy::unwrap_used,
    reason = "tests state their expectations with unwrap, in functions they share too"
)]

#[path = "e2e_grpc/running.rs"]
mod running;
#[path = "e2e_grpc/stock.rs"]
mod stock;
