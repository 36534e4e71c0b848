//! What a person wants to know of a gateway at a glance, put together from its pages.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::span;
use crate::client::Samples;

/// Limits whose maximum is not called as the used with `_max` behind it.
const PAIRS: [(&str, &str, &str); 2] = [
    ("memory", "ipc_gateway_memory_used_bytes", "ipc_gateway_memory_max_bytes"),
    ("descriptors", "process_open_fds", "process_max_fds"),
];

/// Limits whose metric tells what is left instead of what is used.
const LEFT: [&str; 1] = ["retry_budget"];

/// The picture.
pub(super) struct Picture {
    pub(super) ready: bool,
    address: SocketAddr,
    version: String,
    uptime: Duration,
    /// The page `/ready`, as it is.
    state: Value,
    doors: BTreeMap<String, BTreeMap<String, f64>>,
    limits: Vec<Limit>,
    rates: Vec<Rate>,
    refusals: BTreeMap<String, f64>,
}

struct Limit {
    name: String,
    used: f64,
    max: f64,
}

/// Requests a second of a route by one operation.
struct Rate {
    route: String,
    operation: String,
    per_second: f64,
    failed_per_second: f64,
    total: f64,
}

impl Picture {
    pub(super) fn new(
        address: SocketAddr,
        ready: bool,
        health: &Value,
        state: Value,
        before: &Samples,
        now: &Samples,
    ) -> Self {
        let seconds = (now.taken - before.taken).as_secs_f64().max(1e-3);
        Self {
            ready,
            address,
            version: health["version"].as_str().unwrap_or("?").to_owned(),
            uptime: Duration::from_secs(health["uptime_seconds"].as_u64().unwrap_or(0)),
            state,
            doors: doors(before, now, seconds),
            limits: limits(now),
            rates: rates(before, now, seconds),
            refusals: now
                .named("ipc_gateway_refusals_total")
                .filter(|sample| sample.value > 0.0)
                .filter_map(|sample| Some((sample.label("kind")?.to_owned(), sample.value)))
                .collect(),
        }
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let limit = |limit: &Limit| json!({"name": limit.name, "used": limit.used, "max": limit.max});
        let rate = |rate: &Rate| {
            json!({
                "route": rate.route,
                "operation": rate.operation,
                "per_second": rate.per_second,
                "failed_per_second": rate.failed_per_second,
                "total": rate.total,
            })
        };
        json!({
            "ready": self.ready,
            "address": self.address.to_string(),
            "version": self.version,
            "uptime_seconds": self.uptime.as_secs(),
            "message": self.state["message"],
            "reasons": self.state["reasons"],
            "backend": self.state["backend"],
            "circuits": self.state["circuits"],
            "pressure": self.state["pressure"],
            "doors": self.doors,
            "limits": self.limits.iter().map(limit).collect::<Vec<_>>(),
            "routes": self.rates.iter().map(rate).collect::<Vec<_>>(),
            "refusals": self.refusals,
        })
    }

    /// For people: a few lines for each thing, so that it can be read in 80 columns.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes everything");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let ready = if self.ready { "ready" } else { "NOT READY" };
        let (version, uptime) = (&self.version, span::format(self.uptime));
        writeln!(text, "gateway  {version} at {}, up {uptime}: {ready}", self.address)?;
        if !self.ready {
            writeln!(text, "  {}", self.state["message"].as_str().unwrap_or("?"))?;
        }
        for reason in self.state["reasons"].as_array().into_iter().flatten() {
            writeln!(text, "  {}", reason.as_str().unwrap_or("?"))?;
        }
        self.write_backend(text)?;
        for (name, counts) in &self.doors {
            let count = |name| counts.get(name).copied().unwrap_or(0.0);
            writeln!(
                text,
                "door     {name}: {} connections, {} in flight, {} streams, in {}/s, out {}/s",
                count("connections"),
                count("in_flight"),
                count("streams"),
                bytes(count("received_bytes_per_second")),
                bytes(count("sent_bytes_per_second")),
            )?;
        }
        for Limit { name, used, max } in &self.limits {
            let share = if *max > 0.0 { used / max * 100.0 } else { 0.0 };
            let (used, max) =
                if name == "memory" { (bytes(*used), bytes(*max)) } else { (number(*used), number(*max)) };
            writeln!(text, "limit    {name}: {used} of {max} ({share:.1} %)")?;
        }
        for Rate { route, operation, per_second, failed_per_second, total } in &self.rates {
            writeln!(
                text,
                "route    {route} {operation}: {per_second:.1}/s, {failed_per_second:.1}/s failed, {} in all",
                number(*total),
            )?;
        }
        for (route, state) in self.state["circuits"].as_object().into_iter().flatten() {
            writeln!(text, "circuit  {route}: {}", state.as_str().unwrap_or("?"))?;
        }
        for (route, state) in self.state["pressure"].as_object().into_iter().flatten() {
            writeln!(text, "pressure {route}: {}", state.as_str().unwrap_or("?"))?;
        }
        if !self.refusals.is_empty() {
            let refusals: Vec<_> =
                self.refusals.iter().map(|(kind, count)| format!("{} {kind}", number(*count))).collect();
            writeln!(text, "refused  {}", refusals.join(", "))?;
        }
        Ok(())
    }

    fn write_backend(&self, text: &mut String) -> std::fmt::Result {
        let backend = &self.state["backend"];
        let reachable = if backend["reachable"] == true { "reachable" } else { "NOT REACHABLE" };
        write!(text, "backend  {}: {reachable}", backend["kind"].as_str().unwrap_or("?"))?;
        let facts = &backend["facts"];
        let Some(members) = facts["members"].as_array() else { return writeln!(text) };
        writeln!(text, ", {} of {} connections are up", facts["connected"], facts["size"])?;
        for member in members {
            let word = |name: &str| member[name].as_str().unwrap_or("-").to_owned();
            write!(text, "  {}: {} {}", member["id"], word("state"), word("server"))?;
            match member["round_trip_ms"].as_f64() {
                Some(time) => writeln!(
                    text,
                    " ({}), round trip {time:.2} ms, {} in flight, {} reconnects",
                    word("version"),
                    member["in_flight"],
                    member["reconnects"],
                )?,
                None => writeln!(text, ", {} attempts: {}", member["attempts"], word("failure"))?,
            }
        }
        Ok(())
    }
}

fn doors(before: &Samples, now: &Samples, seconds: f64) -> BTreeMap<String, BTreeMap<String, f64>> {
    let mut doors: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    for sample in now.iter() {
        let (Some(what), Some(door)) = (sample.name.strip_prefix("ipc_gateway_door_"), sample.label("door"))
        else {
            continue;
        };
        let counts = doors.entry(door.to_owned()).or_default();
        counts.insert(what.to_owned(), sample.value);
        if let Some(what) = what.strip_suffix("_total") {
            let rate = (sample.value - before.same(sample)).max(0.0) / seconds;
            counts.insert(format!("{what}_per_second"), rate);
        }
    }
    doors
}

fn limits(now: &Samples) -> Vec<Limit> {
    let of_rule = now.iter().filter_map(|max| {
        let used = max.name.strip_suffix("_max")?;
        let mut name = used.strip_prefix("ipc_gateway_")?.to_owned();
        let mut used = now.named(used).find(|used| used.has_labels_of(max))?.value;
        if LEFT.contains(&name.as_str()) {
            used = max.value - used;
        }
        if let Some(route) = max.label("route") {
            name.push_str(" of ");
            name.push_str(route);
        }
        Some(Limit { name, used, max: max.value })
    });
    let paired = PAIRS.iter().filter_map(|(name, used, max)| {
        Some(Limit { name: (*name).to_owned(), used: now.value(used)?, max: now.value(max)? })
    });
    of_rule.chain(paired).collect()
}

fn rates(before: &Samples, now: &Samples, seconds: f64) -> Vec<Rate> {
    let mut rates: BTreeMap<(String, String), Rate> = BTreeMap::new();
    for sample in now.named("ipc_gateway_requests_total") {
        let label = |name| sample.label(name).unwrap_or_default().to_owned();
        let (route, operation) = (label("route"), label("operation"));
        let rate = rates.entry((route.clone(), operation.clone())).or_insert(Rate {
            route,
            operation,
            per_second: 0.0,
            failed_per_second: 0.0,
            total: 0.0,
        });
        let grown = (sample.value - before.same(sample)).max(0.0) / seconds;
        rate.per_second += grown;
        rate.total += sample.value;
        if sample.label("outcome") != Some("ok") {
            rate.failed_per_second += grown;
        }
    }
    rates.into_values().collect()
}

/// A count without a fraction; there are none in what is counted.
fn number(value: f64) -> String {
    format!("{value:.0}")
}

fn bytes(value: f64) -> String {
    const KIB: f64 = 1024.0;
    match value {
        _ if value >= KIB * KIB * KIB => format!("{:.1} GiB", value / KIB / KIB / KIB),
        _ if value >= KIB * KIB => format!("{:.1} MiB", value / KIB / KIB),
        _ if value >= KIB => format!("{:.1} KiB", value / KIB),
        _ => format!("{value:.0} B"),
    }
}
