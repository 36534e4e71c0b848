//! What the profile emits, against the reference router's own check; and what it makes of every recorded answer.

use contract::{Message, Reply, Target};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::demo_router::{intake, recorded};
use crate::testing;

fn settings() -> Settings {
    Settings {
        default_tenant: "default_tenant".into(),
        default_task_type: "task".into(),
        envelope_bytes_max: 1 << 20,
        assignment_allowed: false,
    }
}

fn encoded_with(settings: &Settings, payload: &[u8]) -> Result<Value, Error> {
    let mut request = testing::request(Target::Request(Subject::from_static("a")));
    request.payload = payload.to_vec().into();
    encode(settings, &mut request)?;
    intake::check(&request.payload).expect("the router takes what is emitted");
    let body: Value = serde_json::from_slice(&request.payload).unwrap();
    assert_eq!(body["version"], "1");
    assert_eq!(body["trace_id"], request.trace.trace_id().to_string());
    Ok(body)
}

fn encoded(payload: &str) -> Value {
    encoded_with(&settings(), payload.as_bytes()).unwrap()
}

fn kind_of(payload: &str) -> Kind {
    encoded_with(&settings(), payload.as_bytes()).unwrap_err().kind()
}

#[test]
fn an_id_that_nobody_gave_is_the_same_in_each_attempt_and_another_in_each_request() {
    let mut request = testing::request(Target::Request(Subject::from_static("a")));
    request.payload = "7".into();
    let id = |request: &Request| {
        let mut attempt = request.clone();
        encode(&settings(), &mut attempt).unwrap();
        let body: Value = serde_json::from_slice(&attempt.payload).unwrap();
        body["request_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(id(&request), id(&request));
    let first = id(&request);
    // As two requests of one trace have.
    request.trace = request.trace.child();
    assert_ne!(id(&request), first);
}

#[test]
fn json_of_any_kind_becomes_a_tasks_payload() {
    let cases = [
        (r#"{"text":"hello world"}"#, json!({"text": "hello world"})),
        ("{}", json!({"data": {}})),
        (r#" { "a" : 1 } "#, json!({"data": {"a": 1}})),
        (r#""text""#, json!({"data": "text"})),
        ("[1,2,3,4,5,6,7,8]", json!({"data": [1, 2, 3, 4, 5, 6, 7, 8]})),
        ("7", json!({"data": 7})),
        ("null", json!({"data": null})),
        (r#"{"task":"not an object"}"#, json!({"task": "not an object"})),
    ];
    for (payload, expected) in cases {
        let body = encoded(payload);
        assert_eq!(body["task"], json!({"type": "task", "payload": expected}), "{payload}");
        assert_eq!(body["tenant_id"], "default_tenant");
        assert_eq!(body["request_id"].as_str().unwrap().len(), 49);
    }
}

#[test]
fn ids_and_types_come_from_the_client() {
    let cases = [
        (r#"{"task_id":"t1","command":"run"}"#, "t1", "run"),
        (r#"{"request_id":"r","task_id":"t1","task_type":"chat","command":"run"}"#, "r", "chat"),
        (r#"{"request_id":"","task_id":"\u0074","task_type":7,"command":""}"#, "t", "task"),
        (r#"{"task_id":"a","task_id":"b"}"#, "b", "task"),
    ];
    for (payload, id, kind) in cases {
        let body = encoded(payload);
        assert_eq!((&body["request_id"], &body["task"]["type"]), (&json!(id), &json!(kind)), "{payload}");
    }
}

#[test]
fn the_tenant_is_the_identitys_and_never_the_clients() {
    let mut request = testing::request(Target::Request(Subject::from_static("a")));
    let mut identity = request.origin.identity.clone();
    identity.tenant = Some("a\"b".into());
    request.origin = testing::origin(identity);
    let payload = br#"{"tenant_id":"other","request_id":"r","task":{"type":"t","payload_ref":"s3://b/k"}}"#;
    request.payload = payload.to_vec().into();
    encode(&settings(), &mut request).unwrap();
    let body: Value = serde_json::from_slice(&request.payload).unwrap();
    assert_eq!(body["tenant_id"], "a\"b");
}

#[test]
fn of_a_decide_body_only_what_the_router_takes_gets_in() {
    let body = encoded(
        r#"{"version":2,"tenant_id":"other","request_id":"r","trace_id":null,"policy_id":null,"metadata":{"a":1},
            "idempotency_key":"k","push_assignment":true,"assignment_subject":"a.b","constraints":null,"more":1,
            "task":{"type":"","payload":"hello hello hello","more":1},"task_type":"chat",
            "run_id":"4fa5854b-ba02-4886-a826-f94efb1a0ad3","flow_id":"01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "step_id":"3e50ff62-cabf-4ef6-b30d-726f5b58f751"}"#,
    );
    let expected = json!({
        "version": "1", "tenant_id": "default_tenant", "request_id": "r", "trace_id": body["trace_id"],
        "metadata": {"a": 1}, "task": {"type": "chat", "payload": {"data": "hello hello hello"}},
        "run_id": "4fa5854b-ba02-4886-a826-f94efb1a0ad3", "flow_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "step_id": "3e50ff62-cabf-4ef6-b30d-726f5b58f751",
    });
    assert_eq!(body, expected);
}

#[test]
fn assignments_pass_where_the_route_allows_them() {
    let settings = Settings { assignment_allowed: true, ..settings() };
    let with = |subject: &str| {
        let body =
            json!({"task": {"payload_ref": "x"}, "push_assignment": true, "assignment_subject": subject});
        encoded_with(&settings, body.to_string().as_bytes())
    };
    let body = with("a.b").unwrap();
    assert_eq!((&body["push_assignment"], &body["assignment_subject"]), (&json!(true), &json!("a.b")));
    for subject in ["$SYS.x", "_INBOX.x", "a.*", ""] {
        assert_eq!(with(subject).unwrap_err().kind(), Kind::Invalid, "{subject}");
    }
}

#[test]
fn what_cannot_be_put_right_is_invalid_and_not_sent() {
    let cases = [
        "",
        "{not json",
        "\"\\ud800\"",
        r#"{"task":{"type":7,"payload":{}}}"#,
        r#"{"task":{"payload":{},"payload_ref":"x"}}"#,
        r#"{"task":{"payload_ref":""}}"#,
        r#"{"task":{},"policy_id":""}"#,
        r#"{"task":{},"options":[]}"#,
        r#"{"task":{},"run_id":"4fa5854b-ba02-4886-a826-f94efb1a0ad3"}"#,
        r#"{"task":{},"run_id":"a","flow_id":"b","step_id":"c"}"#,
    ];
    for payload in cases {
        assert_eq!(kind_of(payload), Kind::Invalid, "{payload}");
    }
}

#[test]
fn the_limit_is_that_of_the_whole_body() {
    let bytes = |pad: usize| format!(r#"{{"request_id":"r","pad":"{}"}}"#, "x".repeat(pad));
    let whole = encoded(&bytes(0)).to_string().len();
    let settings = Settings { envelope_bytes_max: whole + 100, ..settings() };
    assert!(encoded_with(&settings, bytes(100).as_bytes()).is_ok());
    for pad in [101, 1000] {
        let error = encoded_with(&settings, bytes(pad).as_bytes()).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::TooLarge, contract::Outcome::NotSent));
    }
}

fn answered(body: &Value) -> Result<Reply, Error> {
    decode(Ok(Reply::Message(Message { payload: body.to_string().into(), ..Message::default() })))
}

#[test]
fn every_recorded_request_comes_out_as_one_that_is_accepted() {
    for exchange in recorded::exchanges().iter().filter(|one| one["subject"] == "beamline.router.v1.decide") {
        let raw = exchange["request_raw"].as_str();
        let payload = raw.map_or_else(|| exchange["request"].to_string(), str::to_owned);
        match encoded_with(&settings(), payload.as_bytes()) {
            Ok(_) => assert!(raw.is_none(), "{}", exchange["name"]),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Invalid);
                assert!(raw.is_some() || exchange["name"] == "run_id only", "{}", exchange["name"]);
            }
        }
    }
}

#[test]
fn every_recorded_answer_is_read_as_what_it_is() {
    let mut read = 0;
    for exchange in recorded::exchanges().iter().filter(|exchange| exchange["outcome"] == "reply") {
        let (name, body) = (&exchange["name"], &exchange["reply"]);
        match answered(body) {
            Ok(Reply::Message(message)) => {
                assert_ne!(body["ok"], false, "{name}");
                assert_eq!(message.payload, body.to_string(), "{name}");
            }
            Ok(other) => panic!("{name}: {other:?}"),
            Err(error) => {
                assert_eq!((body["ok"].as_bool(), error.kind()), (Some(false), Kind::Failed), "{name}");
                let failed = error.as_failed().unwrap();
                assert_eq!(json!(*failed.code), body["error"]["code"], "{name}");
                assert_eq!(json!(error.text()), body["error"]["message"], "{name}");
                assert_eq!(failed.body, body.to_string(), "{name}");
                let expected = statuses(&failed.code).unwrap_or((502, 2, false));
                assert_eq!((failed.http, failed.grpc, failed.counts), expected, "{name}");
            }
        }
        read += 1;
    }
    assert!(read > 30, "{read}");
}

#[test]
fn refusals_have_the_statuses_of_the_table() {
    let cases = [
        ("invalid_request", 400, 3, false),
        ("unauthorized", 401, 16, false),
        ("policy_not_found", 404, 5, false),
        ("decision_failed", 500, 13, false),
        ("internal", 500, 13, true),
        ("extension_not_found", 502, 14, false),
        ("extension_error", 502, 14, false),
        ("extension_timeout", 504, 4, false),
        ("extension_unavailable", 503, 14, false),
        ("validator_blocked", 403, 7, false),
        ("post_processor_failed", 502, 13, false),
        ("never heard of", 502, 2, false),
    ];
    for (code, http, grpc, counts) in cases {
        let error = answered(&json!({"ok": false, "error": {"code": code, "message": "m"}})).unwrap_err();
        let failed = error.as_failed().unwrap();
        assert_eq!((error.http(), error.grpc(), failed.counts, &*failed.code), (http, grpc, counts, code));
    }
    let error = answered(&json!({"ok": false})).unwrap_err();
    assert_eq!((error.http(), error.as_failed().unwrap().counts), (502, false));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..12_u8).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from),
        Just(json!("4fa5854b-ba02-4886-a826-f94efb1a0ad3")),
        Just(json!("01ARZ3NDEKTSV4RRFFQ69G5FAV")),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let names = "(version|request_id|task_id|task_type|command|task|type|payload|payload_ref|policy_id|run_id\
                     |flow_id|step_id|constraints|metadata|options|idempotency_key|push_assignment\
                     |assignment_subject|trace_id|tenant_id|[a-z]{0,2})";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names, inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_json_a_client_sends_the_router_takes_it_or_it_is_refused(
        value in any_json(),
        wide in any::<bool>(),
        assignment_allowed in any::<bool>(),
    ) {
        let text = if wide { format!("{value:#}") } else { value.to_string() };
        let settings = Settings { assignment_allowed, ..settings() };
        if let Err(error) = encoded_with(&settings, text.as_bytes()) {
            prop_assert_eq!(error.kind(), Kind::Invalid);
        }
    }

    #[test]
    fn whatever_bytes_a_client_sends_the_router_takes_them_or_they_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        before in "[{\\[\"a:1,}\\] ]{0,8}",
    ) {
        let bytes = [before.as_bytes(), &bytes].concat();
        if let Err(error) = encoded_with(&settings(), &bytes) {
            prop_assert_eq!(error.kind(), Kind::Invalid);
        }
    }
}
