//! Precedence, the lookup of the file, and what the typed result holds.

use super::*;

#[test]
fn flags_beat_environment_beats_file_beats_defaults() {
    let (_directory, mut sources) = with_file("[ipc]\npath = \"/from/file\"\n");
    assert_eq!(Config::default().ipc.path, Path::new("/tmp/beamline-gateway.sock"));
    assert_eq!(good(&sources).config.ipc.path, Path::new("/from/file"));
    sources.environment.insert("CGW_IPC_SOCKET_PATH".into(), "/from/predecessor".into());
    assert_eq!(good(&sources).config.ipc.path, Path::new("/from/predecessor"));
    sources.environment.insert("IPC_SOCKET_PATH".into(), "/from/readme".into());
    assert_eq!(good(&sources).config.ipc.path, Path::new("/from/readme"));
    sources.environment.insert("IPC_GATEWAY__IPC__PATH".into(), "/from/own".into());
    assert_eq!(good(&sources).config.ipc.path, Path::new("/from/own"));
    sources.flags.push(flag("ipc.path", "/from/flag"));
    let loaded = good(&sources);
    assert_eq!(loaded.config.ipc.path, Path::new("/from/flag"));
    assert_eq!(loaded.resolved.get("ipc.path").unwrap().source.to_string(), "flag --some-flag");
    sources.flags.push(flag("ipc.path", "/from/last/flag"));
    assert_eq!(good(&sources).config.ipc.path, Path::new("/from/last/flag"));
}

#[test]
fn every_value_knows_where_it_came_from() {
    let (directory, mut sources) = with_file("# first line\n[ipc]\nin_flight_max = 7\n");
    sources.environment.insert("GATEWAY_PORT".into(), "9000".into());
    let loaded = good(&sources);
    let source = |path: &str| loaded.resolved.get(path).unwrap().source.to_string();
    assert_eq!(source("ipc.in_flight_max"), format!("{}:3", shown(&directory.path().join("gateway.toml"))));
    assert_eq!(source("admin.port"), "environment GATEWAY_PORT");
    assert_eq!(source("ipc.path"), "default");
    assert_eq!(loaded.file, sources.file);
}

#[test]
fn the_file_is_the_flags_then_the_environments_then_a_usual_one() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str, port: u16| write(&directory, name, &format!("[admin]\nport = {port}\n"));
    let missing = directory.path().join("missing.toml");
    let mut sources = Sources { usual_files: vec![missing.clone()], ..Sources::default() };
    assert_eq!(good(&sources).file, None);
    sources.usual_files.push(file("usual.toml", 3));
    assert_eq!(good(&sources).config.admin.address.port(), 3);
    sources.environment.insert("IPC_GATEWAY_CONFIG".into(), shown(&file("named.toml", 2)));
    assert_eq!(good(&sources).config.admin.address.port(), 2);
    sources.file = Some(file("flag.toml", 1));
    assert_eq!(good(&sources).config.admin.address.port(), 1);
    sources.file = Some(missing.clone());
    assert!(bad(&sources).contains(&shown(&missing)), "a file that is named must exist");
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = Config::default();
    assert!(config.ipc.enabled && config.admin.enabled && config.embedded.demo);
    assert_eq!(config.ipc.mode, 0o600);
    assert_eq!(
        (config.ipc.connections_max, config.ipc.buffer_pool_size, config.ipc.buffer_bytes),
        (1024, 32, 4096)
    );
    assert_eq!(config.limits.timeout, Duration::from_secs(30));
    assert_eq!(config.backend, Backend::Embedded);
    assert_eq!((config.nats.pool_connections_min, config.nats.pool_connections_max), (2, 10));
    assert_eq!((config.nats.reconnect_attempts_max, &config.nats.credentials), (None, &Credentials::None));
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:8080");
    assert_eq!((config.limits.rate, config.limits.peer_rate), (None, None));
    let [decide, local] = &config.routes[..] else { panic!("two routes are built in: {:?}", config.routes) };
    assert_eq!((decide.name.as_str(), local.name.as_str()), ("decide", "local"));
    assert_eq!(decide.subject.as_ref().map(contract::Subject::as_str), Some("beamline.router.v1.decide"));
    assert_eq!(decide.message_types.len(), 3);
    assert_eq!(decide.operations, [Operation::Request]);
    assert_eq!((decide.timeout, local.timeout), (Duration::from_secs(5), Duration::from_secs(30)));
    assert_eq!(decide.payload_bytes_max, 8 * 1024 * 1024);
    let here = [Principal::Local, Principal::Loopback];
    assert_eq!((&decide.allow[..], &local.allow[..]), (&here[..], &here[..]));
    assert_eq!((&decide.headers[..], &local.headers[..]), (&["*".to_owned()][..], &["*".to_owned()][..]));
    assert_eq!(patterns(local), [">"]);
    assert_eq!(local.operations.len(), 3);
}

#[test]
fn routes_are_added_and_the_built_in_ones_changed_key_by_key() {
    let loaded = load_file(
        "[routes.local]\nallow = [\"uid:1000\"]\n\
         [routes.orders-v1]\npatterns = [\"orders.>\"]\nrate_per_second = 5\nheaders = [\"X-Trace\"]\n",
    );
    let config = loaded.unwrap().config;
    let names: Vec<_> = config.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["decide", "local", "orders-v1"]);
    assert_eq!(config.routes[1].allow, [Principal::Uid(1000)]);
    assert_eq!(patterns(&config.routes[1]), [">"]);
    assert_eq!(config.routes[2].allow, [Principal::Local]);
    assert_eq!(config.routes[2].rate, Some(Rate { per_second: 5.0, burst: 5 }));
    assert_eq!(config.routes[2].headers, ["X-Trace"]);
}

#[test]
fn a_built_in_deadline_gives_way_to_a_lower_limit() {
    let config = load_file("[limits]\ntimeout_ms = 1000\ntimeout_ms_max = 2000\n").unwrap().config;
    assert_eq!(config.routes[0].timeout, Duration::from_secs(2));
    assert_eq!(config.routes[1].timeout, Duration::from_secs(1));
}

#[test]
fn the_backend_follows_the_address_unless_it_is_named() {
    let backend = |pairs: &[(&str, &str)]| good(&with_environment(pairs)).config.backend;
    assert_eq!(backend(&[]), Backend::Embedded);
    assert_eq!(backend(&[("NATS_URL", "nats://a:1,b")]), Backend::Nats);
    assert_eq!(backend(&[("NATS_URL", "a"), ("CGW_IPC_NATS_ENABLE", "0")]), Backend::Embedded);
    assert_eq!(backend(&[("NATS_URL", "a"), ("CGW_IPC_NATS_ENABLE", "YES")]), Backend::Nats);
    let forced = good(&with_environment(&[("NATS_URL", "a"), ("CGW_IPC_NATS_ENABLE", "0")]));
    assert!(
        forced.warnings.iter().any(|warning| warning.contains("nats.urls has no effect")),
        "{:?}",
        forced.warnings
    );
}

#[test]
fn a_wrong_value_that_is_overridden_is_a_warning() {
    let (_directory, mut sources) = with_file("[admin]\nport = 99999\n");
    assert!(bad(&sources).contains("admin.port is above 65535"));
    sources.flags.push(flag("admin.port", "9000"));
    let loaded = good(&sources);
    assert_eq!(loaded.config.admin.address.port(), 9000);
    assert!(loaded.warnings[0].contains("admin.port is above 65535"), "{:?}", loaded.warnings);
}
