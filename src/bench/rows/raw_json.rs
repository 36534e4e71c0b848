//! Bare tasks in raw JSON on the Unix socket, answered in order.

use super::{Row, Serving, by_type, open};
use crate::client::Via;

pub(super) const ROW: Row = Row {
    name: "raw-json",
    about: "bare tasks in raw JSON on the Unix socket",
    serving: Serving::Gateway,
    open: |target| open(Via::Tasks, target),
    say: by_type,
};
