//! The JSON envelope on the Unix socket: requests with ids, a JSON document each.

use super::{Row, Serving, by_subject, open};
use crate::client::Via;

pub(super) const ROW: Row = Row {
    name: "json",
    about: "the JSON envelope on the Unix socket",
    serving: Serving::Gateway,
    open: |target| open(Via::Json, target),
    say: by_subject,
};
