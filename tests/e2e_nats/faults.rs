//! Everything behind the gateway fails in turn, under load: each request gets exactly one answer, and the answer is
//! true. What the responder saw is the witness.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::gateway::{Gateway, eventually};
use crate::nats_server::NatsServer;
use crate::outside::{Outside, in_front_of, until_connected};

/// Clients that ask without a pause, one thing at a time.
const CLIENTS: u64 = 12;
/// A subject of a route with a circuit of its own.
const WORK: &str = "work.measure";
/// Answers between two faults.
const BETWEEN: u64 = 300;

/// What was answered to one request.
#[derive(Clone, Debug)]
struct Answered {
    idempotent: bool,
    /// `None` is a reply, and else what became of the request.
    outcome: Option<String>,
}

/// What both sides saw.
#[derive(Default)]
struct Witness {
    seen: Mutex<HashMap<u64, u32>>,
    answered: Mutex<HashMap<u64, Answered>>,
    replies: AtomicU64,
    errors: AtomicU64,
    done: AtomicBool,
    paused: AtomicBool,
}

impl Witness {
    /// A responder that notes what it sees before it answers; dropping it ends its connection as a crash does.
    fn responder(self: &Arc<Self>, server: &NatsServer) -> Outside {
        let outside = Outside::of(server);
        let witness = Arc::clone(self);
        outside.respond(WORK, move |payload: Bytes| {
            let request: Value = serde_json::from_slice(&payload).unwrap();
            *witness.seen.lock().unwrap().entry(request["n"].as_u64().unwrap()).or_default() += 1;
            while witness.paused.load(Ordering::Relaxed) {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            payload
        });
        outside
    }

    /// Waits for so many more replies.
    fn until_replies(&self, more: u64) {
        let before = self.replies.load(Ordering::Relaxed);
        eventually("requests are answered", || self.replies.load(Ordering::Relaxed) >= before + more);
    }

    /// Waits for so many more errors.
    fn until_errors(&self, more: u64) {
        let before = self.errors.load(Ordering::Relaxed);
        eventually("requests fail", || self.errors.load(Ordering::Relaxed) >= before + more);
    }
}

/// Asks until it is over. Every answer must be to what was asked last, so none is missing and none is second.
fn client(gateway: &Gateway, witness: &Witness, number: u64) {
    let mut line = gateway.json();
    for round in 0.. {
        if witness.done.load(Ordering::Relaxed) {
            return;
        }
        let n = round * CLIENTS + number;
        let idempotent = round % 2 == 0;
        let question = json!({"op": "request", "id": n, "subject": WORK, "payload": {"n": n},
                              "idempotent": idempotent, "timeout_ms": 300});
        let answer: Value = serde_json::from_str(&line.ask(question.to_string())).unwrap();
        assert_eq!(answer["id"], n, "{answer}");
        let outcome = match answer["op"].as_str() {
            Some("reply") => {
                assert_eq!(answer["payload"]["n"], n, "the reply of another request");
                witness.replies.fetch_add(1, Ordering::Relaxed);
                None
            }
            Some("error") => {
                witness.errors.fetch_add(1, Ordering::Relaxed);
                // So that a circuit that is open is not asked a million times.
                std::thread::sleep(std::time::Duration::from_millis(2));
                Some(answer["error"]["outcome"].as_str().unwrap().to_owned())
            }
            _ => panic!("{answer}"),
        };
        let before = witness.answered.lock().unwrap().insert(n, Answered { idempotent, outcome });
        assert!(before.is_none(), "{n} was asked twice");
    }
}

#[test]
fn each_request_gets_one_true_answer_whatever_fails_behind_the_gateway() {
    let mut server = NatsServer::start("");
    let witness = Arc::new(Witness::default());
    let first = witness.responder(&server);
    let gateway = in_front_of(&server)
        .set("routes.work.patterns=work.>")
        .set("routes.work.timeout_ms=300")
        .set("breaker.open_ms=100")
        .gateway();
    until_connected(&gateway);
    let before = gateway.metrics().held();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (gateway, witness) = (&gateway, &witness);
                scope.spawn(move || client(gateway, witness, number))
            })
            .collect();
        witness.until_replies(BETWEEN);

        // The server stands still, and goes on.
        server.halt();
        witness.until_errors(CLIENTS);
        server.go_on();
        witness.until_replies(BETWEEN);

        // The server dies, and is there again.
        server.kill();
        witness.until_errors(CLIENTS);
        server.restart();
        witness.until_replies(BETWEEN);

        // The responder hangs, and goes on.
        witness.paused.store(true, Ordering::Relaxed);
        witness.until_errors(CLIENTS);
        witness.paused.store(false, Ordering::Relaxed);
        witness.until_replies(BETWEEN);

        // The responder dies, and another takes its place.
        drop(first);
        witness.until_errors(CLIENTS);
        let second = witness.responder(&server);
        witness.until_replies(BETWEEN);

        witness.done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
        drop(second);
    });

    let (seen, answered) = (witness.seen.lock().unwrap(), witness.answered.lock().unwrap());
    let times = |n: &u64| seen.get(n).copied().unwrap_or_default();
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for (n, Answered { idempotent, outcome }) in answered.iter() {
        *counts.entry(outcome.as_deref().unwrap_or("reply")).or_default() += 1;
        let times = times(n);
        let most = if *idempotent { u32::MAX } else { 1 };
        let is_true = match outcome.as_deref() {
            None => (1..=most).contains(&times),
            Some("not_sent") => times == 0,
            Some("unknown") => times <= most,
            _ => false,
        };
        assert!(is_true, "{n} (idempotent: {idempotent}) was told {outcome:?} and seen {times} times");
    }
    assert!(
        ["reply", "not_sent", "unknown"].iter().all(|outcome| counts.contains_key(outcome)),
        "{counts:?}"
    );
    gateway.until_held(&before);
    gateway.stop();
}
