//! What a responder is told when nobody waits for its answer any more.

use async_nats::Message;
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::nats_server::NatsServer;
use crate::outside::{Outside, in_front_of, until_connected};

const WORK: &str = "work.long";
const CANCEL: &str = "work.cancel";

fn gateway(server: &NatsServer) -> Gateway {
    let gateway = in_front_of(server)
        .set("routes.work.patterns=work.long")
        .set("routes.work.cancel_subject=work.cancel")
        .gateway();
    until_connected(&gateway);
    gateway
}

fn header(message: &Message, name: &str) -> String {
    message.headers.as_ref().unwrap().get(name).unwrap().to_string()
}

/// That `cancel` is about `request`, and gives this reason.
fn assert_cancels(cancel: &Message, request: &Message, reason: &str) {
    for name in ["Ipc-Gateway-Request-Id", "traceparent"] {
        assert_eq!(header(cancel, name), header(request, name), "{name}");
    }
    assert_eq!(header(cancel, "Ipc-Gateway-Cancel"), reason);
    assert!(cancel.payload.is_empty() && cancel.reply.is_none());
}

#[test]
fn a_request_whose_time_is_over_or_whose_peer_went_is_cancelled_and_an_answered_one_is_not() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let (mut requests, mut cancels) = (outside.listen(WORK), outside.listen(CANCEL));
    let gateway = gateway(&server);
    let before = gateway.metrics().held();
    let request = |id: &str, timeout: u32| {
        json!({"op": "request", "id": id, "subject": WORK, "payload": 1, "timeout_ms": timeout}).to_string()
            + "\n"
    };

    // Answered: were it cancelled, its message would come before the next one.
    let mut line = gateway.json();
    line.write(request("answered", 20_000));
    let answered = requests.next();
    requests.answer(&answered, "1");
    let reply: Value = serde_json::from_str(&line.line()).unwrap();
    assert_eq!(reply["op"], "reply", "{reply}");

    line.write(request("late", 100));
    let late = requests.next();
    assert_cancels(&cancels.next(), &late, "timed_out");
    let error: Value = serde_json::from_str(&line.line()).unwrap();
    assert_eq!(error["error"]["outcome"], "unknown", "{error}");

    line.write(request("left", 20_000));
    let left = requests.next();
    drop(line);
    assert_cancels(&cancels.next(), &left, "cancelled");

    gateway.until("ipc_gateway_nats_cancels_total", 2.0);
    gateway.until_held(&before);
    gateway.stop();
}
