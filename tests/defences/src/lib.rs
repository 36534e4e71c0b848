//! The list of defences, and what it takes to switch one off and see its test fail.
//!
//! A test of a fault says little until it was seen to fail without what defends against the fault: it may never have
//! made the fault, or not look at what it does. So each defence has a row: the few characters that are it, what they are
//! replaced with to switch it off, and the test that must fail then. The rows are read by people, by the command
//! ([`mod@bench`]), by the page `docs/faults.md` ([`page`]) and by a test that keeps them true while the code changes
//! ([`check`]).

pub mod bench;
pub mod check;
pub mod copy;
pub mod list;
pub mod page;
pub mod testee;
