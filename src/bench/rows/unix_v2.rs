//! Version 2 of the IPC protocol on the Unix socket: requests with ids, answered in any order.

use super::{Row, Serving, by_subject, open};
use crate::client::Via;

pub(super) const ROW: Row = Row {
    name: "unix-v2",
    about: "version 2 frames on the Unix socket",
    serving: Serving::Gateway,
    open: |target| open(Via::Unix, target),
    say: by_subject,
};
