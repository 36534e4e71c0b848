//! A session of the gRPC door: requests with ids over one stream of HTTP/2, answered in any order.

use super::{Row, Serving, by_subject, open};
use crate::client::Via;

pub(super) const ROW: Row = Row {
    name: "grpc",
    about: "a session of gateway.v1 over HTTP/2",
    serving: Serving::Gateway,
    open: |target| open(Via::Grpc, target),
    say: by_subject,
};
