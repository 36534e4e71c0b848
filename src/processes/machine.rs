//! What a figure is worth depends on: the machine, the build, who else is at work.

use serde_json::{Value, json};

/// Bytes of memory that a process has resident; `None` where the system does not tell.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Facts to keep beside figures. What the system does not tell is null.
pub(crate) fn facts() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let after_colon = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    json!({
        "processors": std::thread::available_parallelism().map(usize::from).ok(),
        "processor": read("/proc/cpuinfo").and_then(|text| after_colon(&text, "model name")),
        "memory": read("/proc/meminfo").and_then(|text| after_colon(&text, "MemTotal")),
        "kernel": read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
        "load_before": read("/proc/loadavg").map(|text| text.trim().to_owned()),
        "system": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "version": env!("CARGO_PKG_VERSION"),
        "optimized": !cfg!(debug_assertions),
        "unix_seconds": std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map(|since| since.as_secs())
            .ok(),
    })
}
