//! Secrets come from the setting or from a file of their own, and are in no output.

use super::*;
use crate::cli::check::check;
use crate::cli::show::{Form, show};

const SECRET: &str = "hunter2-hunter2";

/// Everything that can be printed about these sources.
fn all_output(sources: &Sources) -> String {
    let mut out = Vec::new();
    for strict in [false, true] {
        check(sources.clone(), strict, &mut out).unwrap();
    }
    for form in [Form::Table, Form::Json] {
        show(sources.clone(), form, &mut out).unwrap();
    }
    let result = Config::load(sources);
    let more = match &result {
        Ok(loaded) => format!("{:?}", loaded.resolved.iter().map(Setting::value).collect::<Vec<_>>()),
        Err(problems) => problems.to_string(),
    };
    String::from_utf8(out).unwrap() + &format!("{result:?} {result:#?} {more}")
}

#[test]
fn no_output_shows_a_secret() {
    let directory = TempDir::new().unwrap();
    let kept = shown(&write(&directory, "secret", SECRET));
    let url = format!("nats://alice:{SECRET}@host");
    let kept_url = shown(&write(&directory, "url", &url));
    let bad_url = format!("nats://alice:{SECRET}@host:99999");
    let odd_url = format!("alice:{SECRET}@@@");
    let cases: Vec<Vec<(&str, &str)>> = vec![
        vec![("IPC_GATEWAY__NATS__USER", "a"), ("IPC_GATEWAY__NATS__PASSWORD", SECRET)],
        vec![("IPC_GATEWAY__NATS__USER", "a"), ("IPC_GATEWAY__NATS__PASSWORD_FILE", &kept)],
        vec![("IPC_GATEWAY__NATS__PASSWORD", SECRET)],
        vec![("IPC_GATEWAY__NATS__TOKEN", SECRET)],
        vec![("IPC_GATEWAY__NATS__NKEY_SEED", SECRET)],
        vec![("IPC_GATEWAY__NATS__TOKEN", SECRET), ("IPC_GATEWAY__NATS__NKEY_SEED_FILE", &kept)],
        vec![("IPC_GATEWAY__NATS__TOKN", SECRET)],
        vec![("NATS_URL", &url)],
        vec![("NATS_URL", &bad_url)],
        vec![("NATS_URL", &odd_url)],
        vec![("NATS_URL_FILE", &kept_url), ("CGW_IPC_NATS_URL", &bad_url)],
        vec![("NATS_URL", &url), ("IPC_GATEWAY__NATS__TOKEN", SECRET)],
    ];
    for case in cases {
        let text = all_output(&with_environment(&case));
        // The one thing that is not hidden: NATS_URL_FILE holds SECRET as a host name there, which is no
        // secret.
        if case[0].0 != "NATS_URL_FILE" {
            assert!(!text.contains(SECRET), "{case:?} shows its secret:\n{text}");
        }
    }
    for file in [
        format!("[nats]\nuser = \"a\"\npassword = \"{SECRET}\""),
        format!("[nats]\npassword = [\"{SECRET}\"]"),
        format!("[nats]\npasword = \"{SECRET}\""),
        format!("[nats]\ntoken = \"{SECRET}"),
        format!("[nats]\nurls = [\"{url}\", \"{bad_url}\"]"),
        format!("[nats]\nurls = \"{bad_url}\""),
        format!("[nats.token]\nvalue = \"{SECRET}\""),
    ] {
        let (_directory, sources) = with_file(&file);
        let text = all_output(&sources);
        assert!(!text.contains(SECRET), "{file} shows its secret:\n{text}");
    }
    let flags = vec![flag("nats.urls", &bad_url), flag("nats.token", SECRET)];
    let text = all_output(&Sources { flags, ..nothing() });
    assert!(!text.contains(SECRET), "{text}");
}

#[test]
fn a_secret_can_be_kept_in_a_file_of_its_own() {
    let (directory, mut sources) = with_file("");
    let kept = write(&directory, "password", &format!("{SECRET}\n"));
    write(&directory, "gateway.toml", &format!("[nats]\nuser = \"a\"\npassword_file = {:?}\n", shown(&kept)));
    let expected = Credentials::Password { user: "a".into(), password: Secret::new(SECRET) };
    let loaded = good(&sources);
    assert_eq!(loaded.config.nats.credentials, expected);
    let source = loaded.resolved.get("nats.password").unwrap().source.to_string();
    assert!(source.starts_with(&shown(&kept)) && source.contains("gateway.toml:3"), "{source}");
    // The environment overrides it as it does any value.
    sources.environment.insert("IPC_GATEWAY__NATS__PASSWORD".into(), "other".into());
    let expected = Credentials::Password { user: "a".into(), password: Secret::new("other") };
    assert_eq!(good(&sources).config.nats.credentials, expected);
}

#[test]
fn an_old_name_of_an_address_can_name_a_file_too() {
    let directory = TempDir::new().unwrap();
    let kept = shown(&write(&directory, "url", "nats://a:b@h1,nats://a:b@h2\n"));
    let config = good(&with_environment(&[("NATS_URL_FILE", &kept)])).config;
    let urls: Vec<_> = config.nats.urls.iter().map(NatsUrl::expose).collect();
    assert_eq!(urls, ["nats://a:b@h1", "nats://a:b@h2"]);
    assert_eq!(config.backend, Backend::Nats);
}

#[test]
fn a_secret_given_twice_in_one_place_is_refused() {
    let directory = TempDir::new().unwrap();
    let kept = shown(&write(&directory, "token", SECRET));
    let both = [("IPC_GATEWAY__NATS__TOKEN", "x"), ("IPC_GATEWAY__NATS__TOKEN_FILE", kept.as_str())];
    assert!(bad(&with_environment(&both)).contains("nats.token is set twice"));
    let text = format!("[nats]\ntoken = \"x\"\ntoken_file = {kept:?}\n");
    assert!(load_file(&text).expect_err("twice").to_string().contains("nats.token is set twice"));
}

#[test]
fn an_empty_or_endless_secret_file_is_refused() {
    let directory = TempDir::new().unwrap();
    for (text, expected) in [("\n", "nats.token is empty"), (&*"x".repeat(70_000), "longer than 65536 bytes")]
    {
        let kept = shown(&write(&directory, "token", text));
        let text = bad(&with_environment(&[("IPC_GATEWAY__NATS__TOKEN_FILE", &kept)]));
        assert!(text.contains(expected), "{text}");
    }
}
