//! Version 2 over a WebSocket: requests with ids, a binary message each.

use super::{Row, Serving, by_subject, open};
use crate::client::Via;

pub(super) const ROW: Row = Row {
    name: "ws-binary",
    about: "version 2 frames over a WebSocket",
    serving: Serving::Gateway,
    open: |target| open(Via::WsBinary, target),
    say: by_subject,
};
