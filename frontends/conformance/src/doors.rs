//! The doors of the matrix: how each is entered, and what its protocol has no words for.
//!
//! A cell that a protocol cannot express is written down here with the section that says so, and nowhere else;
//! the number of such cells is asserted, so that none is added in passing.

use ipc_gateway::client::Via;

/// What the clients of a door can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Requests, publishes and subscriptions, by subject.
    OfSubjects,
    /// Tasks without a subject.
    OfTasks,
    /// Subscriptions only: what is heard are deliveries.
    ToListen,
}

/// A way to speak to the gateway.
#[derive(Debug)]
pub struct Door {
    /// Its column's heading.
    pub name: &'static str,
    /// How a client enters.
    pub via: Via,
    /// Whether its peers are known by their Unix user, and not by their address.
    pub local: bool,
    /// What its clients can say.
    pub speaks: Speaks,
    /// Whether a client waits for an answer before it says the next thing.
    pub one_at_a_time: bool,
    /// Another door at which a peer of this one has the same identity.
    pub partner: Via,
    /// Bytes of the largest payload that it carries both ways, and why.
    pub payload_bytes_max: usize,
    /// Cases that the protocol cannot express, each with the section that says so.
    pub cannot: &'static [(&'static str, &'static str)],
}

/// One frame of either version: 4 MiB with everything in it (docs/protocols/ipc.md, "Frames"). What version 2
/// carries beside the payload is well under 4 KiB here.
const FRAME_BYTES: usize = (4 << 20) - 4096;
/// A version 1 frame has a header of six bytes and nothing else.
const FRAME_1_BYTES: usize = (4 << 20) - 6;
/// A JSON document of 4 MiB (docs/protocols/json.md) less the envelope around the payload.
const DOCUMENT_BYTES: usize = (4 << 20) - 4096;

/// What only subjects have: the three tasks of version 1 are all it can name.
const TASKS_ONLY: &str = "ipc.md, Frames: three tasks and no subjects";
/// Version 1 and bare tasks have no field for headers.
const NO_HEADERS: &str = "ipc.md, Frames: a payload and nothing beside it";
/// Answers without ids come in the order of the questions.
const IN_ORDER: &str = "ipc.md, Behaviour: replies come in the order of the requests";
/// Nothing in the one reply of a task says whether another follows.
const ONE_ANSWER: &str = "ipc.md, Behaviour: a task has one reply";
/// HTTP alone has answers, and no message that nobody asked for.
const BY_EVENTS: &str = "http.md, Subscribe: deliveries are Server-Sent Events";
/// An event stream goes one way.
const ONE_WAY: &str =
    "http.md, Subscribe: the client sends nothing to a responder, and gets no answer from one";

/// The doors, in the order of the columns.
pub static DOORS: &[Door] = &[
    Door {
        name: "Unix v1",
        via: Via::UnixV1,
        local: true,
        speaks: Speaks::OfTasks,
        one_at_a_time: false,
        partner: Via::Unix,
        payload_bytes_max: FRAME_1_BYTES,
        cannot: &[
            ("empty payload", "ipc.md, Frames: an empty payload counts as {}"),
            ("binary payload", "ipc.md, Frames: the payload is JSON"),
            ("headers to the responder", NO_HEADERS),
            ("headers of the answer", NO_HEADERS),
            ("trace continued", NO_HEADERS),
            ("conflict", NO_HEADERS),
            ("wildcard in a publish", TASKS_ONLY),
            ("reserved subject", TASKS_ONLY),
            ("unknown route", TASKS_ONLY),
            ("answers out of order", IN_ORDER),
            ("order of publishes", TASKS_ONLY),
            ("streamed reply", ONE_ANSWER),
            ("streamed reply cut off", ONE_ANSWER),
        ],
    },
    Door {
        name: "Unix v2",
        via: Via::Unix,
        local: true,
        speaks: Speaks::OfSubjects,
        one_at_a_time: false,
        partner: Via::Unix,
        payload_bytes_max: FRAME_BYTES,
        cannot: &[],
    },
    Door {
        name: "raw JSON",
        via: Via::Tasks,
        local: true,
        speaks: Speaks::OfTasks,
        one_at_a_time: false,
        partner: Via::Unix,
        payload_bytes_max: 4 << 20,
        cannot: &[
            ("empty payload", "ipc.md, Raw JSON: an object is a task"),
            ("binary payload", "ipc.md, Raw JSON: an object is a task"),
            ("headers to the responder", NO_HEADERS),
            ("headers of the answer", NO_HEADERS),
            ("trace continued", NO_HEADERS),
            ("conflict", NO_HEADERS),
            ("wildcard in a publish", TASKS_ONLY),
            ("reserved subject", TASKS_ONLY),
            ("unknown route", TASKS_ONLY),
            ("answers out of order", IN_ORDER),
            ("order of publishes", TASKS_ONLY),
            ("streamed reply", ONE_ANSWER),
            ("streamed reply cut off", ONE_ANSWER),
            ("order of deliveries", "ipc.md, Raw JSON: subscriptions are the envelope's"),
            ("slow reader told", "ipc.md, Raw JSON: subscriptions are the envelope's"),
            ("slow reader cut off", "ipc.md, Raw JSON: subscriptions are the envelope's"),
        ],
    },
    Door {
        name: "JSON envelope",
        via: Via::Json,
        local: true,
        speaks: Speaks::OfSubjects,
        one_at_a_time: false,
        partner: Via::Unix,
        payload_bytes_max: DOCUMENT_BYTES,
        cannot: &[],
    },
    Door {
        name: "WebSocket JSON",
        via: Via::Ws,
        local: false,
        speaks: Speaks::OfSubjects,
        one_at_a_time: false,
        partner: Via::Http,
        payload_bytes_max: DOCUMENT_BYTES,
        cannot: &[],
    },
    Door {
        name: "WebSocket binary",
        via: Via::WsBinary,
        local: false,
        speaks: Speaks::OfSubjects,
        one_at_a_time: false,
        partner: Via::Http,
        payload_bytes_max: FRAME_BYTES,
        cannot: &[],
    },
    Door {
        name: "HTTP",
        via: Via::Http,
        local: false,
        speaks: Speaks::OfSubjects,
        one_at_a_time: true,
        partner: Via::Ws,
        payload_bytes_max: 4 << 20,
        cannot: &[
            ("order of deliveries", BY_EVENTS),
            ("slow reader told", BY_EVENTS),
            ("slow reader cut off", BY_EVENTS),
        ],
    },
    Door {
        name: "SSE",
        via: Via::Http,
        local: false,
        speaks: Speaks::ToListen,
        one_at_a_time: false,
        partner: Via::Ws,
        payload_bytes_max: 4 << 20,
        cannot: &[
            ("headers to the responder", ONE_WAY),
            ("trace continued", ONE_WAY),
            ("identity and door told", ONE_WAY),
            ("deadline told", ONE_WAY),
            ("wildcard in a publish", ONE_WAY),
            ("too large", ONE_WAY),
            ("too small", ONE_WAY),
            ("conflict", ONE_WAY),
            ("no responders", ONE_WAY),
            ("failed", ONE_WAY),
            ("expired", ONE_WAY),
            ("circuit open", ONE_WAY),
            ("1,000 pipelined", ONE_WAY),
            ("answers out of order", ONE_WAY),
            ("order of publishes", ONE_WAY),
            ("streamed reply", ONE_WAY),
            ("streamed reply cut off", ONE_WAY),
            ("responder told of a cancel", ONE_WAY),
        ],
    },
    Door {
        name: "gRPC",
        via: Via::Grpc,
        local: false,
        speaks: Speaks::OfSubjects,
        one_at_a_time: false,
        partner: Via::Http,
        payload_bytes_max: FRAME_BYTES,
        cannot: &[],
    },
];

impl Door {
    /// Whether it names tasks instead of subjects.
    pub fn is_of_tasks(&self) -> bool {
        self.speaks == Speaks::OfTasks
    }

    /// Whether its clients only listen.
    pub fn only_listens(&self) -> bool {
        self.speaks == Speaks::ToListen
    }

    /// The section that says that the protocol has no words for this case.
    pub fn cannot(&self, case: &str) -> Option<&'static str> {
        self.cannot.iter().find(|(name, _)| *name == case).map(|(_, section)| *section)
    }
}
