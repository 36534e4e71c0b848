//! What another reading of the sources changes, and what it leaves.

use super::*;

#[test]
fn a_reload_takes_what_it_may_and_names_what_needs_a_restart() {
    let (directory, mut sources) = with_file("[limits]\ncalls_max = 10\n[http]\nport = 1000\n");
    sources.flags = vec![flag("limits.streams_max", "7")];
    let running = good(&sources).resolved;
    let text = "[limits]\ncalls_max = 20\nstreams_max = 8\n[http]\nport = 2000\n[routes.more]\npatterns = [\"a.b\"]\n";
    write(&directory, "gateway.toml", text);
    let reloaded = Config::reload(&sources, &running).unwrap();
    assert_eq!(reloaded.config.limits.calls_max, 20);
    assert_eq!(reloaded.config.limits.streams_max, 7, "a flag keeps its rank");
    assert_eq!(reloaded.config.http.address.port(), 1000, "the port needs a restart");
    assert!(reloaded.config.routes.iter().any(|route| route.name == "more"));
    let named = |path: &str| reloaded.changes.iter().find(|change| change.path == path).cloned();
    let change = |path: &str, before: &str, after: &str, needs_restart| {
        let (path, before, after) = (path.to_owned(), Some(before.to_owned()), Some(after.to_owned()));
        Some(Change { path, before, after, needs_restart })
    };
    assert_eq!(named("limits.calls_max"), change("limits.calls_max", "10", "20", false));
    assert_eq!(named("http.port"), change("http.port", "1000", "2000", true));
    assert_eq!(named("limits.streams_max"), None);
    let added = named("routes.more.patterns").unwrap();
    assert_eq!((added.before, added.after), (None, Some("[\"a.b\"]".to_owned())));

    // What waits for a restart is named again until there was one; what was taken is not.
    let again = Config::reload(&sources, &reloaded.resolved).unwrap().changes;
    assert_eq!(again.iter().map(|change| change.path.as_str()).collect::<Vec<_>>(), ["http.port"]);
}

#[test]
fn a_changed_secret_is_named_and_never_shown() {
    let (directory, sources) = with_file("[nats]\nurls = [\"nats://127.0.0.1\"]\ntoken = \"first-secret\"\n");
    let running = good(&sources).resolved;
    write(&directory, "gateway.toml", "[nats]\nurls = [\"nats://127.0.0.1\"]\ntoken = \"second-secret\"\n");
    let changes = Config::reload(&sources, &running).unwrap().changes;
    assert_eq!(changes.iter().map(|change| change.path.as_str()).collect::<Vec<_>>(), ["nats.token"]);
    assert!(!format!("{changes:?}").contains("-secret"), "{changes:?}");
}
