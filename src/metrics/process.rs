//! The process as the system sees it: descriptors and memory, under the names that every Prometheus client uses.
//!
//! They are what shows a leak. Linux tells them in `/proc`; elsewhere they are left out, as a 0 would be a lie.

use super::{MetricError, Registry};

#[cfg(not(target_os = "linux"))]
pub(super) fn register(_: &Registry) -> Result<(), MetricError> {
    Ok(())
}

#[cfg(target_os = "linux")]
pub(super) fn register(registry: &Registry) -> Result<(), MetricError> {
    use super::SampleKind::Gauge;

    registry.sample(
        "process_open_fds",
        "Open descriptors.",
        Gauge,
        &[],
        Box::new(linux::open_descriptors),
    )?;
    registry.sample(
        "process_max_fds",
        "Descriptors that may be open: the soft limit.",
        Gauge,
        &[],
        Box::new(linux::descriptors_max),
    )?;
    registry.sample(
        "process_resident_memory_bytes",
        "Memory that is in use and in RAM.",
        Gauge,
        &[],
        Box::new(linux::resident_bytes),
    )
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use rustix::process::{Resource, getrlimit};

    /// NaN, Prometheus' "no value", when `/proc` is not mounted.
    pub(super) fn open_descriptors() -> f64 {
        // One of them is the directory being read.
        fs::read_dir("/proc/self/fd")
            .map_or(f64::NAN, |entries| number(entries.count().saturating_sub(1) as u64))
    }

    pub(super) fn descriptors_max() -> f64 {
        getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, number)
    }

    pub(super) fn resident_bytes() -> f64 {
        fs::read_to_string("/proc/self/status")
            .ok()
            .as_deref()
            .and_then(resident_kibibytes)
            .map_or(f64::NAN, |kibibytes| number(kibibytes * 1024))
    }

    /// The line `VmRSS:  1234 kB` of proc(5), whose kB are 1,024 bytes.
    fn resident_kibibytes(status: &str) -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    }

    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, which is 8 PiB")]
    fn number(value: u64) -> f64 {
        value as f64
    }
}
