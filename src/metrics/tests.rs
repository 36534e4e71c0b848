//! What is counted is what is rendered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;

const KINDS: [&str; 3] = ["malformed", "rate_limited", "internal"];
const REQUEST: usize = 1;

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|found| found == line)
}

#[test]
fn requests_are_counted_by_route_operation_and_outcome() {
    let registry = Registry::new(false);
    let meters = RouteMeters::new(&registry, "orders", &KINDS);
    meters.count(REQUEST, None, Duration::from_micros(300));
    meters.count(REQUEST, None, Duration::from_mins(1));
    meters.count(REQUEST, Some(2), Duration::from_millis(3));
    meters.count(0, Some(0), Duration::ZERO);
    RouteMeters::new(&registry, "orders", &KINDS).count(REQUEST, None, Duration::ZERO);
    let text = registry.render();
    let requests = "ipc_gateway_requests_total";
    for line in [
        format!("{requests}{{operation=\"request\",outcome=\"ok\",route=\"orders\"}} 3"),
        format!("{requests}{{operation=\"request\",outcome=\"internal\",route=\"orders\"}} 1"),
        format!("{requests}{{operation=\"publish\",outcome=\"malformed\",route=\"orders\"}} 1"),
        format!("{requests}{{operation=\"publish\",outcome=\"ok\",route=\"orders\"}} 0"),
    ] {
        assert!(has(&text, &line), "{line}\n{text}");
    }
    assert!(!text.contains("subscribe") && !text.contains("rate_limited\",route"), "{text}");
    let durations = "ipc_gateway_request_duration_seconds";
    for line in [
        format!("{durations}_bucket{{operation=\"request\",route=\"orders\",le=\"0.00025\"}} 1"),
        format!("{durations}_bucket{{operation=\"request\",route=\"orders\",le=\"0.0005\"}} 2"),
        format!("{durations}_bucket{{operation=\"request\",route=\"orders\",le=\"10\"}} 3"),
        format!("{durations}_bucket{{operation=\"request\",route=\"orders\",le=\"+Inf\"}} 4"),
        format!("{durations}_count{{operation=\"request\",route=\"orders\"}} 4"),
    ] {
        assert!(has(&text, &line), "{line}\n{text}");
    }
}

#[test]
fn a_request_is_in_flight_until_its_guard_is_gone() {
    let registry = Registry::new(false);
    let meters = RouteMeters::new(&registry, "orders", &KINDS);
    let line =
        |count| format!("ipc_gateway_requests_in_flight{{operation=\"request\",route=\"orders\"}} {count}");
    let flights = [meters.begin(REQUEST), meters.begin(REQUEST)];
    assert!(has(&registry.render(), &line(2)));
    drop(flights);
    assert!(has(&registry.render(), &line(0)));
}

#[test]
fn two_registries_do_not_count_into_each_other() {
    let (one, other) = (Registry::new(true), Registry::new(true));
    RouteMeters::new(&one, "orders", &KINDS).count(REQUEST, None, Duration::ZERO);
    assert!(one.render().contains("orders") && !other.render().contains("orders"));
}

#[test]
fn samples_are_read_at_each_scrape() {
    let registry = Registry::new(false);
    let bytes = Arc::new(AtomicU64::new(1));
    for door in ["ipc", "http"] {
        let bytes = Arc::clone(&bytes);
        registry
            .sample(
                "ipc_gateway_received_bytes_total",
                "Bytes read from peers.",
                SampleKind::Counter,
                &[("door", door)],
                Box::new(move || f64::from(u32::try_from(bytes.load(Ordering::Relaxed)).unwrap())),
            )
            .unwrap();
    }
    for value in [1, 1_000_000] {
        bytes.store(value, Ordering::Relaxed);
        let text = registry.render();
        assert_eq!(text.matches("# TYPE ipc_gateway_received_bytes_total counter").count(), 1, "{text}");
        for door in ["ipc", "http"] {
            let line = format!("ipc_gateway_received_bytes_total{{door=\"{door}\"}} {value}");
            assert!(has(&text, &line), "{line}\n{text}");
        }
    }
}

#[test]
fn a_name_that_is_taken_or_not_valid_is_an_error_that_says_which() {
    let registry = Registry::new(false);
    let sample = |name, labels| registry.sample(name, "A help.", SampleKind::Gauge, labels, Box::new(|| 0.0));
    assert!(sample("ipc_gateway_depth", &[("queue", "a")]).is_ok());
    assert!(sample("ipc_gateway_depth", &[("queue", "b")]).is_ok());
    for (name, labels) in [
        ("ipc_gateway_depth", &[("queue", "a")][..]),
        ("ipc_gateway_depth", &[]),
        ("ipc_gateway_requests_total", &[]),
        ("not a name", &[]),
    ] {
        let error = sample(name, labels).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn the_backend_is_named_and_its_connection_followed() {
    let registry = Registry::new(true);
    let connected = Arc::new(AtomicU64::new(1));
    let seen = Arc::clone(&connected);
    registry.backend("nats", move || seen.load(Ordering::Relaxed) == 1).unwrap();
    assert!(has(&registry.render(), "ipc_gateway_backend_info{kind=\"nats\"} 1"));
    for value in [1, 0] {
        connected.store(value, Ordering::Relaxed);
        let text = registry.render();
        assert!(has(&text, &format!("ipc_gateway_backend_connected {value}")), "{text}");
        assert!(has(&text, &format!("gateway_nats_connection_status {value}")), "{text}");
    }
    assert!(registry.backend("embedded", || true).is_err());
}

#[test]
fn the_old_names_are_there_only_when_asked_and_only_when_true() {
    let old =
        |text: &str| text.lines().filter(|line| line.starts_with("gateway_")).map(str::to_owned).collect();
    let render = |old_names, backend| {
        let registry = Registry::new(old_names);
        registry.backend(backend, || true).unwrap();
        for route in ["a", "b"] {
            RouteMeters::new(&registry, route, &KINDS).count(REQUEST, Some(1), Duration::ZERO);
        }
        let lines: Vec<String> = old(&registry.render());
        lines
    };
    assert_eq!(render(true, "nats"), ["gateway_nats_connection_status 1", "gateway_rate_limit_hits_total 2"]);
    assert_eq!(render(true, "embedded"), ["gateway_rate_limit_hits_total 2"]);
    assert!(render(false, "nats").is_empty());
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_is_measured() {
    let text = Registry::new(false).render();
    for (name, least) in
        [("process_open_fds", 3.0), ("process_max_fds", 3.0), ("process_resident_memory_bytes", 1_000_000.0)]
    {
        let value: f64 = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .expect("the line is there");
        assert!(value >= least, "{name} {value}");
    }
}

#[test]
fn the_documentation_lists_every_name_with_its_type() {
    let documentation = include_str!("../../docs/operations/metrics.md");
    let registry = Registry::new(true);
    registry.backend("nats", || true).unwrap();
    let meters = RouteMeters::new(&registry, "orders", &KINDS);
    drop(meters.begin(REQUEST));
    meters.count(REQUEST, None, Duration::ZERO);
    let text = registry.render();
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(types.len() > 10, "{text}");
    for (name, kind) in types.iter().filter_map(|line| line.split_once(' ')) {
        let row = documentation.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        assert!(row.is_some_and(|row| row.contains(&format!("| {kind} |"))), "no row {name} {kind}: {row:?}");
    }
}

#[test]
fn a_registry_goes_with_what_it_reads_although_that_counts_in_it() {
    let registry = Registry::new(false);
    let (meters, alive) = (RouteMeters::new(&registry, "orders", &KINDS), Arc::new(()));
    meters.count(REQUEST, None, Duration::ZERO);
    // As it reads the rules, whose routes have meters.
    let held = (meters, Arc::clone(&alive));
    let read = move || {
        drop(held.clone());
        0.0
    };
    registry.sample("held", "A help.", SampleKind::Gauge, &[], Box::new(read)).unwrap();
    drop(registry);
    assert_eq!(Arc::strong_count(&alive), 1);
}
