//! What an answer of many messages holds while it is read: the slot its replies come to, and the connection in use.

use std::sync::Arc;

use contract::{Error, Outcome};

use super::given_up::GivenUp;
use super::inbox::Fault;
use super::pins::Pinned;
use super::pool::Pool;
use super::signals;
use super::ticket::Ticket;
use crate::backend::memory::no_room;
use crate::backend::replies::Source;

/// Of one request. The slot is given back before the connection.
pub(super) struct Streamed {
    pub(super) ticket: Ticket,
    pub(super) pinned: Pinned,
    pub(super) pool: Arc<Pool>,
}

impl Source for Streamed {
    type Responder = GivenUp;

    fn answered(&self) {
        self.pinned.answered();
    }

    fn lost(&self) -> Error {
        fault(&self.pool, &self.pinned, self.ticket.fault())
    }
}

/// Why a request that was sent gets no reply.
pub(super) fn fault(pool: &Pool, pinned: &Pinned, fault: Fault) -> Error {
    match fault {
        Fault::Lost => {
            let error = pool.unavailable().with_outcome(Outcome::Unknown);
            error.with_cause("the connection was lost before the answer came")
        }
        Fault::Denied if pinned.link.is_deaf() => {
            let error = pool.unavailable().with_outcome(Outcome::Unknown);
            error.with_cause("the server no longer permits to receive replies")
        }
        Fault::Denied => signals::denied(),
        Fault::NoRoom => no_room(),
    }
}
