//! Exit codes of the program: what a script may branch on.

use contract::Kind;

/// Everything went well.
pub const OK: u8 = 0;
/// It could not start, or could not connect, or stopped on its own; or a fault inside the gateway.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// No answer in time. It may have happened.
pub const TIMED_OUT: u8 = 3;
/// Refused for what was asked or who asked: the same again meets the same answer.
pub const REFUSED: u8 = 4;
/// Not now: the same again may succeed later.
pub const TRY_AGAIN: u8 = 5;
/// The service answered no.
pub const SAID_NO: u8 = 6;
/// Ended by a signal before it was done.
pub const INTERRUPTED: u8 = 130;

/// The code for an answer of this kind.
pub fn of(kind: Kind) -> u8 {
    match kind {
        Kind::TimedOut => TIMED_OUT,
        Kind::Failed => SAID_NO,
        Kind::Malformed
        | Kind::Unsupported
        | Kind::TooLarge
        | Kind::Invalid
        | Kind::Unauthenticated
        | Kind::Denied
        | Kind::NotFound
        | Kind::Conflict
        | Kind::SlowConsumer => REFUSED,
        Kind::RateLimited
        | Kind::Overloaded
        | Kind::Unavailable
        | Kind::NoResponders
        | Kind::CircuitOpen
        | Kind::Draining => TRY_AGAIN,
        Kind::Cancelled | Kind::Internal => FAILED,
    }
}
