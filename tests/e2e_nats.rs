//! The whole program in front of a real nats-server: the real binary, real sockets, a responder of the test's own.
//!
//! A binary of its own beside `e2e`, because it needs nats-server and takes its time.

#![expect(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::print_stdout,
    reason = "tests state their expectations with unwrap, in functions they share too; metrics are whole numbers \
              that a float holds exactly; what a failed gateway logged is printed for whoever looks"
)]

#[path = "e2e/client.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod client;
#[path = "fixtures/gateway.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod gateway;
#[path = "fixtures/nats_server.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod nats_server;
#[path = "fixtures/operator.rs"]
mod operator;
#[path = "e2e_nats/outside.rs"]
mod outside;
#[path = "fixtures/proxy.rs"]
mod proxy;

#[path = "e2e_nats/answers.rs"]
mod answers;
#[path = "e2e_nats/beamline_http.rs"]
mod beamline_http;
#[path = "e2e_nats/cancels.rs"]
mod cancels;
#[path = "e2e_nats/circuits.rs"]
mod circuits;
#[path = "e2e_nats/faults.rs"]
mod faults;
#[path = "e2e_nats/idempotency.rs"]
mod idempotency;
#[path = "e2e_nats/outages.rs"]
mod outages;
#[path = "e2e_nats/pressure.rs"]
mod pressure;
#[path = "e2e_nats/reload.rs"]
mod reload;
#[path = "e2e_nats/results.rs"]
mod results;
#[path = "e2e_nats/router.rs"]
mod router;
#[path = "e2e_nats/secrets.rs"]
mod secrets;
#[path = "e2e_nats/shared_keys.rs"]
mod shared_keys;
#[path = "e2e_nats/standstill.rs"]
mod standstill;
#[path = "e2e_nats/streamed.rs"]
mod streamed;
