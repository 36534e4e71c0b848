//! Requests with idempotency keys by every door: executed once, and what is told to whoever sends them again.

use bytes::Bytes;
use contract::{Headers, Kind, Outcome};
use futures_util::future::join_all;
use ipc_gateway::client::{Call, Failure, Reach, Say, Via, What};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::kind;
use crate::gateway::{Gateway, PATIENCE, Start};
use crate::nats_server::NatsServer;
use crate::outside::{DECIDE, Listening, Outside, in_front_of, in_front_of_a_router, until_connected};

/// Every way in that has headers, by all four doors.
const VIAS: [Via; 6] = [Via::Unix, Via::Json, Via::Ws, Via::WsBinary, Via::Http, Via::Grpc];

/// A gateway whose every route looks at keys.
pub(crate) fn with_keys(server: &NatsServer) -> Start {
    in_front_of(server).set("routes.local.idempotency=true").set("breaker.enabled=false")
}

/// Clients of a gateway.
pub(crate) struct Clients {
    runtime: Runtime,
    reach: Reach,
}

impl Clients {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (http, grpc) = (gateway.http().to_string(), gateway.grpc());
        Self { runtime, reach: Reach { socket: gateway.socket(), http, grpc } }
    }

    /// A client of its own for one request.
    pub(crate) fn ask(&self, via: Via, key: &str, subject: &str, payload: &str) -> Asked {
        let (reach, say) = (self.reach.clone(), say(key, subject, payload));
        Asked(self.runtime.spawn(async move {
            let mut line = via.open(&reach).await.unwrap();
            line.say(1, &say).unwrap();
            match timeout(PATIENCE, line.heard()).await.unwrap().unwrap().what {
                What::Reply { payload, .. } => Ok(payload),
                What::Failed(failure) => Err(failure),
                other => panic!("{other:?}"),
            }
        }))
    }

    /// Asks and waits for the answer.
    pub(crate) fn answer(&self, via: Via, key: &str, subject: &str, payload: &str) -> Result<Bytes, Failure> {
        self.wait(self.ask(via, key, subject, payload))
    }

    pub(crate) fn wait(&self, asked: Asked) -> Result<Bytes, Failure> {
        self.runtime.block_on(asked.0).unwrap()
    }

    /// Waits for several.
    pub(crate) fn together<T>(&self, several: impl Future<Output = T>) -> T {
        self.runtime.block_on(several)
    }

    /// Kind and outcome of the failure that a request ends with.
    pub(crate) fn failure(&self, via: Via, key: &str, subject: &str, payload: &str) -> (Kind, Outcome) {
        let failure = self.answer(via, key, subject, payload).unwrap_err();
        (failure.kind, failure.outcome)
    }
}

/// A question whose answer did not come yet.
pub(crate) struct Asked(pub(crate) JoinHandle<Result<Bytes, Failure>>);

impl Asked {
    /// Closes the connection.
    pub(crate) fn abandon(self) {
        self.0.abort();
    }
}

fn say(key: &str, subject: &str, payload: &str) -> Say {
    let mut headers = Headers::new();
    if !key.is_empty() {
        headers.append("Idempotency-Key", key).unwrap();
    }
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Say::Request(Call { subject: subject.to_owned(), payload, headers, ..Call::default() })
}

pub(crate) fn requests(gateway: &Gateway, result: &str) -> f64 {
    gateway.metrics().of(&format!("ipc_gateway_idempotency_requests_total{{result=\"{result}\"}}"))
}

/// Answers the next request, which has this payload: nothing else came before it.
pub(crate) fn answer_next(service: &mut Listening<'_>, payload: &str, answer: &str) {
    let message = service.next();
    assert_eq!(message.payload, payload);
    service.answer(&message, answer.to_owned());
}

#[test]
fn a_hundred_twins_by_four_doors_are_one_request_of_the_responder() {
    const TWINS: usize = 100;
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut service = outside.listen("work");
    let gateway = with_keys(&server).gateway();
    until_connected(&gateway);
    let before = gateway.metrics().held();
    let clients = Clients::of(&gateway);
    let asked: Vec<_> =
        (0..TWINS).map(|twin| clients.ask(VIAS[twin % VIAS.len()], "k1", "work", "one")).collect();
    let message = service.next();
    // All of them, before there is an answer.
    gateway.until("ipc_gateway_idempotency_waiting", 99.0);
    service.answer(&message, "done");
    for answer in clients.together(join_all(asked.into_iter().map(|asked| asked.0))) {
        assert_eq!(answer.unwrap().unwrap(), "done");
    }
    for via in VIAS {
        assert_eq!(clients.answer(via, "\"k1\"", "work", "one").unwrap(), "done", "{via:?}");
        assert_eq!(clients.failure(via, "k1", "work", "two"), (Kind::Conflict, Outcome::NotSent), "{via:?}");
    }
    // The responder has seen none of that: the next that it sees is this.
    let other = clients.ask(Via::Unix, "k2", "work", "other");
    answer_next(&mut service, "other", "done too");
    assert_eq!(clients.wait(other).unwrap(), "done too");
    let results = ["executed", "waited", "replayed", "conflict"].map(|result| requests(&gateway, result));
    assert_eq!(results, [2.0, 99.0, 6.0, 6.0]);
    assert_eq!(gateway.metrics().of("ipc_gateway_idempotency_entries"), 2.0);
    drop(clients);
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn what_was_not_sent_is_sent_again_and_what_may_have_happened_is_not() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let start = with_keys(&server).set("routes.slow.patterns=slow").set("routes.slow.timeout_ms=200");
    let gateway = start.set("routes.slow.allow=local").set("routes.slow.idempotency=true").gateway();
    until_connected(&gateway);
    let clients = Clients::of(&gateway);
    // Nobody listens: it has not happened, and happens when somebody does.
    let no_responders = (Kind::NoResponders, Outcome::NotSent);
    assert_eq!(clients.failure(Via::Unix, "k1", "work", "one"), no_responders);
    let mut service = outside.listen("work");
    let asked = clients.ask(Via::Unix, "k1", "work", "one");
    answer_next(&mut service, "one", "done");
    assert_eq!(clients.wait(asked).unwrap(), "done");
    // Silence: nobody knows, so it is not done again, and each is told the same.
    let mut silent = outside.listen("slow");
    for _ in 0..2 {
        assert_eq!(clients.failure(Via::Unix, "k2", "slow", "one"), (Kind::TimedOut, Outcome::Unknown));
    }
    assert_eq!(silent.next().payload, "one");
    let another = clients.ask(Via::Unix, "k3", "slow", "another");
    answer_next(&mut silent, "another", "done");
    assert_eq!(clients.wait(another).unwrap(), "done");
    gateway.stop();
}

#[test]
fn a_client_that_lost_its_connection_gets_the_answer_under_its_key() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut service = outside.listen("work");
    let gateway = with_keys(&server).gateway();
    until_connected(&gateway);
    let question = json!({"op": "request", "id": 1, "subject": "work", "payload": "one",
                          "headers": {"Idempotency-Key": "k1"}})
    .to_string();
    let mut first = gateway.json();
    first.write(&question);
    let message = service.next();
    drop(first);
    gateway.until("ipc_gateway_door_connections{door=\"unix\"}", 0.0);
    service.answer(&message, "\"done\"");
    let again: Value = serde_json::from_str(&gateway.json().ask(&question)).unwrap();
    assert_eq!(again["payload"], "done", "{again}");
    assert_eq!(requests(&gateway, "executed"), 1.0);
    gateway.stop();
}

#[test]
fn the_key_of_a_decide_body_is_the_gateways_to_keep() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut router = outside.listen(DECIDE);
    let gateway = in_front_of_a_router(&server).gateway();
    until_connected(&gateway);
    let mut client = gateway.client();
    let task =
        |text: &str| json!({"task": {"type": "t", "payload": {"text": text}}, "idempotency_key": "k1"});
    client.send(kind::TASK_SUBMIT, task("the only one").to_string());
    let message = router.next();
    let body: Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(body["task"]["payload"]["text"], "the only one");
    assert_eq!(body.get("idempotency_key"), None, "{body}");
    router.answer(&message, r#"{"ok":true,"decision":1}"#);
    let first = client.receive();
    assert_eq!(first.json()["decision"], 1);
    // By version 1, by raw JSON and over HTTP.
    assert_eq!(client.ask(kind::TASK_SUBMIT, task("the only one").to_string()), first);
    assert_eq!(gateway.json().ask(task("the only one").to_string()).as_bytes(), first.payload);
    let clients = Clients::of(&gateway);
    let body = task("the only one").to_string();
    assert_eq!(clients.answer(Via::Http, "", DECIDE, &body).unwrap(), first.payload);
    let conflict = client.ask(kind::TASK_SUBMIT, task("another one").to_string()).error();
    assert_eq!(conflict.2, "conflict");
    gateway.stop();
}
