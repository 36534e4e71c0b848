//! CPU time of a process, user and system together.

use std::time::Duration;

/// What the process has used since it started; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn used(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = ticks(&stat)?;
    #[expect(clippy::cast_precision_loss, reason = "ticks of a process that a person waits for")]
    let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Some(Duration::from_secs_f64(seconds))
}

/// As above.
#[cfg(not(target_os = "linux"))]
pub(super) fn used(_: u32) -> Option<Duration> {
    None
}

/// Fields 14 and 15 of proc(5)'s stat, behind the name in parentheses, which may hold anything.
#[cfg(target_os = "linux")]
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_does_not_shift_the_fields() {
        let stat = "12 (a ) b) S 1 12 12 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 4 0 100 1000 10";
        assert_eq!(ticks(stat), Some(42));
    }

    #[test]
    fn work_shows() {
        let before = used(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while used(std::process::id()).unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
