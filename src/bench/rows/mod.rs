//! The rows of the table, a file each: how a door is opened and asked. Another door is another file and
//! another line in [`ROWS`].

mod direct;
mod http;
mod json;
mod raw_json;
mod session;
mod unix_v1;
mod unix_v2;
mod ws;
mod ws_binary;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use super::plan::Target;
use crate::client::{Call, Line, Lost, Say, Via};

/// A row.
#[derive(Debug)]
pub struct Row {
    /// Its name on the command line and in the table.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Whose CPU time it costs.
    pub serving: Serving,
    /// Opens a connection. Fails with a line for a person.
    pub open: fn(&Target) -> Opening<'_>,
    /// What to ask with a payload.
    pub say: fn(&Target, Bytes) -> Say,
}

/// Whose CPU time is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// The gateway's process.
    Gateway,
    /// The benchmark's own process, where there is no gateway.
    Own,
}

/// A connection that is being made.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Line>, String>> + Send + 'a>>;

/// All rows, in the order of the table.
pub const ROWS: [&Row; 9] = [
    &direct::ROW,
    &unix_v2::ROW,
    &unix_v1::ROW,
    &json::ROW,
    &raw_json::ROW,
    &ws_binary::ROW,
    &ws::ROW,
    &http::ROW,
    &session::ROW,
];

/// Opens a door of the gateway.
fn open(via: Via, target: &Target) -> Opening<'_> {
    Box::pin(async move { via.open(&target.reach).await.map_err(|lost: Lost| lost.to_string()) })
}

/// Asks by the target's subject.
fn by_subject(target: &Target, payload: Bytes) -> Say {
    Say::Request(Call { subject: target.subject.clone(), payload, ..Call::default() })
}

/// Asks by the message type that old clients have.
fn by_type(_: &Target, payload: Bytes) -> Say {
    Say::Request(Call { subject: "task_submit".to_owned(), payload, ..Call::default() })
}
