//! The demo router against what was recorded, and each of its ways to go wrong.

use super::*;

fn router() -> DemoRouter {
    DemoRouter::new(Settings {
        tenants: vec!["default_tenant".to_owned()],
        behaviour: Behaviour::new("answer", None, None).unwrap(),
        decide: DECIDE.to_owned(),
        pressure: "inactive",
        retry_after_seconds: 30,
        results: "none",
        keys_max: 2,
    })
}

fn decide(demo: &Value) -> String {
    json!({
        "version": "1", "request_id": "r", "tenant_id": "default_tenant",
        "task": {"type": "t", "payload": {"text": "hello", "demo_router": demo}},
    })
    .to_string()
}

#[test]
fn every_recorded_exchange_is_repeated() {
    let router = router();
    let mut repeated = 0;
    for exchange in recorded::exchanges() {
        let subject = exchange["subject"].as_str().unwrap();
        if subject != DECIDE && !subject.starts_with("beamline.router.v1.admin.") {
            continue;
        }
        let raw = exchange["request_raw"].as_str();
        let payload = raw.map_or_else(|| exchange["request"].to_string(), str::to_owned);
        let expected = match exchange["outcome"].as_str().unwrap() {
            "reply" => Act::now(exchange["reply"].clone()),
            "timeout" => Act::Silence,
            other => panic!("{other}"),
        };
        assert_eq!(router.act(subject, payload.as_bytes(), None), expected, "{}", exchange["name"]);
        repeated += 1;
    }
    assert_eq!(repeated, 33);
}

#[test]
fn a_task_says_how_its_request_is_dealt_with() {
    let router = router();
    let due = Some(Duration::from_millis(300));
    let act = |demo: Value| router.act(DECIDE, decide(&demo).as_bytes(), due);
    let waits = |demo: Value| match act(demo) {
        Act::Answer { after, times, body, .. } => (after.as_millis(), times, body["ok"] == true),
        other => panic!("{other:?}"),
    };
    assert_eq!(waits(json!({"mode": "answer"})), (0, 1, true));
    assert_eq!(waits(json!({"mode": "slow", "wait_ms": 50})), (50, 1, true));
    assert_eq!(waits(json!({"mode": "late", "wait_ms": 50})), (350, 1, true));
    assert_eq!(waits(json!({"mode": "double"})), (0, 2, true));
    assert_eq!(waits(json!({"mode": "fail", "code": "extension_timeout"})), (0, 1, false));
    assert_eq!(waits(json!({"mode": "no such mode"})), (0, 1, false));
    assert_eq!(act(json!({"mode": "silent"})), Act::Silence);
    assert_eq!(act(json!({"mode": "crash"})), Act::Crash);
    assert_eq!(act(json!({"mode": "answer"})), Act::Silence);
}

#[test]
fn control_changes_what_is_done_and_said() {
    let router = router();
    let ask = |subject: &str, payload: Value| match router.act(subject, payload.to_string().as_bytes(), None)
    {
        Act::Answer { body, .. } => body,
        other => panic!("{other:?}"),
    };
    let told = ask(
        CONTROL,
        json!({"mode": "fail", "code": "unauthorized", "backpressure": "active", "results": "flat"}),
    );
    let expected = json!({
        "ok": true, "mode": "fail", "code": "unauthorized", "wait_ms": 0, "backpressure": "active", "results": "flat",
    });
    assert_eq!(told, expected);
    assert_eq!(ask(CONTROL, json!({})), expected);
    let plain =
        json!({"request_id": "r", "tenant_id": "default_tenant", "task": {"type": "t", "payload_ref": "x"}});
    assert_eq!(ask(DECIDE, plain)["error"]["code"], "unauthorized");
    let pressure = ask(BACKPRESSURE, json!({"subject": DECIDE}));
    assert_eq!(pressure["data"]["status"], "active");
    assert_eq!(pressure["data"]["policy"]["retry_after_seconds"], 30);
    for wrong in [
        json!({"mode": "x"}),
        json!({"mode": "slow", "wait_ms": 600_001}),
        json!({"backpressure": "x"}),
        json!({"results": "x"}),
    ] {
        assert_eq!(ask(CONTROL, wrong)["ok"], false);
    }
}

#[test]
fn its_workers_report_what_was_decided_in_the_shapes_that_they_are_told() {
    let router = router();
    let plain = json!({"mode": "answer"});
    let reported = |shape: &str, demo: &Value| {
        router.act(CONTROL, json!({"results": shape}).to_string().as_bytes(), None);
        match router.act(DECIDE, decide(demo).as_bytes(), None) {
            Act::Answer { results, .. } => results,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reported("none", &plain), [] as [Value; 0]);
    let both = reported("both", &plain);
    let ([flat], [enveloped]) = (&reported("flat", &plain)[..], &reported("envelope", &plain)[..]) else {
        panic!("one each")
    };
    assert_eq!(both, [enveloped.clone(), flat.clone()]);
    assert_eq!((&flat["version"], &enveloped["data"]["version"]), (&json!("1"), &json!("1.0")));
    assert_eq!(flat["request_id"], enveloped["data"]["request_id"]);
    assert_eq!(reported("both", &json!({"mode": "fail"})), [] as [Value; 0]);
}
