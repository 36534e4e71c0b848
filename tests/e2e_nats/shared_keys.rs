//! Idempotency keys that several gateways share by a bucket of a real nats-server: one execution, whoever is asked, and
//! what happens when one of them dies or the bucket is not there.

use contract::{Kind, Outcome};
use futures_util::future::join_all;
use ipc_gateway::client::Via;
use rustix::process::Signal;

use crate::gateway::{Gateway, Start};
use crate::idempotency::{Clients, answer_next, requests, with_keys};
use crate::nats_server::NatsServer;
use crate::outside::{Outside, until_connected};

const JETSTREAM: &str = "jetstream { store_dir: \"store\" }";

/// A gateway whose keys are in the bucket.
fn sharing(server: &NatsServer) -> Start {
    with_keys(server).set("idempotency.store=nats_kv").set("idempotency.store_timeout_ms=10000")
}

fn started(start: Start) -> (Gateway, Clients) {
    let gateway = start.gateway();
    until_connected(&gateway);
    let clients = Clients::of(&gateway);
    (gateway, clients)
}

#[test]
fn two_gateways_execute_once_and_a_third_knows_the_answer() {
    let server = NatsServer::start(JETSTREAM);
    let outside = Outside::of(&server);
    let mut service = outside.listen("work");
    let (one, of_one) = started(sharing(&server));
    let (two, of_two) = started(sharing(&server));
    let ask = |clients: &Clients| -> Vec<_> {
        (0..20).map(|_| clients.ask(Via::Unix, "k1", "work", "one")).collect()
    };
    let (asked_one, asked_two) = (ask(&of_one), ask(&of_two));
    let message = service.next();
    for gateway in [&one, &two] {
        gateway.until("ipc_gateway_idempotency_waiting", 19.0);
    }
    service.answer(&message, "done");
    for (clients, asked) in [(&of_one, asked_one), (&of_two, asked_two)] {
        for answer in clients.together(join_all(asked.into_iter().map(|asked| asked.0))) {
            assert_eq!(answer.unwrap().unwrap(), "done");
        }
    }
    // Who is started later knows it too, and nobody takes the key for another request.
    let (three, of_three) = started(sharing(&server));
    assert_eq!(of_three.answer(Via::Http, "k1", "work", "one").unwrap(), "done");
    let (four, of_four) = started(sharing(&server));
    assert_eq!(of_four.failure(Via::Grpc, "k1", "work", "two"), (Kind::Conflict, Outcome::NotSent));
    // The service has seen none of that.
    let other = of_four.ask(Via::Unix, "k2", "work", "other");
    answer_next(&mut service, "other", "done too");
    assert_eq!(of_four.wait(other).unwrap(), "done too");
    let total = |result: &str| -> f64 { [&one, &two].iter().map(|gateway| requests(gateway, result)).sum() };
    assert_eq!(["executed", "shared", "waited"].map(total), [1.0, 1.0, 38.0]);
    assert_eq!(requests(&three, "shared"), 1.0);
    for gateway in [one, two, three, four] {
        assert_eq!(gateway.metrics().of("ipc_gateway_idempotency_store_failures_total"), 0.0);
        gateway.stop();
    }
}

#[test]
fn when_the_one_that_executes_is_killed_another_does_after_a_while() {
    let server = NatsServer::start(JETSTREAM);
    let outside = Outside::of(&server);
    let mut service = outside.listen("work");
    let lease = |start: Start| start.set("idempotency.lease_ms=1000");
    let (mut one, of_one) = started(lease(sharing(&server)));
    let (two, of_two) = started(lease(sharing(&server)));
    let lost = of_one.ask(Via::Unix, "k1", "work", "one");
    assert_eq!(service.next().payload, "one");
    one.signal(Signal::KILL);
    one.wait();
    lost.abandon();
    let asked = of_two.ask(Via::Unix, "k1", "work", "one");
    answer_next(&mut service, "one", "done by the second");
    assert_eq!(of_two.wait(asked).unwrap(), "done by the second");
    two.stop();
}

#[test]
fn as_long_as_the_one_that_executes_lives_no_other_does() {
    let server = NatsServer::start(JETSTREAM);
    let outside = Outside::of(&server);
    let mut service = outside.listen("work");
    let lease = |start: Start| start.set("idempotency.lease_ms=500");
    let (one, of_one) = started(lease(sharing(&server)));
    // Its own patience ends after four leases.
    let (two, of_two) = started(lease(sharing(&server)).set("routes.local.timeout_ms=2000"));
    let slow = of_one.ask(Via::Unix, "k1", "work", "one");
    let message = service.next();
    assert_eq!(of_two.failure(Via::Unix, "k1", "work", "one"), (Kind::TimedOut, Outcome::Unknown));
    service.answer(&message, "done");
    assert_eq!(of_one.wait(slow).unwrap(), "done");
    assert_eq!(of_two.answer(Via::Unix, "k1", "work", "one").unwrap(), "done");
    let other = of_two.ask(Via::Unix, "k2", "work", "other");
    answer_next(&mut service, "other", "done too");
    assert_eq!(of_two.wait(other).unwrap(), "done too");
    one.stop();
    two.stop();
}

#[test]
fn what_was_not_sent_by_one_is_sent_by_another_at_once() {
    let server = NatsServer::start(JETSTREAM);
    let outside = Outside::of(&server);
    // Nobody would wait for the end of such a lease.
    let lease = |start: Start| start.set("idempotency.lease_ms=600000");
    let (one, of_one) = started(lease(sharing(&server)));
    let (two, of_two) = started(lease(sharing(&server)));
    assert_eq!(of_one.failure(Via::Unix, "k1", "work", "one"), (Kind::NoResponders, Outcome::NotSent));
    let mut service = outside.listen("work");
    let asked = of_two.ask(Via::Unix, "k1", "work", "one");
    answer_next(&mut service, "one", "done");
    assert_eq!(of_two.wait(asked).unwrap(), "done");
    assert_eq!(of_one.answer(Via::Unix, "k1", "work", "one").unwrap(), "done");
    one.stop();
    two.stop();
}

#[test]
fn an_answer_that_the_bucket_does_not_take_is_not_given_twice() {
    let server = NatsServer::start(&format!("{JETSTREAM}\nmax_payload: 8192"));
    let outside = Outside::of(&server);
    let mut service = outside.listen("work");
    let (one, of_one) = started(sharing(&server));
    let (two, of_two) = started(sharing(&server));
    let asked = of_one.ask(Via::Unix, "k1", "work", "one");
    let large = "x".repeat(8000);
    answer_next(&mut service, "one", &large);
    assert_eq!(of_one.wait(asked).unwrap(), large);
    // The one that executed has it in memory.
    assert_eq!(of_one.answer(Via::Unix, "k1", "work", "one").unwrap(), large);
    assert_eq!(of_two.failure(Via::Unix, "k1", "work", "one"), (Kind::Conflict, Outcome::Done));
    one.stop();
    two.stop();
}

#[test]
fn without_the_bucket_keys_are_refused_or_executed_as_configured() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut service = outside.listen("work");
    let (refuses, of_refuses) = started(sharing(&server));
    for _ in 0..2 {
        let failure = of_refuses.failure(Via::Unix, "k1", "work", "one");
        assert_eq!(failure, (Kind::Unavailable, Outcome::NotSent));
    }
    // Requests without a key go on, and the service has seen no other.
    let without = of_refuses.ask(Via::Unix, "", "work", "no key");
    answer_next(&mut service, "no key", "done");
    assert_eq!(of_refuses.wait(without).unwrap(), "done");
    assert_eq!(refuses.metrics().of("ipc_gateway_idempotency_store_failures_total"), 2.0);
    let told = refuses.log().matches("are not shared").count();
    assert_eq!(told, 1, "{}", refuses.log());
    refuses.stop();
    let (executes, of_executes) = started(sharing(&server).set("idempotency.when_unavailable=execute"));
    let asked = of_executes.ask(Via::Unix, "k1", "work", "one");
    answer_next(&mut service, "one", "done");
    assert_eq!(of_executes.wait(asked).unwrap(), "done");
    // It knows its own.
    assert_eq!(of_executes.answer(Via::Unix, "k1", "work", "one").unwrap(), "done");
    assert_eq!(requests(&executes, "executed"), 1.0);
    executes.stop();
}

#[test]
fn the_permissions_that_the_documentation_lists_are_enough() {
    let page = include_str!("../../docs/idempotency.md");
    let listed = page.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let subjects: Vec<_> =
        listed.lines().chain(["work", "_INBOX.>"]).map(|line| format!("{line:?}")).collect();
    let config = format!(
        "{JETSTREAM}\nno_auth_user: anybody\nauthorization {{ users: [\n\
         {{ user: anybody, password: p }}\n\
         {{ user: gateway, password: p, permissions: {{ publish: [{}], subscribe: [\"_INBOX.>\"] }} }}\n] }}",
        subjects.join(", ")
    );
    let server = NatsServer::start(&config);
    let outside = Outside::of(&server);
    let mut service = outside.listen("work");
    let known = |start: Start| start.set("nats.user=gateway").environment("IPC_GATEWAY__NATS__PASSWORD", "p");
    let (one, of_one) = started(known(sharing(&server)));
    let (two, of_two) = started(known(sharing(&server)));
    let asked = of_one.ask(Via::Unix, "k1", "work", "one");
    answer_next(&mut service, "one", "done");
    assert_eq!(of_one.wait(asked).unwrap(), "done");
    assert_eq!(of_two.answer(Via::Unix, "k1", "work", "one").unwrap(), "done");
    for gateway in [one, two] {
        assert_eq!(gateway.metrics().of("ipc_gateway_nats_violations_total"), 0.0);
        gateway.stop();
    }
}
