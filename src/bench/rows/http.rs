//! Posts over HTTP/1.1: a connection carries one at a time, so a line has as many as are in flight on it.

use super::{Row, Serving, by_subject, open};
use crate::client::Via;

pub(super) const ROW: Row = Row {
    name: "http",
    about: "posts over HTTP/1.1, kept alive",
    serving: Serving::Gateway,
    open: |target| open(Via::Http, target),
    say: by_subject,
};
