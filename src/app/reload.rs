//! A reload: the configuration read again while everything goes on.
//!
//! The files are read on a thread of their own, as a file system may hang, and only a whole and valid
//! configuration gets as far as the swap. So a broken file changes nothing, and no connection notices either.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_door::rest::Table;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::config::{Change, Config, Reloaded, Resolved, Sources};
use crate::metrics::{MetricError, Registry, SampleKind};
use crate::rules::Handle;

/// Reads the configuration again and puts in force what can be without a restart.
#[derive(Debug)]
pub struct Reload {
    sources: Sources,
    running: Resolved,
    handle: Handle,
    rest: watch::Sender<Arc<Table>>,
    registry: Registry,
    ended: Arc<Ended>,
    seen: Option<Seen>,
}

/// How reloads ended, for the metrics.
#[derive(Debug)]
struct Ended {
    ok: AtomicU64,
    refused: AtomicU64,
    last_ok: AtomicBool,
    last_unix_seconds: AtomicU64,
}

/// Which file was read. A link that points elsewhere, as Kubernetes swaps its volumes, is another inode.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Seen {
    fn look(sources: &Sources) -> Option<Self> {
        let path = sources.find_file()?;
        let found = fs::metadata(&path).ok()?;
        let modified = (found.mtime(), found.mtime_nsec());
        Some(Self { path, device: found.dev(), inode: found.ino(), bytes: found.len(), modified })
    }
}

impl Reload {
    /// For a gateway that runs on `running`, which was read from `sources`.
    pub(super) fn new(
        sources: Sources,
        running: Resolved,
        (handle, rest): (Handle, watch::Sender<Arc<Table>>),
        registry: Registry,
    ) -> Result<Self, MetricError> {
        let ended = Arc::new(Ended {
            ok: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            last_ok: AtomicBool::new(true),
            last_unix_seconds: AtomicU64::new(now()),
        });
        show(&registry, &ended)?;
        let seen = Seen::look(&sources);
        Ok(Self { sources, running, handle, rest, registry, ended, seen })
    }

    /// Resolves when the configuration file is another one than at the last reload. Looks every `pause`; never
    /// resolves if there is none.
    pub async fn changed(&self, pause: Option<Duration>) {
        let Some(pause) = pause else { return std::future::pending().await };
        let mut looks = interval_at(Instant::now() + pause, pause);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let sources = self.sources.clone();
            let seen = spawn_blocking(move || Seen::look(&sources)).await;
            // A file that is gone for now is about to be replaced, so there is nothing to read yet.
            if seen.is_ok_and(|seen| seen.is_some() && seen != self.seen) {
                return;
            }
        }
    }

    /// Reads everything again. A configuration that is wrong changes nothing and is told in the log.
    pub async fn now(&mut self, why: &'static str) {
        let (sources, running) = (self.sources.clone(), self.running.clone());
        let read = spawn_blocking(move || {
            // Before the file is read: a change in between is then seen at the next look.
            let seen = Seen::look(&sources);
            let reloaded = Config::reload(&sources, &running).and_then(|reloaded| {
                let table = super::rest::table(&reloaded.config, Some(&reloaded.resolved))?;
                Ok((reloaded, table))
            });
            (seen, reloaded)
        });
        let Ok((seen, outcome)) = read.await else { return self.end(false) };
        self.seen = seen;
        match outcome {
            Ok((reloaded, table)) => {
                self.put_in_force(reloaded, table, why);
                self.end(true);
            }
            Err(problems) => {
                tracing::error!(why, "the configuration was not reloaded, the old one stays: {problems}");
                self.end(false);
            }
        }
    }

    fn put_in_force(&mut self, reloaded: Reloaded, table: Table, why: &'static str) {
        let before = self.handle.load();
        self.handle.swap(super::rules(&reloaded.config, &self.registry, Some(&before)));
        self.rest.send_replace(Arc::new(table));
        self.running = reloaded.resolved;
        for warning in &reloaded.warnings {
            tracing::warn!("{warning}");
        }
        for change in &reloaded.changes {
            tell(change);
        }
        tracing::info!(why, changes = reloaded.changes.len(), "the configuration was reloaded");
    }

    fn end(&self, ok: bool) {
        if ok { &self.ended.ok } else { &self.ended.refused }.fetch_add(1, Relaxed);
        self.ended.last_ok.store(ok, Relaxed);
        self.ended.last_unix_seconds.store(now(), Relaxed);
    }
}

fn tell(change: &Change) {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
    let (key, before, after) = (&change.path, text(&change.before), text(&change.after));
    if change.needs_restart {
        tracing::warn!("{key}: {before} stays until a restart, which {after} needs");
    } else {
        tracing::info!("{key}: {before} is now {after}");
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[expect(clippy::cast_precision_loss, reason = "counts and seconds, far below 2^53")]
fn show(registry: &Registry, ended: &Arc<Ended>) -> Result<(), MetricError> {
    for (outcome, read) in [
        ("ok", (|ended| ended.ok.load(Relaxed)) as fn(&Ended) -> u64),
        ("refused", |ended| ended.refused.load(Relaxed)),
    ] {
        let ended = Arc::clone(ended);
        registry.sample(
            "ipc_gateway_config_reload_total",
            "Reloads of the configuration; refused: it was wrong, and the old one stayed.",
            SampleKind::Counter,
            &[("outcome", outcome)],
            Box::new(move || read(&ended) as f64),
        )?;
    }
    let last = Arc::clone(ended);
    registry.sample(
        "ipc_gateway_config_last_reload_ok",
        "1 if the last reload, or the start, took the configuration, else 0.",
        SampleKind::Gauge,
        &[],
        Box::new(move || f64::from(u8::from(last.last_ok.load(Relaxed)))),
    )?;
    let last = Arc::clone(ended);
    registry.sample(
        "ipc_gateway_config_last_reload_time_seconds",
        "When the configuration was last read, in seconds since 1970.",
        SampleKind::Gauge,
        &[],
        Box::new(move || last.last_unix_seconds.load(Relaxed) as f64),
    )
}
