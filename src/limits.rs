//! The process's own limits: lifts the soft limit of open descriptors to the hard one.
//!
//! Every connection is a descriptor, and the usual soft limit of 1,024 is a kindness to programs that still use
//! `select`. This program does not, and the hard limit is what the machine's owner meant.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// macOS gives out an infinite hard limit and then refuses a soft one above `OPEN_MAX` (setrlimit(2)).
#[cfg(target_os = "macos")]
const DESCRIPTORS_MAX: u64 = 10_240;

/// Raises the soft limit of open descriptors as far as it may go. Returns the soft limit before and after, in
/// descriptors; `u64::MAX` is "unlimited". Never lowers it. The error is the system's refusal, which leaves the
/// limit as it was.
pub fn raise_descriptors() -> io::Result<(u64, u64)> {
    let limit = getrlimit(Resource::Nofile);
    let before = limit.current.unwrap_or(u64::MAX);
    #[cfg(target_os = "macos")]
    let aim = Some(limit.maximum.unwrap_or(u64::MAX).min(DESCRIPTORS_MAX));
    #[cfg(not(target_os = "macos"))]
    let aim = limit.maximum;
    if aim.unwrap_or(u64::MAX) > before {
        setrlimit(Resource::Nofile, Rlimit { current: aim, maximum: limit.maximum })?;
    }
    Ok((before, getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one_and_stays_there() {
        // One below the hard limit, so that tests running beside this one lose nothing.
        let limit = getrlimit(Resource::Nofile);
        let hard = limit.maximum.expect("Linux always has a number here");
        setrlimit(Resource::Nofile, Rlimit { current: Some(hard - 1), ..limit }).unwrap();
        assert_eq!(raise_descriptors().unwrap(), (hard - 1, hard));
        assert_eq!(raise_descriptors().unwrap(), (hard, hard));
    }
}
