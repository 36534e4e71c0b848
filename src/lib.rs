//! IPC Gateway: lets any client talk to services on NATS. One program, one pipeline of rules, many doors.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`app`] | the assembly: the only module that sees everything |
//! | [`pipeline`] | THE list of rules, in order |
//! | [`policy`], [`policies`] | the shape of a rule, and a file a rule |
//! | [`services`] | rules that wait |
//! | [`profiles`] | what a route's responder wants around payloads, and how its answers are read |
//! | [`route`], [`rules`], [`permits`] | what a request consults, behind one swappable handle |
//! | [`circuit`], [`adaptive`] | the state machines behind the breaker and the adaptive limit |
//! | [`hub`] | fan-out: one subscription of the backend for all who listen on a pattern |
//! | [`backend`] | what answers: the embedded broker, or NATS |
//! | [`identity`] | who a peer is |
//! | [`config`] | configuration: sources, checks, the typed result |
//! | [`admin`], [`metrics`], [`telemetry`] | what an operator sees |
//! | [`client`], [`bench`](mod@bench), [`soak`] | a client of a running gateway, and what is made of it: the benchmark and the soak |
//! | [`processes`] | the processes that these two start for themselves |
//! | [`demo_router`] | a reference router, which answers and goes wrong on command |
//! | [`cli`] | the command line |

pub mod adaptive;
pub mod admin;
pub mod app;
pub mod backend;
pub mod bench;
pub mod circuit;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo_router;
pub mod holder;
pub mod hub;
pub mod identity;
pub mod limits;
pub mod load;
pub mod metrics;
pub mod permits;
pub mod pipeline;
pub mod policies;
pub mod policy;
pub mod pressure;
pub mod processes;
pub mod profiles;
pub mod ramp;
pub mod route;
pub mod rules;
pub mod services;
pub mod soak;
pub mod telemetry;
#[cfg(test)]
mod testing;
