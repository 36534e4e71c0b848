//! Router end to end: everything that a client of the Beamline router relies on, by four ways into the real gateway,
//! over a real nats-server, answered by the reference router.
//!
//! `checks.rs` is the table; a check is a function over a [`ways::Way`], and each of its four cells has a server, a
//! router and a gateway of its own, so that one may kill what it likes. `report.rs` writes what was seen to
//! `docs/router-e2e.md`.

#![expect(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::print_stdout,
    reason = "tests state their expectations with unwrap, in functions they share too; metrics are whole numbers \
              that a float holds exactly; what a failed gateway logged is printed for whoever looks"
)]

#[path = "e2e_grpc/calls.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod calls;
#[path = "e2e/client.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod client;
#[path = "fixtures/gateway.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod gateway;
#[path = "fixtures/nats_server.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod nats_server;
#[path = "e2e_nats/outside.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod outside;

#[path = "e2e_router/checks.rs"]
mod checks;
#[path = "e2e_router/commands.rs"]
mod commands;
#[path = "e2e_router/errors.rs"]
mod errors;
#[path = "e2e_router/ground.rs"]
mod ground;
#[path = "e2e_router/objectives.rs"]
mod objectives;
#[path = "e2e_router/peer.rs"]
mod peer;
#[path = "e2e_router/pressure.rs"]
mod pressure;
#[path = "e2e_router/reconnect.rs"]
mod reconnect;
#[path = "e2e_router/report.rs"]
mod report;
#[path = "e2e_router/subjects.rs"]
mod subjects;
#[path = "e2e_router/time.rs"]
mod time;
#[path = "e2e_router/ways.rs"]
mod ways;

/// The patience of the gRPC calls, which other tests share.
mod running {
    pub(crate) use crate::ground::within;
}
