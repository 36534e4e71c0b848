//! The embedded broker against a model that is too simple to be wrong: a list of who listens, and the
//! contract's own matching.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use contract::{
    DeliveryStream, Event, Headers, Identity, Kind, Method, Origin, Pattern, PeerAddress, Reply, Request,
    Subject, Target, TraceContext,
};
use futures_util::{FutureExt, StreamExt};
use ipc_gateway::backend::Backend;
use ipc_gateway::backend::embedded::{Embedded, Settings, Subscription};
use proptest::prelude::*;
use tokio::time::Instant;

/// What happens, in random order.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody listens inside the process, maybe in a queue group.
    Listen(Pattern, Option<&'static str>),
    /// A peer subscribes.
    Subscribe(Pattern),
    /// The listener of this place, counted around, leaves.
    Leave(usize),
    /// A message from inside.
    Publish(Subject),
    /// A peer's request, which nobody answers.
    Ask(Subject),
}

fn step() -> impl Strategy<Value = Step> {
    // Few tokens, so that patterns meet subjects; `_r` makes a subject reserved.
    let pattern = "([ab*]|_r)(\\.[ab*]){0,2}(\\.>)?|>".prop_map(|text| Pattern::parse(text).unwrap());
    let peers = "[ab*](\\.[ab*]){0,2}(\\.>)?|>".prop_map(|text| Pattern::parse(text).unwrap());
    let subject = || "([ab]|_r)(\\.[ab]){0,3}".prop_map(|text| Subject::parse(text).unwrap());
    let queue = prop_oneof![Just(None), Just(Some("one")), Just(Some("two"))];
    prop_oneof![
        3 => (pattern, queue).prop_map(|(pattern, queue)| Step::Listen(pattern, queue)),
        1 => peers.prop_map(Step::Subscribe),
        2 => any::<usize>().prop_map(Step::Leave),
        4 => subject().prop_map(Step::Publish),
        2 => subject().prop_map(Step::Ask),
    ]
}

/// One who listens, as the model knows it.
struct Known {
    pattern: Pattern,
    queue: Option<&'static str>,
    end: End,
}

enum End {
    Inside(Subscription),
    Peer(DeliveryStream),
}

impl Known {
    fn should_hear(&self, subject: &Subject) -> bool {
        let may = matches!(self.end, End::Inside(_)) || !subject.is_reserved();
        may && self.pattern.matches(subject)
    }

    /// Everything that is there to be read, with its subject.
    fn hear(&mut self) -> Vec<(Subject, Bytes)> {
        let mut heard = Vec::new();
        match &mut self.end {
            End::Inside(subscription) => {
                while let Some(Some(incoming)) = subscription.next().now_or_never() {
                    heard.push((incoming.subject().clone(), incoming.payload().clone()));
                }
            }
            End::Peer(stream) => {
                while let Some(Some(event)) = stream.next().now_or_never() {
                    let Ok(Event::Delivery(delivery)) = event else { panic!("nothing is lost here") };
                    heard.push((delivery.subject.clone(), delivery.payload.clone()));
                }
            }
        }
        heard
    }
}

fn request(target: Target, payload: Bytes) -> Request {
    let received = Instant::now();
    let identity = Identity::new("uid:1", Method::Local);
    Request {
        target,
        headers: Headers::new(),
        payload,
        received,
        deadline: received + Duration::from_secs(5),
        idempotent: false,
        ordered: false,
        parts: false,
        queue: None,
        trace: TraceContext::start(),
        origin: Origin { door: "test", identity, address: PeerAddress::Unix, connection: 1 }.into(),
    }
}

fn check(steps: Vec<Step>) {
    let backend = Embedded::open(Settings { demo: false, ..Settings::default() });
    let mut known: Vec<Known> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        let payload = Bytes::from(number.to_string());
        match step {
            Step::Listen(pattern, queue) => {
                let end = End::Inside(backend.listen(pattern.clone(), queue));
                known.push(Known { pattern, queue, end });
            }
            Step::Subscribe(pattern) => {
                let call = backend.call(request(Target::Subscribe(pattern.clone()), Bytes::new()));
                let Some(Ok(Reply::Stream(stream))) = call.now_or_never() else { panic!("a stream") };
                known.push(Known { pattern, queue: None, end: End::Peer(stream) });
            }
            Step::Leave(place) if !known.is_empty() => drop(known.remove(place % known.len())),
            Step::Leave(_) => {}
            Step::Publish(subject) => {
                backend.publish(&subject, &Headers::new(), &payload).unwrap();
                check_heard(&mut known, &subject, &payload);
            }
            Step::Ask(subject) => {
                let call = backend.call(request(Target::Request(subject.clone()), payload.clone()));
                let interested = known.iter().any(|one| one.should_hear(&subject));
                match call.now_or_never() {
                    None => assert!(interested, "{subject}"),
                    Some(answer) => {
                        assert_eq!(answer.unwrap_err().kind(), Kind::NoResponders);
                        assert!(!interested, "{subject}");
                    }
                }
                check_heard(&mut known, &subject, &payload);
            }
        }
    }
    drop(known);
    let left: HashMap<_, _> =
        backend.readings().into_iter().map(|reading| (reading.name, reading.value)).collect();
    for gauge in ["ipc_gateway_embedded_subscriptions", "ipc_gateway_embedded_requests_waiting"] {
        assert!(left[gauge].abs() < 0.5, "{gauge} is {}", left[gauge]);
    }
}

/// Each plain listener that should have the message has it once, of each group exactly one member has it,
/// and nobody has anything else.
fn check_heard(known: &mut [Known], subject: &Subject, payload: &Bytes) {
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for one in known {
        let should = one.should_hear(subject);
        let heard = one.hear();
        let count = heard.len();
        assert!(heard.iter().all(|message| *message == (subject.clone(), payload.clone())), "{heard:?}");
        match one.queue {
            None => assert_eq!(count, usize::from(should), "{} hears {subject}", one.pattern),
            Some(_) if !should => assert_eq!(count, 0, "{} hears {subject}", one.pattern),
            Some(queue) => *groups.entry(queue).or_default() += count,
        }
    }
    assert!(groups.values().all(|count| *count == 1), "{subject}: {groups:?}");
}

proptest! {
    #[test]
    fn the_broker_does_what_the_model_says(steps in prop::collection::vec(step(), 1..60)) {
        check(steps);
    }
}
