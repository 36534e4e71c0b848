//! The command line and the configuration, through the binary: exit codes, what is printed where, and what never.

use serde_json::Value;

use crate::gateway::{Gateway, run};

/// The exit code of a wrong command line or configuration.
const USAGE: i32 = 2;

#[test]
fn check_says_ok_and_where_the_settings_are_from() {
    assert_eq!(
        run(&["check"], &[]),
        (0, "ok: no file, 2 routes, backend embedded (no NATS)\n".into(), String::new())
    );
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/gateway.toml");
    let (code, out, complaints) = run(&["check", "--strict", file], &[]);
    assert_eq!((code, complaints.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("ok: ") && out.contains("gateway.toml"), "{out}");
    let (code, out, _) = run(&["check"], &[("NATS_URL", "nats://127.0.0.1:4222")]);
    assert_eq!((code, out.as_str()), (0, "ok: no file, 2 routes, backend NATS\n"));
}

#[test]
fn check_and_run_tell_all_problems_at_once_with_exit_code_2() {
    let wrong = [
        ("NATS_URL", "http://somewhere"),
        ("IPC_GATEWAY__IPC__CONECTIONS_MAX", "3"),
        ("CGW_IPC_TIMEOUT_MS", "99"),
        ("IPC_GATEWAY__ADMIN__PORT", "eighty"),
    ];
    let expected = [
        "4 problems in the configuration",
        "nats.urls",
        "did you mean IPC_GATEWAY__IPC__CONNECTIONS_MAX?",
        "limits.timeout_ms is below 100",
        "admin.port is not a whole number",
        "allowed",
        "from     environment CGW_IPC_TIMEOUT_MS",
    ];
    let (code, out, complaints) = run(&["check"], &wrong);
    assert_eq!((code, complaints.as_str()), (USAGE, ""));
    for part in expected {
        assert!(out.contains(part), "{part} is not in:\n{out}");
    }
    let mut start = Gateway::with();
    for (name, value) in wrong.iter().filter(|(name, _)| !name.ends_with("ADMIN__PORT")) {
        start = start.environment(name, value);
    }
    let (code, complaint) = start.refusal();
    assert_eq!(code, USAGE);
    assert!(complaint.contains("3 problems in the configuration"), "{complaint}");
}

#[test]
fn a_file_of_nats_that_cannot_be_used_is_a_wrong_configuration() {
    let start = Gateway::with()
        .environment("NATS_URL", "nats://127.0.0.1:4222")
        .environment("IPC_GATEWAY__NATS__CREDENTIALS_FILE", "/dev/null");
    let (code, complaint) = start.refusal();
    assert_eq!(code, USAGE, "{complaint}");
    assert!(complaint.contains("nats.credentials_file"), "{complaint}");
}

#[test]
fn an_unknown_key_comes_with_a_suggestion() {
    let (code, out, _) = run(&["check", "--set", "ipc.conections_max=3"], &[]);
    assert_eq!(code, USAGE);
    assert!(out.contains("ipc.conections_max is not a setting; did you mean ipc.connections_max?"), "{out}");
    let (code, _, complaints) = run(&["--set", "ipc.conections_max"], &[]);
    assert_eq!(code, USAGE);
    assert!(complaints.contains("KEY=VALUE"), "{complaints}");
}

#[test]
fn config_shows_each_setting_with_its_source() {
    let environment = [("IPC_SOCKET_PATH", "/run/a.sock"), ("GATEWAY_PORT", "9999")];
    let (code, out, _) = run(&["config", "--set", "drain.grace_ms=7", "--admin-port", "1"], &environment);
    assert_eq!(code, 0);
    let line = |key: &str| {
        let found = out.lines().find(|line| line.starts_with(&format!("{key} = ")));
        found.unwrap_or_else(|| panic!("{key} is not in:\n{out}")).to_owned()
    };
    for (key, value, source) in [
        ("ipc.path", "/run/a.sock", "IPC_SOCKET_PATH"),
        ("drain.grace_ms", "7", "--set"),
        ("admin.port", "1", "--admin-port"),
        ("ipc.connections_max", "1024", "default"),
    ] {
        let line = line(key);
        let (setting, from) = line.split_once('#').unwrap();
        assert!(setting.contains(value) && from.contains(source), "{line}");
    }
    let (code, out, _) = run(&["config", "--json"], &environment);
    let body: Value = serde_json::from_str(&out).unwrap();
    let settings = body["settings"].as_array().unwrap();
    let path = settings.iter().find(|setting| setting["key"] == "ipc.path").unwrap();
    assert_eq!((code, path["value"].as_str()), (0, Some("/run/a.sock")));
}

#[test]
fn config_defaults_is_the_file_in_the_repository() {
    let (code, out, _) = run(&["config", "--defaults"], &[("NATS_URL", "nats://127.0.0.1")]);
    assert_eq!(code, 0);
    assert_eq!(out, include_str!("../../config/gateway.toml"));
}

#[test]
fn config_schema_is_a_json_schema_of_every_section() {
    let (code, out, _) = run(&["config", "--schema"], &[]);
    assert_eq!(code, 0);
    let schema: Value = serde_json::from_str(&out).unwrap();
    assert!(schema["$schema"].is_string(), "{schema}");
    let defaults: toml::Table = include_str!("../../config/gateway.toml").parse().unwrap();
    for section in defaults.keys() {
        assert!(schema["properties"].get(section).is_some(), "{section} is not in {schema}");
    }
}

#[test]
fn secrets_are_never_printed() {
    const SECRET: &str = "hunter2-hunter2";
    let url = format!("nats://alice:{SECRET}@127.0.0.1:4222");
    let bad_url = format!("nats://alice:{SECRET}@127.0.0.1:99999");
    let cases: &[&[(&str, &str)]] = &[
        &[("NATS_URL", &url)],
        &[("NATS_URL", &bad_url)],
        &[("IPC_GATEWAY__NATS__TOKEN", SECRET)],
        &[("IPC_GATEWAY__NATS__USER", "alice"), ("IPC_GATEWAY__NATS__PASSWORD", SECRET)],
        &[("IPC_GATEWAY__NATS__PASWORD", SECRET)],
    ];
    for environment in cases {
        for arguments in [&["config"][..], &["config", "--json"], &["check"], &["check", "--strict"]] {
            let (_, out, complaints) = run(arguments, environment);
            let printed = out + &complaints;
            assert!(!printed.contains(SECRET), "{arguments:?} {environment:?}:\n{printed}");
        }
    }
    let (code, complaint) = Gateway::with().environment("NATS_URL", &bad_url).refusal();
    assert!(code == USAGE && !complaint.contains(SECRET), "{complaint}");
    let gateway = Gateway::with()
        .environment("IPC_GATEWAY__NATS__TOKEN", SECRET)
        .set("backend.kind=embedded")
        .set("log.level=trace")
        .gateway();
    gateway.client().ping();
    let log = gateway.log();
    let pages = [gateway.page("/ready").1, gateway.page("/metrics").1];
    let printed = gateway.stop() + &log + &pages.concat();
    assert!(!printed.contains(SECRET), "{printed}");
}

#[test]
fn help_and_version_go_to_the_output_and_end_well() {
    for (arguments, parts) in [
        (
            &["--help"][..],
            &["run", "check", "config", "--socket", "--set", "--admin-port", "NATS_URL", "Exit codes"][..],
        ),
        (&["-h"], &["--socket"]),
        (&["run", "--help"], &["[SOCKET_PATH]"]),
        (&["check", "--help"], &["[FILE]", "--strict"]),
        (&["config", "--help"], &["--schema", "--defaults", "--json"]),
        (&["--version"], &["ipc-gateway ", env!("CARGO_PKG_VERSION")]),
    ] {
        let (code, out, complaints) = run(arguments, &[]);
        assert_eq!((code, complaints.as_str()), (0, ""), "{arguments:?}");
        for part in parts {
            assert!(out.contains(part), "{arguments:?}: {part} is not in:\n{out}");
        }
    }
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_what_is_allowed() {
    for arguments in [&["serve"][..], &["--sokcet", "x"], &["config", "--schema", "--json"]] {
        let (code, out, complaints) = run(arguments, &[]);
        assert_eq!((code, out.as_str()), (USAGE, ""), "{arguments:?}");
        assert!(complaints.contains("Usage"), "{complaints}");
    }
}

#[test]
fn without_a_door_it_does_not_start_and_says_how_to_open_one() {
    for start in
        [Gateway::with().set("ipc.enabled=false"), Gateway::with().environment("CGW_IPC_ENABLE", "0")]
    {
        let start = start.set("http.enabled=false").set("grpc.enabled=false");
        let (code, complaint) = start.refusal();
        assert_eq!(code, USAGE);
        assert!(complaint.contains("ipc.enabled = true"), "{complaint}");
    }
}

#[test]
fn a_socket_path_that_cannot_be_is_told() {
    let long = format!("ipc.path=/tmp/{}", "x".repeat(200));
    for (setting, expected, part) in [
        (long.as_str(), USAGE, "ipc.path is too long for a socket"),
        ("ipc.path=/no/such/directory/s", 1, "/no/such/directory does not exist"),
    ] {
        let (code, complaint) = Gateway::with().set(setting).refusal();
        assert!(code == expected && complaint.contains(part), "{code}: {complaint}");
    }
}

#[test]
fn names_of_the_predecessor_work() {
    let gateway = Gateway::with()
        .environment("CGW_IPC_MAX_CONNECTIONS", "1")
        .environment("CGW_IPC_ROUTER_SUBJECT", "demo.echo")
        .raw_tasks()
        .gateway();
    let mut client = gateway.client();
    assert_eq!(client.ask(1, "[1]").text(), "[1]");
    assert_eq!(gateway.client().receive().error().2, "overloaded");
    gateway.stop();
}
