//! Configured paths, over real sockets and on the demo backend: which route a request meets, what it becomes, and what
//! is refused.

use crate::fixture::{Running, head};

/// A gateway with these routes beside one that is never met.
async fn with(settings: &[(&str, &str)]) -> Running {
    Running::start(settings).await
}

/// Keys of one route that sends `body` to the demo's echo.
fn echo<'a>(keys: [&'a str; 3], path: &'a str, body: &'a str) -> [(&'a str, &'a str); 3] {
    [(keys[0], path), (keys[1], "demo.echo"), (keys[2], body)]
}

macro_rules! keys {
    ($name:literal) => {
        [
            concat!("rest.", $name, ".path"),
            concat!("rest.", $name, ".subject"),
            concat!("rest.", $name, ".body"),
        ]
    };
}

#[tokio::test]
async fn a_literal_beats_a_parameter_and_values_are_decoded_one_by_one() {
    let settings = [
        echo(keys!("any"), "/a/{x}/c", r#"{"any":"{x}"}"#),
        echo(keys!("one"), "/a/one/c", r#"{"one":1}"#),
        echo(keys!("deep"), "/a/two/d", r#"{"deep":1}"#),
        echo(keys!("query"), "/q", r#"{"a":"{query:a}","b":{query:b}}"#),
    ];
    let gateway = with(settings.as_flattened()).await;
    for (path, body) in [
        ("/a/one/c", r#"{"one":1}"#),
        ("/a/%6fne/c", r#"{"one":1}"#),
        ("/a/two/d", r#"{"deep":1}"#),
        // The literal leads to nothing.
        ("/a/two/c", r#"{"any":"two"}"#),
        ("/a/x%2Fy%22%00/c", "{\"any\":\"x/y\\\"\\u0000\"}"),
        ("/a/../c", r#"{"any":".."}"#),
        ("/q?a=1+2&x=%ff0", ""),
        ("/q?a=%F0%9F%A6%80&b=", "{\"a\":\"🦀\",\"b\":\"\"}"),
        ("/q?a=", r#"{"a":"","b":null}"#),
    ] {
        let answer = gateway.ask("GET", path, "", "").await;
        if body.is_empty() {
            answer.problem(400, "malformed");
            continue;
        }
        assert_eq!((answer.status(), answer.text()), (200, body), "{path}");
    }
    for path in ["/a//c", "/a/x/c/", "/a/x", "//a/x/c", "/A/one/c", "/a/one%2Fc", "/q/"] {
        gateway.ask("GET", path, "", "").await.problem(404, "not_found");
    }
    for path in ["/a/%ff/c", "/a/%2/c", "/q?a=1&a=2", "/q?a=%zz"] {
        gateway.ask("GET", path, "", "").await.problem(400, "malformed");
    }
    gateway.ask("GET", "/q?b=1", "", "").await.problem(400, "invalid");
    // What the door refuses by itself is counted, whether it is malformed or not.
    assert_eq!(gateway.count("protocol_errors_total").await, 6);
    gateway.stop().await;
}

#[tokio::test]
async fn methods_of_a_path_are_told_and_head_is_a_get_without_body() {
    let settings = [
        echo(keys!("get"), "/a/{x}", r#"{"get":"{x}"}"#),
        echo(keys!("put"), "/a/{y}", r#"{"put":"{y}"}"#),
        echo(keys!("literal"), "/a/b", r#"{"delete":1}"#),
    ];
    let mut settings = settings.as_flattened().to_vec();
    settings.extend([
        ("rest.put.method", "PUT"),
        ("rest.literal.method", "DELETE"),
        ("rest.put.status", "201"),
    ]);
    let gateway = with(&settings).await;
    assert_eq!(gateway.ask("GET", "/a/b", "", "").await.text(), r#"{"get":"b"}"#);
    assert_eq!(gateway.ask("DELETE", "/a/b", "", "").await.text(), r#"{"delete":1}"#);
    let put = gateway.ask("PUT", "/a/b", "", "").await;
    assert_eq!((put.status(), put.text()), (201, r#"{"put":"b"}"#));
    for (path, allow) in [("/a/b", "DELETE, GET, HEAD, PUT"), ("/a/c", "GET, HEAD, PUT")] {
        let refused = gateway.ask("POST", path, "", "").await;
        refused.problem(405, "unsupported");
        assert_eq!(refused.header("allow"), Some(allow));
    }
    let head = gateway.say(head("HEAD", "/a/b", "Connection: close\r\n", "")).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_value_in_a_subject_is_one_token_and_reaches_nothing_reserved() {
    let gateway = with(&[
        ("rest.ask.path", "/ask/{what}"),
        ("rest.ask.subject", "demo.{what}"),
        ("rest.ask.method", "POST"),
        ("rest.any.path", "/any/{first}"),
        ("rest.any.subject", "{first}.SYS"),
        ("rest.listen.path", "/listen/{what}"),
        ("rest.listen.subject", "{what}.>"),
        ("rest.listen.operation", "subscribe"),
        ("rest.tell.path", "/tell/{what}"),
        ("rest.tell.subject", "orders.{what}"),
        ("rest.tell.operation", "publish"),
        ("rest.tell.method", "POST"),
    ])
    .await;
    assert_eq!(gateway.ask("POST", "/ask/echo", "", "hello").await.text(), "hello");
    let told = gateway.ask("POST", "/tell/placed", "", "{}").await;
    assert_eq!((told.status(), told.text()), (202, r#"{"accepted":true}"#));
    for value in ["a.b", "*", "%3E", "a%20b", "a*", "x%0A"] {
        gateway.ask("POST", &format!("/ask/{value}"), "", "").await.problem(400, "invalid");
        gateway.ask("GET", &format!("/listen/{value}"), "", "").await.problem(400, "invalid");
    }
    for path in ["/any/$SYS", "/any/_INBOX", "/listen/$SYS"] {
        gateway.ask("GET", path, "", "").await.problem(403, "denied");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn tenants_are_those_of_the_identity_and_headers_are_sent() {
    let gateway = with(&[
        ("identity.default_tenant", "red"),
        ("rest.a.path", "/a/{tenant}"),
        ("rest.a.subject", "demo.echo"),
        ("rest.a.body", r#"{"from":"{identity:tenant}","name":"{identity:name}"}"#),
        ("rest.a.tenant_from", "tenant,query:t"),
        ("rest.b.path", "/b"),
        ("rest.b.subject", "demo.echo"),
        ("rest.b.body", "empty"),
        ("rest.b.headers", "X-Request-Id: r-{query:id},X-None: {query:none}"),
        ("rest.b.tenant_from", "header:X-Tenant-ID"),
        ("rest.b.tenant_required", "true"),
    ])
    .await;
    let answer = gateway.ask("GET", "/a/red", "", "").await;
    assert_eq!(answer.text(), r#"{"from":"red","name":"anonymous"}"#);
    for path in ["/a/blue", "/a/red?t=blue", "/a/RED"] {
        gateway.ask("GET", path, "", "").await.problem(403, "denied");
    }
    gateway.ask("GET", "/b", "", "").await.problem(400, "invalid");
    gateway.ask("GET", "/b", "X-Tenant-ID: blue\r\n", "").await.problem(403, "denied");
    gateway.ask("GET", "/b?id=a%0Ab", "X-Tenant-ID: red\r\n", "").await.problem(400, "invalid");
    let sent = gateway.ask("GET", "/b?id=1", "X-Tenant-ID: red\r\nX-Request-Id: mine\r\n", "not sent").await;
    assert_eq!((sent.status(), sent.text()), (200, ""));
    gateway.stop().await;
}

#[tokio::test]
async fn errors_have_the_form_that_a_route_names_and_others_stay_problems() {
    let gateway = with(&[
        (
            "rest_errors.plain.body",
            r#"{"error":"{code}","kind":"{kind}","n":{status},"q":{query:q},"at":"{endpoint}"}"#,
        ),
        ("rest_errors.plain.headers", "503 X-Where: {header:x-here},503 X-None: {query:none},404 X-Other: 1"),
        ("rest_errors.plain.codes", "no_responders=nobody"),
        ("rest.a.path", "/a/{x}"),
        ("rest.a.subject", "nobody.is.here"),
        ("rest.a.errors", "plain"),
        ("rest.fail.path", "/fail"),
        ("rest.fail.subject", "demo.fail"),
        ("rest.fail.errors", "plain"),
    ])
    .await;
    let answer = gateway.ask("GET", "/a/b?q=%22", "X-Here: there\r\n", "").await;
    let body = r#"{"error":"nobody","kind":"no_responders","n":503,"q":"\"","at":"/a/{x}"}"#;
    assert_eq!((answer.status(), answer.text()), (503, body));
    assert_eq!(answer.header("x-where"), Some("there"));
    assert!(answer.header("x-none").is_none() && answer.header("x-other").is_none());
    let own = gateway.ask("GET", "/fail", "", "").await.json();
    assert_eq!((&own["kind"], own["error"] == "failed"), (&"failed".into(), false), "{own}");
    gateway.ask("GET", "/nowhere", "", "").await.problem(404, "not_found");
    gateway.stop().await;
}

#[tokio::test]
async fn an_error_gives_back_what_names_a_request_and_no_more_of_it() {
    let gateway = with(&[
        ("rest_errors.named.body", r#"{"id":{request:/id}}"#),
        ("rest.a.method", "POST"),
        ("rest.a.path", "/a"),
        ("rest.a.subject", "nobody.is.here"),
        ("rest.a.errors", "named"),
    ])
    .await;
    for (length, expected) in
        [(1000, format!(r#"{{"id":"{}"}}"#, "x".repeat(1000))), (100_000, r#"{"id":null}"#.to_owned())]
    {
        let body = format!(r#"{{"id":"{}"}}"#, "x".repeat(length));
        assert_eq!(gateway.ask("POST", "/a", "", &body).await.text(), expected);
    }
    gateway.stop().await;
}

/// A page could not tell a message that calls itself so from what the gateway tells.
#[tokio::test]
async fn no_message_poses_as_what_the_door_tells() {
    let gateway = with(&[
        ("rest.all.path", "/all"),
        ("rest.all.operation", "subscribe"),
        ("rest.all.subject", "any.thing"),
        ("rest.all.event_name", "/type"),
    ])
    .await;
    let mut client = gateway.connect().await;
    client.send(&head("GET", "/all", "", "")).await;
    client.until(": open\n\n").await;
    for (name, expected) in [("error", "message"), ("gap", "message"), ("end", "message"), ("ended", "ended")]
    {
        gateway.ask("POST", "/v1/publish/any.thing", "", &format!(r#"{{"type":"{name}"}}"#)).await;
        let event = client.until("\n\n").await;
        assert!(event.contains(&format!("event: {expected}\n")), "{event}");
    }
    drop(client);
    gateway.stop().await;
}

#[tokio::test]
async fn events_of_a_route_have_its_shape() {
    let gateway = with(&[
        ("rest.ticks.path", "/ticks/{subject}"),
        ("rest.ticks.operation", "subscribe"),
        ("rest.ticks.subject", "demo.{subject}"),
        ("rest.ticks.event_data", "/tick"),
        ("rest.ticks.event_name", "/nothing"),
    ])
    .await;
    let mut client = gateway.connect().await;
    client.send(&head("GET", "/ticks/tick", "", "")).await;
    let opened = client.until(": open\n\n").await;
    assert!(opened.contains("content-type: text/event-stream"), "{opened}");
    let event = client.until("\n\n").await;
    assert!(event.contains("event: message\n"), "{event}");
    let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    assert!(data.parse::<u64>().is_ok(), "{event}");
    drop(client);
    gateway.until("streams", 0).await;
    gateway.stop().await;
}

#[tokio::test]
async fn everything_that_is_configured_is_listed_described_and_there() {
    let settings = [echo(keys!("a"), "/a/{x}", r#"{"x":"{x}","q":{query:q},"h":{header:x-h}}"#)];
    let gateway = with(settings.as_flattened()).await;
    let index = gateway.ask("GET", "/", "", "").await.json();
    let listed = index["paths"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&listed["path"], &listed["summary"]), (&"/a/{x}".into(), &"A request to demo.echo.".into()));
    let document = gateway.ask("GET", "/openapi.json", "", "").await.json();
    let operation = &document["paths"]["/a/{x}"]["get"];
    let places: Vec<_> = operation["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["in"].clone(), one["name"].clone()))
        .collect();
    let expected = [("path", "x"), ("query", "q"), ("header", "x-h")];
    assert_eq!(places, expected.map(|(place, name)| (place.into(), name.into())));
    assert!(operation["responses"]["200"].is_object() && operation["responses"]["default"].is_object());
    assert_eq!(gateway.ask("GET", "/a/1", "", "").await.status(), 200);
    gateway.stop().await;
}
