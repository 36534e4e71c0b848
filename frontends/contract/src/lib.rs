//! The vocabulary between the doors of IPC Gateway and its pipeline: what a door decodes into, what it
//! encodes from, and what it is given to serve with.
//!
//! A *door* is one way in (Unix socket, WebSocket, gRPC, HTTP). It does three things and nothing else:
//! *decode* its protocol into a [`Request`], *call* the pipeline, *encode* the [`Reply`] or the [`Error`].
//! It depends on this crate alone, so it cannot name a rule, a route or a backend; every door therefore
//! passes the same rules in the same order.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`request`] | [`Request`] and its [`Target`] |
//! | [`subject`] | [`Subject`] and [`Pattern`]: two types, so that a wildcard in a publish is impossible |
//! | [`headers`] | [`Headers`], and which names a peer may never set |
//! | [`reply`] | [`Reply`], [`DeliveryStream`] and gaps |
//! | [`delivery`] | [`Delivery`], encoded once a [`Format`] for all who get it |
//! | [`queue`] | [`QueuePolicy`], [`QueueBounds`], [`QueueWish`]: what a slow reader is kept, and what a peer may ask |
//! | [`error`] | [`Error`], its closed [`Kind`] and **the one table** of every protocol's dialect |
//! | [`origin`] | [`Origin`] and [`Identity`]: who asks, built once a connection |
//! | [`trace`] | [`TraceContext`]: W3C trace context, parsed, continued or started |
//! | [`frontend`] | [`Frontend`] (bind first, serve later), [`Gate`] (all a door is given), [`Pipeline`] |
//! | [`drain`] | [`Drain`]: when to stop, when each connection leaves, and who is still at work |
//! | [`admission`] | [`Admission`]: how many connections may be on their way in |
//! | [`budget`] | [`ByteBudget`]: what memory may be used |
//! | [`meters`] | [`DoorMeters`]: what to count |
//!
//! # How to build a door
//!
//! 1. Implement [`Frontend`]: `bind` takes the address (nothing is accepted yet), `serve` accepts until
//!    [`Drain::draining`] resolves. Each connection serves on until its [`Drain::leave`], says goodbye with a
//!    [`Drain::retry_after`], and lets what is in flight finish.
//! 2. At accept, ask [`Gate::admit`] for an [`Origin`] with what the transport knows of the peer
//!    ([`Presented`]). A refusal is an [`Error`]: say it in your protocol and close.
//! 3. For each message build a [`Request`]: take the clock once (`received`), give the payload as a slice of
//!    the read buffer, and set the deadline with [`Gate::deadline`].
//! 4. Call the pipeline (`gate.pipeline.call(request)`; it is always ready: *refusal is an answer, not a
//!    wait*). Dropping the future cancels the request and gives back everything it held.
//! 5. Encode the outcome. For an [`Error`], take your column of [`Kind::row`]; write [`Error::text`] and
//!    never the cause. Bound every queue, and stop reading when the peer does not.
//!
//! ```
//! use contract::{Error, Kind, Outcome};
//!
//! let error = Error::new(Kind::TimedOut, "no answer within the deadline");
//! assert_eq!(error.kind().row().code, "timed_out");
//! assert_eq!(error.kind().row().http, 504);
//! assert_eq!(error.outcome(), Outcome::Unknown); // it was sent: it may have happened
//! ```

pub mod admission;
pub mod budget;
pub mod delivery;
pub mod drain;
pub mod error;
pub mod frontend;
pub mod headers;
pub mod meters;
pub mod origin;
pub mod queue;
pub mod reply;
pub mod request;
pub mod subject;
pub mod trace;

pub use admission::{Admission, Handshake};
pub use budget::{ByteBudget, Charge, Marks, PIECES_BYTES, SMALL_BYTES};
pub use delivery::{Delivery, Format, SHARED_BYTES};
pub use drain::Drain;
pub use error::{Blame, Error, Failed, Kind, Outcome, Retry, Row, Scope};
pub use frontend::{Address, Authenticate, BindError, Frontend, Gate, Pipeline, ServeError, Timeouts};
pub use headers::{HeaderError, Headers};
pub use meters::{Counter, DoorMeters, Gauge};
pub use origin::{Identity, Method, Origin, PeerAddress, PeerKey, Presented, UnixPeer};
pub use queue::{QueueBounds, QueuePolicy, QueueWish};
pub use reply::{DeliveryStream, Event, Message, Reply};
pub use request::{MessageType, Operation, Request, Target};
pub use subject::{Pattern, Subject, SubjectError};
pub use trace::{TraceContext, TraceError};
