//! IPC Gateway.

pub mod backend;
