//! The four ways in by which every check is done, and what one of them has no words for.
//!
//! What a protocol cannot express is written down here with the section that says so, and nowhere else; the number of
//! such cells is asserted, so that none is added in passing.

use ipc_gateway::client::Via;

/// A way into the gateway.
#[derive(Debug)]
pub(crate) struct Way {
    /// Its column's heading.
    pub(crate) name: &'static str,
    /// How a client enters.
    pub(crate) via: Via,
    /// Its row in the benchmark.
    pub(crate) row: &'static str,
    /// The door's label in metrics.
    pub(crate) door: &'static str,
    /// Whether its messages are tasks, without subjects, headers or traces, answered in their order.
    pub(crate) is_version_1: bool,
    /// Checks that its protocol cannot express, each with the section that says so.
    pub(crate) cannot: &'static [(&'static str, &'static str)],
}

/// Version 1 has no field for headers.
const NO_HEADERS: &str = "ipc.md, Frames: a payload and nothing beside it";

/// The ways, in the order of the columns.
pub(crate) static WAYS: [Way; 4] = [
    Way {
        name: "Unix v1",
        via: Via::UnixV1,
        row: "unix-v1",
        door: "unix",
        is_version_1: true,
        cannot: &[
            ("subjects_2_headers_of_the_request_reach_the_router", NO_HEADERS),
            ("subjects_3_headers_of_the_reply_reach_the_client", NO_HEADERS),
        ],
    },
    Way { name: "Unix v2", via: Via::Unix, row: "unix-v2", door: "unix", is_version_1: false, cannot: &[] },
    Way { name: "gRPC", via: Via::Grpc, row: "grpc", door: "grpc", is_version_1: false, cannot: &[] },
    Way { name: "WebSocket", via: Via::Ws, row: "ws", door: "websocket", is_version_1: false, cannot: &[] },
];

impl Way {
    /// The section that says that the protocol has no words for this check.
    pub(crate) fn cannot(&self, check: &str) -> Option<&'static str> {
        self.cannot.iter().find(|(name, _)| *name == check).map(|(_, section)| *section)
    }
}
