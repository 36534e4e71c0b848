//! The JSON envelope over a WebSocket: requests with ids, a text message each.

use super::{Row, Serving, by_subject, open};
use crate::client::Via;

pub(super) const ROW: Row = Row {
    name: "ws",
    about: "the JSON envelope over a WebSocket",
    serving: Serving::Gateway,
    open: |target| open(Via::Ws, target),
    say: by_subject,
};
