//! The WebSocket door of the whole gateway, over real sockets: raw bytes, many peers at once, and a stock client.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests state their expectations with unwrap, in functions they share too; what was measured, and \
              what a failed gateway logged, is printed for whoever looks"
)]

#[allow(dead_code, reason = "shared with the tests of the whole program, which use all of it")]
#[path = "e2e/client.rs"]
mod client;
#[allow(dead_code, reason = "shared with the tests of the whole program, which use all of it")]
#[path = "fixtures/gateway.rs"]
mod gateway;

#[path = "e2e_ws/bad_frames.rs"]
mod bad_frames;
#[path = "e2e_ws/drain.rs"]
mod drain;
#[path = "e2e_ws/handshake.rs"]
mod handshake;
#[path = "e2e_ws/many.rs"]
mod many;
#[path = "e2e_ws/peer.rs"]
mod peer;
#[path = "e2e_ws/registry.rs"]
mod registry;
#[path = "fixtures/running.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod running;
#[path = "e2e_ws/slow.rs"]
mod slow;
#[path = "e2e_ws/stock.rs"]
mod stock;
#[path = "e2e_ws/talk.rs"]
mod talk;

/// The door that is tested.
const DOOR: &str = "websocket";
