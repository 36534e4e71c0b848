//! The configuration read again while clients are served: by SIGHUP, and by looking at the file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::kind;
use crate::gateway::{Gateway, eventually};
use crate::nats_server::NatsServer;
use crate::outside::{DECIDE, Outside, in_front_of, until_connected};

const OK: &str = "ipc_gateway_config_reload_total{outcome=\"ok\"}";
const REFUSED: &str = "ipc_gateway_config_reload_total{outcome=\"refused\"}";
const LAST_OK: &str = "ipc_gateway_config_last_reload_ok";

const LIMITED: &str = "[routes.decide]\nrate_per_second = 1\nrate_burst = 1\n";
const OPEN: &str = "[routes.decide]\nrate_per_second = 0\n";

fn place() -> Arc<TempDir> {
    Arc::new(TempDir::with_prefix("gw").unwrap())
}

fn write(place: &Path, text: &str) {
    fs::write(place.join("gateway.toml"), text).unwrap();
}

/// Stops it with the directory as empty as it was.
fn stop(gateway: Gateway) {
    fs::remove_file(gateway.place().path().join("gateway.toml")).unwrap();
    gateway.stop();
}

#[test]
fn a_reload_under_load_changes_a_rate_and_drops_no_connection() {
    const CLIENTS: usize = 4;
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    outside.respond(DECIDE, |task| task);
    let place = place();
    write(place.path(), OPEN);
    let gateway = in_front_of(&server).set("reload.watch_ms=0").in_place_of(&place).gateway();
    until_connected(&gateway);
    let (limited, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut client = gateway.client();
            let (limited, over) = (&limited, &over);
            // Each request is answered on the one connection, or reading the answer fails.
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let reply = client.ask(kind::TASK_SUBMIT, r#"{"task_id":"1"}"#);
                    if reply.kind != kind::RESPONSE_OK {
                        assert_eq!(reply.error().2, "rate_limited");
                        limited.store(true, Ordering::Relaxed);
                    }
                }
                assert_eq!(client.ask(kind::TASK_SUBMIT, r#"{"task_id":"2"}"#).kind, kind::RESPONSE_OK);
            });
        }
        gateway.until("ipc_gateway_door_connections{door=\"unix\"}", 4.0);
        assert!(!limited.load(Ordering::Relaxed));
        write(place.path(), LIMITED);
        gateway.signal(Signal::HUP);
        gateway.until(OK, 1.0);
        // Else the clients would go on for ever, so they are let go before anything fails.
        let seen = std::panic::catch_unwind(|| {
            eventually("the new rate limits", || limited.load(Ordering::Relaxed));
            write(place.path(), OPEN);
            gateway.signal(Signal::HUP);
            gateway.until(OK, 2.0);
        });
        over.store(true, Ordering::Relaxed);
        seen.unwrap();
    });
    assert_eq!(gateway.metrics().of(REFUSED), 0.0);
    let log = gateway.log();
    assert!(log.contains("routes.decide.rate_per_second: 0 is now 1"), "{log}");
    stop(gateway);
}

#[test]
fn a_broken_file_changes_nothing_and_its_place_is_told() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    outside.respond(DECIDE, |task| task);
    let place = place();
    write(place.path(), OPEN);
    let gateway = in_front_of(&server).set("reload.watch_ms=0").in_place_of(&place).gateway();
    until_connected(&gateway);
    let mut client = gateway.client();
    write(place.path(), "[routes.decide]\nallow = [\"nobody\"]\noperations = []\n");
    gateway.signal(Signal::HUP);
    gateway.until(REFUSED, 1.0);
    assert_eq!(gateway.metrics().of(LAST_OK), 0.0);
    let log = gateway.log();
    assert!(log.contains("gateway.toml:2"), "{log}");
    assert_eq!(client.ask(kind::TASK_SUBMIT, r#"{"task_id":"1"}"#).kind, kind::RESPONSE_OK);

    // What needs a restart is named, and the rest is taken.
    write(place.path(), "[http]\nkeep_alive_ms = 50000\n");
    gateway.signal(Signal::HUP);
    gateway.until(OK, 1.0);
    assert_eq!(gateway.metrics().of(LAST_OK), 1.0);
    let log = gateway.log();
    assert!(log.contains("http.keep_alive_ms: 60000 stays until a restart"), "{log}");
    client.ping();
    stop(gateway);
}

#[test]
fn a_link_that_points_to_another_directory_is_seen_without_a_signal() {
    let server = NatsServer::start("");
    let (place, volume) = (place(), place());
    for (name, text) in [("one", OPEN), ("two", LIMITED)] {
        fs::create_dir(volume.path().join(name)).unwrap();
        write(&volume.path().join(name), text);
    }
    // As Kubernetes mounts a ConfigMap: the file is a link through a link, and that one is renamed over.
    symlink("one", volume.path().join("data")).unwrap();
    symlink(volume.path().join("data/gateway.toml"), place.path().join("gateway.toml")).unwrap();
    let gateway = in_front_of(&server).set("reload.watch_ms=20").in_place_of(&place).gateway();
    symlink("two", volume.path().join("next")).unwrap();
    fs::rename(volume.path().join("next"), volume.path().join("data")).unwrap();
    gateway.until(OK, 1.0);
    let log = gateway.log();
    assert!(log.contains("routes.decide.rate_per_second: 0 is now 1"), "{log}");
    stop(gateway);
}

#[test]
fn a_reload_puts_other_paths_in_force_and_a_wrong_template_changes_nothing() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    outside.respond("people.greet", |body| body);
    let place = place();
    let route = |path: &str, body: &str| {
        format!("[rest.greet]\npath = \"{path}\"\nsubject = \"people.greet\"\nbody = '{body}'\n")
    };
    write(place.path(), &route("/one/{name}", r#"{"to":"{name}"}"#));
    let gateway = in_front_of(&server).set("reload.watch_ms=0").in_place_of(&place).gateway();
    until_connected(&gateway);
    let get = |path: &str| crate::beamline_http::get(&gateway, path);
    assert_eq!(get("/one/you").body, r#"{"to":"you"}"#);
    write(place.path(), &route("/two/{name}", r#"{"hello":"{name}"}"#));
    gateway.signal(Signal::HUP);
    gateway.until(OK, 1.0);
    assert_eq!((get("/one/you").status, get("/two/you").body.as_str()), (404, r#"{"hello":"you"}"#));
    assert!(get("/").body.contains("/two/{name}") && !get("/openapi.json").body.contains("/one/{name}"));
    write(place.path(), &route("/three/{name}", r#"{"hello":"{nobody}"}"#));
    gateway.signal(Signal::HUP);
    gateway.until(REFUSED, 1.0);
    assert_eq!((get("/three/you").status, get("/two/you").status), (404, 200));
    let log = gateway.log();
    assert!(log.contains("rest.greet.body has a placeholder that cannot be: {nobody} is not known"), "{log}");
    assert!(log.contains("gateway.toml:4"), "{log}");
    stop(gateway);
}
