//! Errors: the router's no as each protocol says it.

use bytes::Bytes;
use contract::{Kind, Outcome};
use serde_json::{Value, json};

use crate::gateway::eventually;
use crate::ground::{Ground, UNGUARDED, task, told};
use crate::outside::{DECIDE, Outside};
use crate::peer::Answer;
use crate::ways::Way;

/// Sees that the router's no with this code is the client's, and what gRPC's status of it is.
fn expect_refused(ground: &Ground, code: &str, status: u8) {
    let task = told("t", json!({"mode": "fail", "code": code}));
    let (said, message, body) = ground.peer().ask(&task).refusal();
    assert_eq!((&*said, &*message), (code, "the demo router was told to fail"));
    assert_eq!(body["context"]["request_id"], "t");
    if ground.way.door == "grpc" {
        let (found, text) = ground.unary(&task);
        assert_eq!((found, &*text), (status, "the demo router was told to fail"), "{code}");
    }
}

/// How this way says the router's no.
fn how(way: &Way, status: &str) -> String {
    match way.door {
        _ if way.is_version_1 => "`RESPONSE_OK` with the router's body as it is".to_owned(),
        "grpc" => format!("status {status} of a call; in a session an `Error` with code, message and body"),
        "websocket" => "`error` of kind `failed` with `backend_code` and `body`".to_owned(),
        _ => "ERROR `failed` with the router's code in field 14 and its body".to_owned(),
    }
}

pub(crate) fn errors_1_a_400_is_the_clients(way: &'static Way) -> String {
    let ground = Ground::open(way, &[UNGUARDED]);
    expect_refused(&ground, "invalid_request", 3);
    // What the gateway itself knows the router to refuse does not reach it.
    let wrong = json!({"task": {"type": 7, "payload": {"text": "what to do"}}});
    ground.peer().ask(&wrong).expect_failure(Kind::Invalid, Outcome::NotSent);
    ground.close();
    how(way, "3 INVALID_ARGUMENT")
}

pub(crate) fn errors_2_a_404_is_the_clients(way: &'static Way) -> String {
    let ground = Ground::open(way, &[UNGUARDED]);
    expect_refused(&ground, "policy_not_found", 5);
    // And as the router itself comes to it.
    let unknown = json!({"request_id": "t", "task": {"type": "chat", "payload": {"text": "what to do"}}, "policy_id": "none"});
    let (code, message, body) = ground.peer().ask(&unknown).refusal();
    assert_eq!((&*code, &*message), ("policy_not_found", "Routing failed"));
    assert_eq!(body["error"]["details"]["policy_id"], "none");
    ground.close();
    how(way, "5 NOT_FOUND")
}

pub(crate) fn errors_3_a_500_is_the_clients(way: &'static Way) -> String {
    let ground = Ground::open(way, &[UNGUARDED]);
    expect_refused(&ground, "internal", 13);
    expect_refused(&ground, "decision_failed", 13);
    ground.close();
    how(way, "13 INTERNAL")
}

pub(crate) fn errors_4_a_503_is_the_clients(way: &'static Way) -> String {
    let mut ground = Ground::open(way, &[UNGUARDED]);
    expect_refused(&ground, "extension_unavailable", 14);
    expect_refused(&ground, "extension_timeout", 4);
    // A router that is not there at all.
    ground.stop_router();
    eventually("nobody answers", || {
        let mut peer = ground.peer();
        match peer.ask(&task("t")) {
            Answer::Failure(failure) => {
                assert_eq!((failure.kind, failure.outcome), (Kind::NoResponders, Outcome::NotSent));
                true
            }
            _ => false,
        }
    });
    ground.close();
    format!("{}; no router at all is `no_responders`, not sent", how(way, "14 UNAVAILABLE"))
}

pub(crate) fn errors_5_an_unknown_code_neither_crashes_nor_hides(way: &'static Way) -> String {
    const CODE: &str = "never_heard_of_it";
    let ground = Ground::open(way, &[UNGUARDED]);
    for _ in 0..5 {
        expect_refused(&ground, CODE, 2);
    }
    ground.peer().ask(&task("next")).decision();
    assert_eq!(ground.gateway.page("/health").0, 200);
    let told = ground.gateway.log().lines().filter(|line| line.contains(CODE)).count();
    assert_eq!(told, 1, "{}", ground.gateway.log());
    ground.close();
    format!("{}; one line of the log tells of it, and the next task is served", how(way, "2 UNKNOWN"))
}

pub(crate) fn errors_6_messages_survive(way: &'static Way) -> String {
    let message = format!("Größe \"zwei\" \\ 漢字 😀\n\tline 2: {}", "long ".repeat(100));
    let body = json!({
        "ok": false,
        "error": {"code": "extension_error", "message": message, "details": {"nested": [1, {"deep": null}]}},
        "context": {"request_id": "undefined"},
    });
    for setting in ["ipc.failed_as_error=false", "ipc.failed_as_error=true"] {
        let ground = Ground::without_router(way, &[UNGUARDED, setting]);
        let outside = Outside::of(&ground.server);
        let answer = Bytes::from(body.to_string());
        outside.respond(DECIDE, move |_| answer.clone());
        // The answer to this one says that the server knows of the responder.
        let mut peer = ground.peer();
        let (code, said, whole): (_, _, Value) = peer.ask(&task("t")).refusal();
        assert_eq!((&*code, &said), ("extension_error", &message));
        assert_eq!(whole, body, "nothing is added, and nothing is lost");
        drop(peer);
        ground.close();
    }
    "quotes, line breaks, umlauts, Chinese, an emoji and 500 characters; details as they were".to_owned()
}
