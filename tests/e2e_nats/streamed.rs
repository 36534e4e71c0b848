//! Answers of many messages, by each door that can tell one, from a responder on a real server.

use async_nats::Message;
use ipc_gateway::client::{Call, Failure, Heard, Line, Reach, Say, Via, What};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::gateway::{Gateway, PATIENCE, Start};
use crate::nats_server::NatsServer;
use crate::outside::{GLANCE, Listening, Outside, in_front_of, until_connected};

/// The ways in that can tell an answer of many messages.
const STREAMING: [Via; 6] = [Via::Unix, Via::Json, Via::Ws, Via::WsBinary, Via::Http, Via::Grpc];

const REPORT: &str = "work.report";
const CANCEL: &str = "work.cancel";

/// A gateway with a route that answers in parts, bounded as `settings` say.
fn start(server: &NatsServer, settings: &[&str]) -> Start {
    let start = in_front_of(server)
        .set("routes.work.patterns=work.report")
        .set("routes.work.allow=any")
        .set("routes.work.cancel_subject=work.cancel")
        .set("routes.work.replies_max=2000")
        .set("routes.work.reply_gap_timeout_ms=30000");
    settings.iter().fold(start, |start, setting| start.set(setting))
}

fn gateway(server: &NatsServer, settings: &[&str]) -> Gateway {
    let gateway = start(server, settings).gateway();
    until_connected(&gateway);
    gateway
}

/// A client of one door, in the hands of a test that does not wait for anything else meanwhile.
struct Asker {
    runtime: Runtime,
    line: Box<dyn Line>,
}

impl Asker {
    fn by(via: Via, gateway: &Gateway) -> Self {
        let reach =
            Reach { socket: gateway.socket(), http: gateway.http().to_string(), grpc: gateway.grpc() };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let line = runtime.block_on(via.open(&reach)).unwrap();
        Self { runtime, line }
    }

    fn say(&mut self, id: u64) {
        let call = Call { subject: REPORT.to_owned(), payload: "1".into(), ..Call::default() };
        self.line.say(id, &Say::Request(call)).unwrap();
    }

    /// Asks for a report, and sees that the question has left.
    fn ask(&mut self, requests: &mut Listening<'_>) -> Message {
        self.ask_as(7, requests)
    }

    fn ask_as(&mut self, id: u64, requests: &mut Listening<'_>) -> Message {
        self.say(id);
        let Self { runtime, line } = self;
        loop {
            // Polling is what sends; the answer is not there yet.
            let heard = runtime.block_on(async { timeout(GLANCE, line.heard()).await });
            assert!(heard.is_err(), "nobody has answered: {heard:?}");
            if let Some(asked) = requests.glance() {
                return asked;
            }
        }
    }

    /// Waits until the gateway says that it stops, which each door but HTTP has a word for.
    fn until_goodbye(&mut self) {
        let Self { runtime, line } = self;
        let heard = runtime.block_on(async { timeout(PATIENCE, line.heard()).await }).expect("it is told");
        assert!(matches!(heard, Ok(Heard { what: What::GoAway, .. })), "{heard:?}");
    }

    fn heard(&mut self) -> (Option<u64>, What) {
        let Self { runtime, line } = self;
        let heard = runtime.block_on(async { timeout(PATIENCE, line.heard()).await }).expect("it is told");
        let Heard { id, what } = heard.unwrap();
        (id, what)
    }

    fn next(&mut self) -> What {
        let (id, what) = self.heard();
        assert_eq!(id, Some(7), "{what:?}");
        what
    }

    /// The parts that come, and the failure that ends them, if one does.
    fn read(&mut self) -> (Vec<String>, Option<Failure>) {
        let mut parts = Vec::new();
        loop {
            match self.next() {
                What::Reply { payload, more: true, headers } => {
                    assert!(headers.get("Ipc-Gateway-More").is_none());
                    parts.push(String::from_utf8(payload.to_vec()).unwrap());
                }
                What::End => return (parts, None),
                What::Failed(failure) => return (parts, Some(failure)),
                other => panic!("a part or an end was expected, and came {other:?}"),
            }
        }
    }
}

fn told(cancels: &mut Listening<'_>, request: &Message) -> String {
    let cancel = cancels.next();
    let of = |message: &Message, name: &str| message.headers.as_ref().unwrap().get(name).unwrap().to_string();
    assert_eq!(of(&cancel, "Ipc-Gateway-Request-Id"), of(request, "Ipc-Gateway-Request-Id"));
    of(&cancel, "Ipc-Gateway-Cancel")
}

fn ended(end: &str) -> String {
    format!("ipc_gateway_streamed_replies_ended_total{{end=\"{end}\"}}")
}

/// Sees that no stream is open, and no slot taken.
fn nothing_is_left(gateway: &Gateway) {
    for gauge in ["ipc_gateway_streamed_replies", "ipc_gateway_nats_inbox_slots", "ipc_gateway_calls"] {
        gateway.until(gauge, 0.0);
    }
}

#[test]
fn a_thousand_messages_arrive_whole_and_in_order_by_every_door() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut requests = outside.listen(REPORT);
    let gateway = gateway(&server, &[]);
    for (index, via) in STREAMING.into_iter().enumerate() {
        let mut asker = Asker::by(via, &gateway);
        let request = asker.ask(&mut requests);
        for number in 0..1000 {
            requests.part(&request, number.to_string(), number < 999);
        }
        let (parts, failure) = asker.read();
        assert!(failure.is_none(), "{via:?}: {failure:?}");
        assert!(parts.iter().enumerate().all(|(at, part)| *part == at.to_string()), "{via:?}: {parts:?}");
        assert_eq!(parts.len(), 1000, "{via:?}");
        gateway.until(&ended("complete"), (index + 1).to_string().parse().unwrap());
        // Past the end.
        requests.part(&request, "late", false);
    }
    gateway.until("ipc_gateway_nats_late_replies_total", 6.0);
    nothing_is_left(&gateway);
    assert_eq!(gateway.metrics().of("ipc_gateway_nats_cancels_total"), 0.0);
    gateway.stop();
}

#[test]
fn each_bound_ends_the_answer_in_its_place_and_the_responder_is_told() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let (mut requests, mut cancels) = (outside.listen(REPORT), outside.listen(CANCEL));
    let cases = [
        ("routes.work.replies_max=3", "too_large", "over_limit", "messages_max"),
        // Three parts of 500 bytes fit.
        ("routes.work.replies_bytes_max=1600", "too_large", "over_limit", "bytes_max"),
    ];
    for (setting, kind, reason, end) in cases {
        let gateway = gateway(&server, &[setting]);
        for via in STREAMING {
            let mut asker = Asker::by(via, &gateway);
            let request = asker.ask(&mut requests);
            for _ in 0..4 {
                requests.part(&request, "x".repeat(500), true);
            }
            assert_eq!(told(&mut cancels, &request), reason, "{via:?}");
            let (parts, failure) = asker.read();
            let failure = failure.unwrap();
            assert_eq!((parts.len(), failure.kind.code()), (3, kind), "{via:?}");
            assert_eq!(failure.outcome.code(), "unknown", "{via:?}");
        }
        gateway.until(&ended(end), 6.0);
        nothing_is_left(&gateway);
        gateway.stop();
    }
}

#[test]
fn a_responder_that_dies_or_never_finishes_ends_the_answer_in_time() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let (mut requests, mut cancels) = (outside.listen(REPORT), outside.listen(CANCEL));
    let cases: [(&[&str], &str); 2] = [
        (&["routes.work.reply_gap_timeout_ms=300"], "gap_timeout"),
        (&["routes.work.reply_gap_timeout_ms=1500", "routes.work.replies_timeout_ms=1500"], "timeout"),
    ];
    for (settings, end) in cases {
        let gateway = gateway(&server, settings);
        for via in [Via::Unix, Via::Http] {
            let mut asker = Asker::by(via, &gateway);
            let request = asker.ask(&mut requests);
            requests.part(&request, "1", true);
            let (parts, failure) = asker.read();
            let failure = failure.unwrap();
            assert_eq!((parts, failure.kind.code()), (vec!["1".to_owned()], "timed_out"), "{via:?} {end}");
            assert_eq!(failure.outcome.code(), "unknown");
            assert_eq!(told(&mut cancels, &request), "timed_out");
        }
        gateway.until(&ended(end), 2.0);
        nothing_is_left(&gateway);
        gateway.stop();
    }
}

#[test]
fn a_server_that_is_killed_ends_the_answer_with_its_fate_unknown() {
    let mut server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut requests = outside.listen(REPORT);
    let gateway = gateway(&server, &[]);
    let mut askers: Vec<_> = STREAMING.iter().map(|via| Asker::by(*via, &gateway)).collect();
    for asker in &mut askers {
        let request = asker.ask(&mut requests);
        requests.part(&request, "1", true);
        let first = asker.next();
        assert!(matches!(first, What::Reply { more: true, .. }), "{first:?}");
    }
    server.kill();
    for asker in &mut askers {
        let (parts, failure) = asker.read();
        let failure = failure.unwrap();
        assert_eq!((parts.len(), failure.kind.code()), (0, "unavailable"));
        assert_eq!(failure.outcome.code(), "unknown");
    }
    gateway.until(&ended("lost"), 6.0);
    nothing_is_left(&gateway);
    gateway.stop();
}

#[test]
fn a_client_that_goes_in_the_middle_frees_everything_and_the_responder_is_told() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let (mut requests, mut cancels) = (outside.listen(REPORT), outside.listen(CANCEL));
    let gateway = gateway(&server, &[]);
    let before = gateway.metrics().held();
    for via in STREAMING {
        let mut asker = Asker::by(via, &gateway);
        let request = asker.ask(&mut requests);
        requests.part(&request, "1", true);
        assert!(matches!(asker.next(), What::Reply { more: true, .. }));
        assert!(gateway.metrics().of("ipc_gateway_calls") > 0.0, "the permit is the stream's");
        drop(asker);
        assert_eq!(told(&mut cancels, &request), "cancelled", "{via:?}");
        requests.part(&request, "2", false);
    }
    gateway.until(&ended("cancelled"), 6.0);
    gateway.until("ipc_gateway_nats_late_replies_total", 6.0);
    nothing_is_left(&gateway);
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn a_client_that_does_not_read_loses_the_answer_and_no_part_of_its_middle() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let (mut requests, mut cancels) = (outside.listen(REPORT), outside.listen(CANCEL));
    let gateway = gateway(&server, &["routes.work.queue_messages_max=50"]);
    // More than the sockets and the doors between hold: 64 KiB each.
    let body = |number: usize| format!("{number:05}{}", "x".repeat(64 * 1024));
    for via in STREAMING {
        let mut asker = Asker::by(via, &gateway);
        let request = asker.ask(&mut requests);
        for number in 0..1500 {
            requests.part(&request, body(number), true);
        }
        assert_eq!(told(&mut cancels, &request), "slow_consumer", "{via:?}");
        let (parts, failure) = asker.read();
        assert_eq!(failure.unwrap().kind.code(), "slow_consumer", "{via:?}");
        assert!((50..1500).contains(&parts.len()), "{via:?}: {}", parts.len());
        let in_order = parts.iter().enumerate().all(|(at, part)| part[..5].parse() == Ok(at));
        assert!(in_order, "{via:?}");
    }
    gateway.until(&ended("slow_consumer"), 6.0);
    nothing_is_left(&gateway);
    gateway.stop();
}

#[test]
fn a_part_that_fits_no_message_of_the_door_ends_the_answer() {
    let server = NatsServer::start("max_payload: 8388608");
    let outside = Outside::of(&server);
    let (mut requests, mut cancels) = (outside.listen(REPORT), outside.listen(CANCEL));
    let gateway = gateway(&server, &["grpc.message_bytes_max=4194304"]);
    // An event stream has no messages, and takes it.
    let bounded = STREAMING.into_iter().filter(|via| *via != Via::Http);
    for via in bounded {
        let mut asker = Asker::by(via, &gateway);
        let request = asker.ask(&mut requests);
        requests.part(&request, "first", true);
        requests.part(&request, "x".repeat(5 << 20), true);
        requests.part(&request, "more", true);
        let (parts, failure) = asker.read();
        assert_eq!((parts, failure.unwrap().kind.code()), (vec!["first".to_owned()], "too_large"), "{via:?}");
        assert_eq!(told(&mut cancels, &request), "cancelled", "{via:?}");
        // Nothing of it comes any more, and the id is free.
        let request = asker.ask(&mut requests);
        requests.part(&request, "only", false);
        assert!(matches!(asker.next(), What::Reply { more: false, .. }), "{via:?}");
    }
    nothing_is_left(&gateway);
    gateway.stop();
}

#[test]
fn a_connection_has_no_more_answers_open_than_it_may_have_streams() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut requests = outside.listen(REPORT);
    let gateway = gateway(&server, &["ipc.streams_max=2"]);
    let mut asker = Asker::by(Via::Unix, &gateway);
    let mut open = Vec::new();
    for id in [1, 2] {
        let request = asker.ask_as(id, &mut requests);
        requests.part(&request, "1", true);
        assert!(matches!(asker.heard(), (Some(heard), What::Reply { more: true, .. }) if heard == id));
        open.push(request);
    }
    asker.say(3);
    let (Some(3), What::Failed(failure)) = asker.heard() else { panic!("a refusal was expected") };
    assert_eq!((failure.kind.code(), failure.outcome.code()), ("overloaded", "not_sent"));
    requests.part(&open[1], "2", false);
    assert!(matches!(asker.heard(), (Some(2), What::Reply { .. })));
    assert!(matches!(asker.heard(), (Some(2), What::End)));
    let request = asker.ask_as(4, &mut requests);
    requests.part(&request, "only", false);
    assert!(matches!(asker.heard(), (Some(4), What::Reply { more: false, .. })));
    // The one that is open would hold up a gateway that stops.
    drop(asker);
    gateway.stop();
}

#[test]
fn of_those_in_flight_together_no_more_become_streams_than_may_be_open() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let (mut requests, mut cancels) = (outside.listen(REPORT), outside.listen(CANCEL));
    let gateway = gateway(&server, &["ipc.streams_max=2"]);
    let mut asker = Asker::by(Via::Unix, &gateway);
    let waiting: Vec<_> = (1..=3).map(|id| asker.ask_as(id, &mut requests)).collect();
    for (id, request) in (1..=2).zip(&waiting) {
        requests.part(request, "1", true);
        assert!(matches!(asker.heard(), (Some(heard), What::Reply { more: true, .. }) if heard == id));
    }
    requests.part(&waiting[2], "1", true);
    let (Some(3), What::Failed(failure)) = asker.heard() else { panic!("a refusal was expected") };
    assert_eq!((failure.kind.code(), failure.outcome.code()), ("overloaded", "unknown"));
    assert_eq!(told(&mut cancels, &waiting[2]), "cancelled");
    // The two that are open would hold up a gateway that stops.
    drop(asker);
    gateway.stop();
}

#[test]
fn a_gateway_that_stops_finishes_the_answers_that_it_has_begun() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut requests = outside.listen(REPORT);
    let mut gateway = gateway(&server, &["drain.spread_ms=0"]);
    let mut asked: Vec<_> = STREAMING
        .into_iter()
        .map(|via| {
            let mut asker = Asker::by(via, &gateway);
            let request = asker.ask(&mut requests);
            requests.part(&request, "1", true);
            assert!(matches!(asker.next(), What::Reply { more: true, .. }), "{via:?}");
            (via, asker, request)
        })
        .collect();
    gateway.signal(rustix::process::Signal::TERM);
    crate::gateway::eventually("it drains", || gateway.ready().0 == 503);
    for (via, asker, request) in &mut asked {
        if *via != Via::Http {
            asker.until_goodbye();
        }
        requests.part(request, "2", true);
        requests.part(request, "3", false);
        let (parts, failure) = asker.read();
        assert!(failure.is_none(), "{via:?}: {failure:?}");
        assert_eq!(parts, ["2", "3"], "{via:?}");
    }
    assert!(gateway.wait().success());
}

#[test]
fn who_cannot_be_told_a_stream_is_refused_before_anything_is_sent() {
    let server = NatsServer::start("");
    let outside = Outside::of(&server);
    let mut requests = outside.listen(REPORT);
    let gateway =
        start(&server, &["routes.decide.subject=work.report", "routes.decide.replies_max=10"]).gateway();
    until_connected(&gateway);
    for via in [Via::UnixV1, Via::Tasks] {
        let mut asker = Asker::by(via, &gateway);
        let call = Call { subject: "task_submit".to_owned(), payload: "{}".into(), ..Call::default() };
        asker.line.say(7, &Say::Request(call)).unwrap();
        let What::Failed(failure) = asker.next() else { panic!("a refusal was expected") };
        assert_eq!((failure.kind.code(), failure.outcome.code()), ("unsupported", "not_sent"), "{via:?}");
    }
    let mut marker = Asker::by(Via::Unix, &gateway);
    let request = marker.ask(&mut requests);
    assert_eq!(request.payload, "1", "nothing came before it");
    requests.part(&request, "only", false);
    assert!(matches!(marker.next(), What::Reply { more: false, .. }), "one message is no stream");
    gateway.stop();
}
