//! The whole program, as its clients and its operators meet it: the real binary, real sockets, real signals.
//!
//! One test binary, so that it is linked once.

#![expect(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "tests state their expectations with unwrap, in functions they share too; metrics are whole numbers \
              that a float holds exactly; what a failed gateway logged is printed for whoever looks"
)]

#[path = "e2e/client.rs"]
mod client;
#[path = "fixtures/gateway.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod gateway;

#[path = "e2e/load.rs"]
mod load;
#[cfg(target_os = "linux")]
#[path = "e2e/memory.rs"]
mod memory;
#[path = "e2e/overload.rs"]
mod overload;
#[path = "e2e/process.rs"]
mod process;
#[path = "e2e/raw_json.rs"]
mod raw_json;
#[path = "e2e/start.rs"]
mod start;
#[path = "e2e/streams.rs"]
mod streams;
#[path = "e2e/version1.rs"]
mod version1;
#[path = "e2e/version2.rs"]
mod version2;

#[allow(dead_code, reason = "shared with the tests of the NATS backend, which use all of it")]
#[path = "fixtures/nats_server.rs"]
mod nats_server;
