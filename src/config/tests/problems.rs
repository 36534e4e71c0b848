//! What is wrong is found all at once, with its place, its value and what is allowed.

use super::*;
use crate::cli::check::{BAD, GOOD, check};

#[test]
fn all_problems_are_told_at_once() {
    let (directory, mut sources) = with_file(
        "allow_anonymous_netwrok = true\n\
         [ipc]\nin_flight_max = 9000\nmode = \"rw\"\nconections_max = 3\n\
         [nats]\npool_connections_min = 5\npool_connections_max = 3\n\
         [naats]\nurls = []\n\
         [routes.Bad]\n\
         [routes.a]\npatterns = [\"a.>.b\"]\n\
         [admin]\naddress = \"0.0.0.0\"\nport = true\n",
    );
    sources.environment.insert("NATS_URL".into(), "http://host".into());
    sources.environment.insert("IPC_GATEWAY__LIMITS__TIMEOUT_MS".into(), "99".into());
    sources.flags.push(flag("drain.grace_ms", "soon"));
    let text = bad(&sources);
    let file = shown(&directory.path().join("gateway.toml"));
    for expected in [
        format!(
            "allow_anonymous_netwrok is not known; did you mean allow_anonymous_network?\n   \
             from     {file}:1"
        ),
        format!(
            "ipc.in_flight_max is above 4096\n   value    9000\n   from     {file}:3\n   \
             allowed  a whole number from 1 to 4096 (requests)"
        ),
        format!("ipc.mode is not a file mode\n   value    \"rw\"\n   from     {file}:4"),
        "ipc.conections_max is not known; did you mean ipc.connections_max?".into(),
        "nats.pool_connections_min is above nats.pool_connections_max, which is 3".into(),
        "naats is not known; did you mean nats?".into(),
        "routes.Bad is not a name for a route".into(),
        "routes.a.patterns has an element (1) that is no pattern: a wildcard stands alone".into(),
        "admin.address can be reached from other machines".into(),
        "admin.port is a boolean".into(),
        "nats.urls has an element (1) that has the scheme \"http\", not nats or tls".into(),
        "from     environment NATS_URL".into(),
        "limits.timeout_ms is below 100".into(),
        "drain.grace_ms is not a whole number\n   value    soon\n   from     flag --some-flag".into(),
        "13 problems in the configuration:\n1. ".into(),
    ] {
        assert!(text.contains(&expected), "{expected}\nis missing in:\n{text}");
    }
}

#[test]
fn broken_syntax_is_told_with_its_line_and_nothing_is_guessed() {
    let (_directory, mut sources) = with_file("[ipc]\npath = \n[nats]\nurls = [\"a\"]\n");
    sources.environment.insert("CGW_IPC_NATS_ENABLE".into(), "1".into());
    let text = bad(&sources);
    assert!(text.starts_with("1 problem in the configuration:\n1. the file is not TOML: "), "{text}");
    assert!(text.contains("gateway.toml:2"), "{text}");
    assert!(!text.contains("backend.kind"), "{text}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let cases: &[(&str, &str)] = &[
        ("[backend]\nkind = \"nats\"", "backend.kind demands NATS, but no server is configured"),
        ("[nats]\nuser = \"a\"", "nats.password is not set, but nats.user is"),
        ("[nats]\npassword = \"a\"", "nats.user is not set, but nats.password is"),
        (
            "[nats]\ntoken = \"a\"\nnkey_seed = \"b\"",
            "more than one kind of credential: nats.token, nats.nkey_seed",
        ),
        ("[nats]\ntoken = \"a\"\nurls = [\"nats://u:p@h\"]", "nats.token, an address in nats.urls"),
        ("[nats]\ntls_first = true", "nats.tls_first is set without nats.tls"),
        ("[idempotency]\nstore = \"nats_kv\"", "idempotency.store needs NATS"),
        ("[idempotency]\nbucket = \"a.b\"", "idempotency.bucket is no name of a bucket"),
        ("[nats]\ninbox_prefix = \"$SYS\"", "nats.inbox_prefix starts with $"),
        (
            "[limits]\ntimeout_ms_max = 200",
            "limits.timeout_ms_max is below limits.timeout_ms, which is 30000",
        ),
        ("[limits]\nmemory_bytes_max = 1048576", "limits.memory_bytes_max is below 27262976"),
        (
            "[limits]\nmemory_bytes_max = 67108864\n[idempotency]\nbytes_max = 33554432",
            "limits.memory_bytes_max leaves 2621440 bytes for messages beside",
        ),
        (
            "[limits]\nmemory_bytes_max = 33554432\npeers_max = 1\n[idempotency]\nbytes_max = 16777216",
            "limits.memory_bytes_max leaves 0 bytes for messages beside",
        ),
        ("[limits]\ntimeout_ms = 300001", "limits.timeout_ms is above 300000"),
        ("[ipc]\nbuffer_pool_size = 129", "ipc.buffer_pool_size is above 128"),
        ("[ipc]\nallow_uids = [-1]", "ipc.allow_uids has an element (1) that is below 0"),
        ("[ipc]\nallow_uids = 7", "ipc.allow_uids is an integer"),
        ("ipc = 7", "ipc is a section, not a value"),
        ("[allow_anonymous_network]", "allow_anonymous_network is a table"),
        ("[log]\nlevel = \"inof\"", "log.level has a word that is neither a level nor target=level"),
        ("[log]\nlevel = \"a=[\"", "log.level cannot be read"),
        ("[http]\naddress = \"0.0.0.0\"", "http.address can be reached from other machines"),
        ("[http]\naddress = \"::\"", "http.address can be reached from other machines"),
        ("[http]\nport = 8080", "http.port is that of admin.port, on the same address"),
        ("[admin]\nport = 8081", "admin.port is that of http.port, on the same address"),
        ("[http]\nkeep_alive_ms = 100", "http.keep_alive_ms is below http.header_timeout_ms"),
        ("[http]\norigins = [\"app.example\"]", "http.origins has an element (1) that is not the origin"),
        (
            "[http]\ncors_origins = [\"https://app.example/\"]",
            "http.cors_origins has an element (1) that is not",
        ),
        ("[http]\norigins = [\"null\"]", "http.origins has an element (1) that is not the origin"),
        ("[http]\nrequest_headers = [\"nats-*\"]", "is reserved: no peer may set it"),
        ("[routes.a]", "routes.a is for nothing"),
        ("[routes.a]\nmessage_types = [\"task_submit\"]", "routes.decide.message_types"),
        (
            "[routes.a]\npatterns = [\">\"]",
            "routes.a.patterns holds \">\", which routes.local.patterns holds too",
        ),
        ("[routes.a]\npatterns = [\"$JS.>\"]", "is reserved: no peer reaches"),
        ("[routes.a]\npatterns = [\"_INBOX.x\"]", "is reserved: no peer reaches"),
        (
            "[nats]\ninbox_prefix = \"rp.x\"\n[routes.a]\npatterns = [\"rp.x.>\"]",
            "routes.a.patterns reaches the replies",
        ),
        (
            "[nats]\ninbox_prefix = \"rp.x\"\n[routes.a]\npatterns = [\"a\"]\nsubject = \"rp.x.b\"",
            "routes.a.subject reaches",
        ),
        ("[routes.a]\npatterns = [\"a\"]\nsubject = \"b.*\"", "routes.a.subject is no subject: a wildcard"),
        (
            "[routes.a]\npatterns = [\"a\"]\nallow = [\"uid:x\"]",
            "routes.a.allow has an element (1) that is nobody",
        ),
        ("[routes.a]\npatterns = [\"a\"]\nheaders = [\"nats-msg-id\"]", "is reserved: no peer may set it"),
        (
            "[routes.a]\npatterns = [\"a\"]\npayload_bytes_min = 5\npayload_bytes_max = 4",
            "routes.a.payload_bytes_min is above routes.a.payload_bytes_max, which is 4",
        ),
        (
            "[routes.decide]\nreplies_max = 2",
            "routes.decide.replies_max has no effect on a route with a profile",
        ),
        (
            "[routes.a]\npatterns = [\"a\"]\nreplies_timeout_ms = 1000",
            "routes.a.replies_timeout_ms is below routes.a.reply_gap_timeout_ms, which is 5000",
        ),
        ("[routes.a]\npatern = [\"a\"]", "routes.a.patern is not known; did you mean patterns?"),
        ("[rest.A]\npath = \"/a\"", "rest.A is not a name for a REST route"),
        ("[rest.a]\npaht = \"/a\"", "rest.a.paht is not known; did you mean path?"),
        ("[rest.a]\nmethod = \"HEAD\"", "rest.a.method is not one of the words"),
        ("[rest.a]\nstatus = 404", "rest.a.status is above 299"),
        ("[rest]\na = 1", "rest.a is a section, not a value"),
        ("[rest_error.a]\nbody = \"{}\"", "rest_error is not known; did you mean rest_errors?"),
    ];
    for (text, expected) in cases {
        let problems = load_file(text).map(|loaded| loaded.config).expect_err(text).to_string();
        assert!(problems.contains(expected), "{expected}\nis missing in:\n{problems}");
    }
    let long = format!("[ipc]\npath = \"/{}\"", "x".repeat(200));
    assert!(
        load_file(&long).expect_err("too long").to_string().contains("ipc.path is too long for a socket")
    );
}

#[test]
fn what_looks_like_a_contradiction_but_is_none_is_accepted() {
    for text in [
        "allow_anonymous_network = true\n[admin]\naddress = \"0.0.0.0\"",
        "[admin]\nenabled = false\naddress = \"0.0.0.0\"",
        "allow_anonymous_network = true\n[http]\naddress = \"0.0.0.0\"",
        "[http]\nenabled = false\naddress = \"0.0.0.0\"",
        "[http]\nenabled = false\nport = 8080",
        "[http]\naddress = \"127.0.0.2\"\nport = 8080",
        "[http]\norigins = [\"*\"]\ncors_origins = [\"https://app.example:8443\", \"http://[::1]:3000\"]",
        "[http]\nrequest_headers = [\"x-*\", \"*\"]",
        "[admin]\naddress = \"::1\"",
        "[admin]\naddress = \"127.8.8.8\"",
        "[nats]\nuser = \"a\"\npassword = \"b\"",
        "[routes.local]\npatterns = []\n[routes.all]\npatterns = [\">\"]",
        "[routes.local]\noperations = [\"request\"]\n\
         [routes.all]\noperations = [\"publish\"]\npatterns = [\">\"]",
        "[log]\nlevel = \"warn,my_module=debug\"",
    ] {
        load_file(text).unwrap_or_else(|problems| panic!("{text}: {problems}"));
    }
}

#[test]
fn a_wrong_address_is_never_a_fall_back_to_the_embedded_backend() {
    for url in ["nats://", "host:port", "localhost;4222", ",", "nats://h:99999"] {
        assert!(Config::load(&with_environment(&[("NATS_URL", url)])).is_err(), "{url}");
    }
    let text = bad(&with_environment(&[("CGW_IPC_NATS_ENABLE", "1")]));
    assert!(text.contains("backend.kind") && text.contains("environment CGW_IPC_NATS_ENABLE"), "{text}");
}

#[test]
fn a_flag_for_no_setting_is_a_problem() {
    let text =
        bad(&Sources { flags: vec![flag("ipc.paht", "/a"), flag("routes.a.nothing", "1")], ..nothing() });
    assert!(text.contains("ipc.paht is not a setting; did you mean ipc.path?"), "{text}");
    assert!(text.contains("routes.a.nothing is not a setting"), "{text}");
    let routed = Sources { flags: vec![flag("routes.a.patterns", "a.*")], ..nothing() };
    assert_eq!(patterns(&good(&routed).config.routes[0]), ["a.*"]);
}

#[test]
fn check_tells_all_and_returns_its_code() {
    let run = |sources: Sources, strict: bool| {
        let mut out = Vec::new();
        let code = check(sources, strict, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    };
    assert_eq!(run(nothing(), true), (GOOD, "ok: no file, 2 routes, backend embedded (no NATS)\n".into()));
    let (code, text) = run(with_environment(&[("GATEWAY_PORT", "x"), ("BUFFER_SIZE", "x")]), false);
    assert_eq!(code, BAD);
    assert!(text.starts_with("2 problems"), "{text}");
}

#[test]
fn a_missing_file_is_a_warning_for_check_and_an_error_with_strict_and_for_running() {
    let directory = TempDir::new().unwrap();
    let missing = shown(&directory.path().join("missing"));
    let names = ["IPC_GATEWAY__NATS__TOKEN_FILE", "IPC_GATEWAY__NATS__TLS_CA_FILE", "NATS_URL_FILE"];
    let sources = with_environment(&[(names[0], &missing), (names[1], &missing), (names[2], &missing)]);
    assert!(bad(&sources).starts_with("3 problems"));
    let run = |strict: bool| {
        let mut out = Vec::new();
        let code = check(sources.clone(), strict, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    };
    let (code, text) = run(false);
    assert_eq!(code, GOOD, "{text}");
    for expected in [
        "warning: nats.token is to be read from",
        "warning: nats.tls_ca_file names a file",
        "nats.urls",
        "backend NATS",
    ] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
    let (code, text) = run(true);
    assert_eq!(code, BAD);
    assert!(
        text.contains("nats.token") && text.contains(names[0]) && text.contains("No such file"),
        "{text}"
    );
}
