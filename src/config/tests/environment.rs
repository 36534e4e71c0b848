//! Names in the environment: the gateway's own, the predecessor's, and wrong ones.

use super::super::environment as collect;
use super::*;

#[test]
fn every_old_name_still_works() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("IPC_SOCKET_PATH", "/a", "ipc.path", "\"/a\""),
        ("CGW_IPC_SOCKET_PATH", "/a", "ipc.path", "\"/a\""),
        ("CGW_IPC_ENABLE", "off", "ipc.enabled", "false"),
        ("CGW_IPC_MAX_CONNECTIONS", "64", "ipc.connections_max", "64"),
        ("CGW_IPC_TIMEOUT_MS", "100", "limits.timeout_ms", "100"),
        ("NATS_URL", "nats://a,tls://b:1", "nats.urls", "[\"nats://a\", \"tls://b:1\"]"),
        ("CGW_IPC_NATS_URL", "a", "nats.urls", "[\"a\"]"),
        ("CGW_IPC_NATS_ENABLE", "0", "backend.kind", "\"embedded\""),
        ("CGW_IPC_ROUTER_SUBJECT", "x.y", "routes.decide.subject", "\"x.y\""),
        ("ROUTER_DECIDE_SUBJECT", "x.y", "routes.decide.subject", "\"x.y\""),
        ("ROUTER_REQUEST_TIMEOUT_MS", "300000", "routes.decide.timeout_ms", "300000"),
        ("NATS_POOL_MIN_CONNECTIONS", "1", "nats.pool_connections_min", "1"),
        ("NATS_POOL_MAX_CONNECTIONS", "20", "nats.pool_connections_max", "20"),
        ("BUFFER_POOL_SIZE", "128", "ipc.buffer_pool_size", "128"),
        ("BUFFER_SIZE", "512", "ipc.buffer_bytes", "512"),
        ("GATEWAY_PORT", "9", "admin.port", "9"),
        ("RUST_LOG", "warn,ipc_gateway=debug", "log.level", "\"warn,ipc_gateway=debug\""),
    ];
    for (name, text, path, expected) in cases {
        let loaded = good(&with_environment(&[(name, text)]));
        let setting = loaded.resolved.get(path).unwrap();
        assert_eq!(setting.value().unwrap().to_string(), *expected, "{name}");
        assert_eq!(setting.source.to_string(), format!("environment {name}"));
    }
    let known = cases.iter().map(|(name, ..)| *name);
    let declared = keys().flat_map(|key| key.old_names).map(|old| old.name);
    let missing: Vec<_> = declared.filter(|name| !known.clone().any(|known| known == *name)).collect();
    assert!(missing.is_empty(), "add a case for {missing:?}");
}

#[test]
fn of_two_names_the_more_specific_counts_and_a_warning_names_both() {
    let names = ["CGW_IPC_NATS_URL", "NATS_URL", "IPC_GATEWAY__NATS__URLS"];
    let loaded = good(&with_environment(&[(names[0], "c"), (names[1], "b"), (names[2], "a")]));
    assert_eq!(loaded.resolved.get("nats.urls").unwrap().value().unwrap().to_string(), "[\"a\"]");
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    for (warning, loser) in loaded.warnings.iter().zip([names[1], names[0]]) {
        assert!(warning.contains(names[2]) && warning.contains(loser), "{warning}");
    }
    let same = good(&with_environment(&[("IPC_SOCKET_PATH", "/a"), ("CGW_IPC_SOCKET_PATH", "/a")]));
    assert_eq!(same.warnings.len(), 1, "{:?}", same.warnings);
}

#[test]
fn routes_are_set_by_their_name() {
    let (_directory, mut sources) = with_file("[routes.my-orders]\npatterns = [\"orders.>\"]\n");
    let mut set = |name: &str, value: &str| sources.environment.insert(name.to_owned(), value.to_owned());
    set("IPC_GATEWAY__ROUTES__DECIDE__TIMEOUT_MS", "1234");
    set("IPC_GATEWAY__ROUTES__MY_ORDERS__CALLS_MAX", "3");
    set("IPC_GATEWAY__ROUTES__FRESH__PATTERNS", "fresh.*, also.fresh");
    let config = good(&sources).config;
    let route = |name: &str| config.routes.iter().find(|route| route.name == name).unwrap();
    assert_eq!(route("decide").timeout, Duration::from_millis(1234));
    assert_eq!(route("my-orders").calls_max, Some(3));
    assert_eq!(patterns(route("fresh")), ["fresh.*", "also.fresh"]);
    assert_eq!(config.routes.len(), 4);
}

#[test]
fn rest_routes_are_set_by_their_name_like_routes() {
    let (_directory, mut sources) = with_file("[rest.my-orders]\npath = \"/orders\"\n");
    let mut set = |name: &str, value: &str| sources.environment.insert(name.to_owned(), value.to_owned());
    set("IPC_GATEWAY__REST__MY_ORDERS__SUBJECT", "orders.all");
    set("IPC_GATEWAY__REST__FRESH__TENANT_FROM", "query:a, header:X-B");
    set("IPC_GATEWAY__REST_ERRORS__PLAIN__BODY", "{}");
    let config = good(&sources).config;
    let [fresh, orders] = &config.rest[..] else { panic!("{:?}", config.rest) };
    assert_eq!((&*orders.path, orders.subject.as_deref()), ("/orders", Some("orders.all")));
    assert_eq!(
        (&*fresh.name, &fresh.tenant_from[..]),
        ("fresh", &["query:a", "header:X-B"].map(str::to_owned)[..])
    );
    assert_eq!((&*config.rest_errors[0].name, &*config.rest_errors[0].body), ("plain", "{}"));
    let wrong = bad(&with_environment(&[("IPC_GATEWAY__REST__A__PAHT", "/a")]));
    assert!(wrong.contains("did you mean IPC_GATEWAY__REST__A__PATH?"), "{wrong}");
}

#[test]
fn switches_are_read_in_any_case() {
    for (text, on) in [
        ("1", true),
        ("TRUE", true),
        ("Yes", true),
        ("on", true),
        ("0", false),
        ("No", false),
        ("OFF", false),
    ] {
        let loaded = good(&with_environment(&[("CGW_IPC_ENABLE", text)]));
        assert_eq!(loaded.config.ipc.enabled, on, "{text}");
    }
    assert!(bad(&with_environment(&[("CGW_IPC_ENABLE", "2")])).contains("true or false"));
    assert!(
        bad(&with_environment(&[("CGW_IPC_NATS_ENABLE", "nats")])).contains("1 for nats, 0 for embedded")
    );
}

#[test]
fn lists_are_separated_by_commas_or_written_as_in_the_file() {
    let ids =
        |text: &str| good(&with_environment(&[("IPC_GATEWAY__IPC__ALLOW_UIDS", text)])).config.ipc.allow_uids;
    assert_eq!(ids("1, 2,3"), [1, 2, 3]);
    assert_eq!(ids("[4, 5]"), [4, 5]);
    assert_eq!(ids("[]"), [] as [u32; 0]);
    assert!(bad(&with_environment(&[("IPC_GATEWAY__IPC__ALLOW_UIDS", "1,,2")])).contains("element (2)"));
}

#[test]
fn an_unknown_own_name_is_a_problem_with_a_suggestion() {
    let text = bad(&with_environment(&[
        ("IPC_GATEWAY__IPC__CONECTIONS_MAX", "3"),
        ("IPC_GATEWAY__ROUTES__DECIDE__TIMEOUT", "3"),
        ("IPC_GATEWAY__NATS__PASSWORD_FIEL", "3"),
        ("IPC_GATEWAY__ipc__path", "/a"),
        ("IPC_GATEWAY__ZZZZZZ", "3"),
    ]));
    for expected in [
        "did you mean IPC_GATEWAY__IPC__CONNECTIONS_MAX?",
        "did you mean IPC_GATEWAY__ROUTES__DECIDE__TIMEOUT_MS?",
        "did you mean IPC_GATEWAY__NATS__PASSWORD_FILE?",
        "did you mean IPC_GATEWAY__IPC__PATH?",
        "IPC_GATEWAY__ZZZZZZ is not the name of a setting\n",
        "5 problems",
    ] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
}

#[test]
fn names_without_effect_are_warned_of() {
    let loaded = good(&with_environment(&[
        ("GATEWAY_REDIS_URL", "redis://h"),
        ("GATEWAY_RATE_LIMIT_REDIS_URI", "redis://h"),
        ("OTLP_ENDPOINT", "http://h"),
        ("OTEL_SERVICE_NAME", "gateway"),
        ("CGW_IPC_TIMEOUT", "5"),
        ("NATS_URL", ""),
        ("HOME", "/root"),
    ]));
    let expected = [
        "NATS_URL is empty, which counts as not set (nats.urls)",
        "CGW_IPC_TIMEOUT is not known and has no effect; did you mean CGW_IPC_TIMEOUT_MS?",
        "GATEWAY_RATE_LIMIT_REDIS_URI is not used by this version (shared rate limits)",
        "GATEWAY_REDIS_URL is not used by this version (shared rate limits)",
        "OTEL_SERVICE_NAME is not used by this version (trace export)",
        "OTLP_ENDPOINT is not used by this version (trace export)",
    ];
    assert_eq!(loaded.warnings, expected);
    assert_eq!(loaded.config, Config::default());
}

#[cfg(unix)]
#[test]
fn a_name_that_is_not_text_is_skipped() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let strange = OsString::from_vec(vec![0xff]);
    let map = collect([(strange.clone(), "x".into()), ("A".into(), strange)]);
    assert_eq!(map.into_iter().collect::<Vec<_>>(), [("A".to_owned(), "\u{fffd}".to_owned())]);
}
