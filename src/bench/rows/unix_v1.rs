//! Version 1 of the IPC protocol on the Unix socket: tasks, answered in order.

use super::{Row, Serving, by_type, open};
use crate::client::Via;

pub(super) const ROW: Row = Row {
    name: "unix-v1",
    about: "version 1 frames on the Unix socket",
    serving: Serving::Gateway,
    open: |target| open(Via::UnixV1, target),
    say: by_type,
};
