//! A question asked once or many times, one after another, and how that went.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use contract::Kind;
use hdrhistogram::Histogram;
use serde_json::json;

use super::code;
use super::console::{Console, advice, failure_json, headers_json};
use super::peer::{Came, Peer};
use super::question::Whereabouts;
use super::span;
use crate::client::{Failure, Lost, Say, Via, What};

/// The longest round that is told exactly: ten minutes, in nanoseconds.
const LONGEST_NS: u64 = 600_000_000_000;

/// What is asked, how often and by which door.
pub(super) struct Rounds {
    pub(super) via: Via,
    pub(super) whereabouts: Whereabouts,
    pub(super) say: Say,
    pub(super) count: u64,
    pub(super) json: bool,
}

/// Asks, prints each answer as it comes, and for more than one a summary. Returns the exit code: that of the
/// first failure.
pub(super) fn run(rounds: &Rounds, console: &mut Console<'_>) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(rounds.ask(console))
}

impl Rounds {
    async fn ask(&self, console: &mut Console<'_>) -> io::Result<u8> {
        let mut peer = match Peer::connect(self.via, &self.whereabouts).await? {
            Ok(peer) => peer,
            Err(came) => return self.ended(&came, console),
        };
        let mut tally = Tally::new();
        let mut first_failure = None;
        for _ in 0..self.count {
            let began = Instant::now();
            let mut came = peer.ask(&self.say).await;
            // An answer in parts is one answer: all of them are printed.
            while let Came::What(What::Reply { more: true, .. }) = &came {
                self.told(&came, began.elapsed(), console)?;
                came = peer.next().await;
            }
            let code = self.told(&came, began.elapsed(), console)?;
            tally.count(&came, began.elapsed());
            if code != code::OK {
                first_failure.get_or_insert(code);
            }
            if matches!(came, Came::Lost(_) | Came::Interrupted) {
                break;
            }
        }
        if self.count > 1 {
            self.summary(&tally, console)?;
        }
        Ok(first_failure.unwrap_or(code::OK))
    }

    /// Prints what came, and says what exit code it stands for.
    fn told(&self, came: &Came, took: Duration, console: &mut Console<'_>) -> io::Result<u8> {
        let elapsed_ms = milliseconds(took);
        let is_part = matches!(came, Came::What(What::Reply { more: true, .. }));
        let apart = console.out_is_terminal || self.count > 1 || is_part;
        match came {
            Came::What(What::Reply { headers, payload, .. }) if self.json => {
                let mut members = json!({"ok": true, "elapsed_ms": elapsed_ms});
                if is_part {
                    members["more"] = true.into();
                }
                if !headers.is_empty() {
                    members["headers"] = headers_json(headers);
                }
                console.object(&members, Some(payload))?;
            }
            Came::What(What::Reply { payload, .. }) => console.payload(payload, apart)?,
            Came::What(What::Accepted | What::Pong | What::End) if self.json => {
                console.object(&json!({"ok": true, "elapsed_ms": elapsed_ms}), None)?;
            }
            Came::What(What::Pong) => {
                let address = self.via.address(&self.whereabouts.reach);
                let line = format!("pong from {address} in {}\n", span::format(took));
                console.payload(line.as_bytes(), false)?;
            }
            Came::What(What::End) => {}
            Came::What(What::Accepted) => {
                if console.complaints_are_seen && self.count == 1 {
                    console.note("accepted: handed to a live connection")?;
                }
            }
            Came::What(What::Failed(failure)) => {
                if self.json {
                    let members = json!({"ok": false, "error": failure_json(failure)});
                    console.object(&members, (failure.kind == Kind::Failed).then_some(&failure.body))?;
                } else if !failure.body.is_empty() {
                    console.payload(&failure.body, apart)?;
                }
                console.complain(&self.sentence(failure))?;
                return Ok(code::of(failure.kind));
            }
            Came::What(other) => {
                console.complain(&format!("an answer of another kind than was asked for: {other:?}"))?;
                return Ok(code::FAILED);
            }
            Came::Lost(_) | Came::Interrupted => return self.ended(came, console),
        }
        Ok(code::OK)
    }

    fn ended(&self, came: &Came, console: &mut Console<'_>) -> io::Result<u8> {
        ended(came, self.via, self.json, console)
    }

    fn sentence(&self, failure: &Failure) -> String {
        sentence(failure, &self.say, self.via, &self.whereabouts)
    }

    fn summary(&self, tally: &Tally, console: &mut Console<'_>) -> io::Result<()> {
        if self.json {
            return console.object(&json!({"summary": tally.to_json()}), None);
        }
        console.note(&tally.to_text())
    }
}

/// One line about a failure: what, where, and what to do.
pub(super) fn sentence(failure: &Failure, say: &Say, via: Via, whereabouts: &Whereabouts) -> String {
    let what = match say {
        Say::Request(call) => format!("request {}", call.subject),
        Say::Publish(call) => format!("publish {}", call.subject),
        Say::Subscribe(call) => format!("subscribe {}", call.subject),
        Say::Unsubscribe => "unsubscribe".to_owned(),
        Say::Cancel => "cancel".to_owned(),
        Say::Ping => "ping".to_owned(),
    };
    let code = failure.backend_code.as_ref().map_or_else(String::new, |code| format!(" [{code}]"));
    format!(
        "{}{code}: {} ({what} via {} at {}, {}); {}",
        failure.kind,
        failure.text,
        via.name(),
        via.address(&whereabouts.reach),
        failure.outcome.code(),
        advice(failure),
    )
}

/// Tells why nothing more can come, and says with what exit code that ends.
pub(super) fn ended(came: &Came, via: Via, json: bool, console: &mut Console<'_>) -> io::Result<u8> {
    let Came::Lost(lost) = came else { return Ok(code::INTERRUPTED) };
    if json {
        let error = match lost {
            Lost::Refused(failure) => failure_json(failure),
            _ => json!({"kind": "connection", "message": lost.to_string()}),
        };
        console.object(&json!({"ok": false, "error": error}), None)?;
    }
    let advice = match lost {
        Lost::Connect { .. } => {
            "is the gateway running? Start it with `ipc-gateway`, or name its socket with --socket PATH, its \
             HTTP door with --url URL, its gRPC door with --grpc IP:PORT"
        }
        Lost::Refused(failure) => &advice(failure),
        Lost::Closed | Lost::Shut { .. } | Lost::Broken(_) => {
            "it may be stopping or have refused this client; its log says more"
        }
        Lost::Protocol(_) => "is this the door of a gateway, and does it speak this --via?",
    };
    console.complain(&format!("{lost} (via {}); {advice}", via.name()))?;
    Ok(match lost {
        Lost::Refused(failure) => code::of(failure.kind),
        _ => code::FAILED,
    })
}

/// Milliseconds to the microsecond, which is finer than what is measured here is exact.
fn milliseconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// How many rounds went how, and how long the good ones took.
#[derive(Debug)]
struct Tally {
    ok: u64,
    failed: BTreeMap<&'static str, u64>,
    nanoseconds: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        let nanoseconds = Histogram::new_with_bounds(1_000, LONGEST_NS, 3)
            .expect("the bounds are in order and three digits are few");
        Self { ok: 0, failed: BTreeMap::new(), nanoseconds }
    }

    fn count(&mut self, came: &Came, took: Duration) {
        let failed = match came {
            Came::What(What::Failed(failure)) => failure.kind.code(),
            Came::Lost(_) => "connection",
            Came::Interrupted => return,
            Came::What(_) => {
                self.ok += 1;
                let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                return self.nanoseconds.saturating_record(nanoseconds);
            }
        };
        *self.failed.entry(failed).or_default() += 1;
    }

    fn milliseconds(&self) -> [(&'static str, f64); 4] {
        let at = |quantile| milliseconds(Duration::from_nanos(self.nanoseconds.value_at_quantile(quantile)));
        let min = milliseconds(Duration::from_nanos(self.nanoseconds.min()));
        [("min", min), ("p50", at(0.5)), ("p99", at(0.99)), ("max", at(1.0))]
    }

    fn to_json(&self) -> serde_json::Value {
        let mut object = json!({"ok": self.ok, "failed": self.failed});
        if self.ok > 0 {
            object["milliseconds"] = self
                .milliseconds()
                .map(|(name, value)| (name.to_owned(), json!(value)))
                .into_iter()
                .collect::<serde_json::Map<_, _>>()
                .into();
        }
        object
    }

    fn to_text(&self) -> String {
        let mut text = format!("{} ok", self.ok);
        for (kind, count) in &self.failed {
            write!(text, ", {count} {kind}").expect("a string takes everything");
        }
        if self.ok > 0 {
            text.push(':');
            for (name, milliseconds) in self.milliseconds() {
                write!(text, " {name} {milliseconds:.3} ms").expect("a string takes everything");
            }
        }
        text
    }
}
