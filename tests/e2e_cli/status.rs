//! `status`: the picture of a gateway, and of none.

use serde_json::json;

use crate::nats_server::{NatsServer, free_port};
use crate::program::{Gateway, command, run};

#[test]
fn it_shows_backend_doors_limits_and_rates() {
    let gateway = Gateway::start();
    assert_eq!(gateway.run(&["request", "demo.echo", "x"]).code, 0);
    let ran = gateway.run(&["status", "--json", "--interval", "1ms"]);
    let [picture] = &ran.objects()[..] else { panic!("{ran:?}") };
    assert_eq!(
        (ran.code, &picture["ready"], &picture["backend"]["kind"]),
        (0, &json!(true), &json!("embedded"))
    );
    assert_eq!(picture["doors"]["unix"]["connections_total"], 1.0);
    let limits = picture["limits"].as_array().unwrap();
    for name in ["calls", "streams", "memory", "descriptors"] {
        let limit = limits.iter().find(|limit| limit["name"] == name).unwrap_or_else(|| panic!("{name}"));
        assert!(limit["used"].as_f64() <= limit["max"].as_f64(), "{limit}");
    }
    // What is left of a budget is not what is used of it.
    let budget = limits.iter().find(|limit| limit["name"] == "retry_budget of local");
    let budget = budget.unwrap_or_else(|| panic!("{limits:?}"));
    assert_eq!((&budget["used"], &budget["max"]), (&json!(0.0), &json!(10.0)));
    let route = &picture["routes"][0];
    assert_eq!((&route["operation"], &route["total"]), (&json!("request"), &json!(1.0)));

    let text = gateway.run(&["status", "--interval", "1ms"]);
    for part in ["ready", "embedded", "unix: 0 connections", "calls: 0 of", "request: 0.0/s"] {
        assert!(text.text().contains(part), "{part:?} is not in {}", text.text());
    }
}

#[test]
fn the_pool_is_shown_member_by_member_and_its_loss_is_an_exit_code() {
    let mut server = NatsServer::start("");
    let gateway = Gateway::start_with(&["--nats-url", &server.url()]);
    let look = || gateway.run(&["status", "--json", "--interval", "1ms"]);
    gateway.until_ready();
    let text = gateway.run(&["status", "--interval", "1ms"]);
    for part in ["nats: reachable", "connections are up", "connected", "round trip"] {
        assert!(text.text().contains(part), "{part:?} is not in {}", text.text());
    }
    server.kill();
    while look().code != 5 {}
    let text = gateway.run(&["status", "--interval", "1ms"]);
    assert!(text.text().contains("NOT READY") && text.text().contains("NOT REACHABLE"), "{}", text.text());
}

#[test]
fn a_circuit_that_is_not_closed_is_shown() {
    let settings =
        ["breaker.consecutive_max=1", "routes.nobody.patterns=nobody", "routes.nobody.operations=request"];
    let arguments: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let gateway = Gateway::start_with(&arguments);
    let picture = |gateway: &Gateway| {
        let text = gateway.run(&["status", "--interval", "1ms"]);
        let json = gateway.run(&["status", "--json", "--interval", "1ms"]);
        (text.text().to_owned(), json.objects()[0]["circuits"].clone())
    };
    let (text, circuits) = picture(&gateway);
    assert!(!text.contains("circuit") && circuits == json!({}), "{text}");
    assert_ne!(gateway.run(&["request", "nobody", "x"]).code, 0);
    let (text, circuits) = picture(&gateway);
    assert!(text.contains("circuit  nobody: open") && circuits == json!({"nobody": "open"}), "{text}");
}

#[test]
fn without_a_gateway_it_is_said_where_it_was_looked_for() {
    let port = free_port().to_string();
    let ran = run(command(&["status", "--admin-port", &port]), b"");
    ran.assert_complains(1, &[&port, "--admin-port"]);
    run(command(&["status", "--admin-port", "0"]), b"").assert_complains(2, &["--admin-port"]);
}
