//! The processes of a self-contained run: nats-server, a responder and the gateway, each as it would run
//! anywhere, in a folder of the run, and gone when their values are dropped.
//!
//! | file | holds |
//! |---|---|
//! | `process.rs` | a child process, its log, and the signals it is sent |
//! | `nats_server.rs`, `find.rs` | a nats-server, and which program that is |
//! | `gateway.rs` | a gateway, and where its doors are |
//! | `machine.rs` | what the system tells of itself and of a process |
//!
//! The benchmark and the soak start the same things and differ in what they set and in what they do to them.

pub(crate) mod find;
pub(crate) mod gateway;
pub(crate) mod machine;
pub(crate) mod nats_server;
pub(crate) mod process;

use std::path::PathBuf;

pub use find::find as find_server;

/// The programs to start.
#[derive(Clone, Debug)]
pub struct Tools {
    /// nats-server.
    pub nats_server: PathBuf,
    /// This program: the gateway and the responder.
    pub gateway: PathBuf,
}
