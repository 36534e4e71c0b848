//! The ground of one cell: a gateway of its own with the case's settings, a backend, and an outside party on
//! a subject that no other cell uses.

use std::time::Duration;

use bytes::Bytes;
use contract::{Address, Headers, Kind, Outcome};
use ipc_gateway::app::Gateway;
use ipc_gateway::client::{Call, Failure, Line, Reach, Say, Via, What};
use ipc_gateway::config::{Config, Flag, MissingFiles, Sources};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::broker::{Answer, Behind, Broker, Ear, Seen};
use crate::doors::Door;

/// Why a cell fails, for people.
pub type Fault = String;

/// A running gateway with one door to try.
#[derive(Debug)]
pub struct Ground {
    /// The door under test.
    pub door: &'static Door,
    /// What is behind the gateway.
    pub broker: Broker,
    /// The subject of the case.
    pub subject: String,
    gateway: Option<Gateway>,
    reach: Reach,
    tasks: JoinSet<()>,
    _place: TempDir,
}

impl Ground {
    /// Starts a gateway with these settings; `subject` is what tasks go to.
    pub async fn open(door: &'static Door, behind: Behind, subject: &str, settings: &[(&str, &str)]) -> Self {
        let place = TempDir::with_prefix("gw").expect("a directory for the socket");
        let socket = place.path().join("s");
        let broker = Broker::open(behind).await;
        let base = [
            ("ipc.path", socket.to_str().expect("the path is UTF-8")),
            ("http.port", "0"),
            ("grpc.port", "0"),
            ("http.request_headers", "x-case"),
            ("http.response_headers", "x-reply"),
            ("admin.enabled", "false"),
            ("reload.watch_ms", "0"),
            ("breaker.enabled", "false"),
            // The three tasks have a route of their own here, so that it is the case's in every setting.
            ("routes.decide.patterns", "[]"),
            ("routes.decide.message_types", "[]"),
            ("routes.local.patterns", "[]"),
            ("routes.case.patterns", subject),
            ("routes.case.subject", subject),
            ("routes.case.message_types", "task_submit"),
            ("routes.case.allow", "local,loopback"),
            ("routes.case.headers", "*"),
        ];
        let flags = base.iter().chain(settings).map(|(path, text)| Flag {
            name: "--set".to_owned(),
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        });
        let sources = Sources {
            flags: flags.collect(),
            usual_files: Vec::new(),
            missing_files: MissingFiles::Refuse,
            ..Sources::default()
        };
        let config = match Config::load(&sources) {
            Ok(loaded) => loaded.config,
            Err(problems) => panic!("the case's settings are wrong: {problems}"),
        };
        let gateway = broker.gateway(config).await;
        let reach = reach(&gateway);
        let subject = subject.to_owned();
        Self { door, broker, subject, gateway: Some(gateway), reach, tasks: JoinSet::new(), _place: place }
    }

    /// Connects by the door under test.
    pub async fn line(&self) -> Result<Box<dyn Line>, Fault> {
        self.line_via(self.door.via).await
    }

    /// Connects by another door.
    pub async fn line_via(&self, via: Via) -> Result<Box<dyn Line>, Fault> {
        via.open(&self.reach).await.map_err(|lost| lost.to_string())
    }

    /// A call on the case's subject, in the words of the door.
    pub fn call(&self, payload: impl Into<Bytes>) -> Call {
        self.call_to(&self.subject, payload)
    }

    /// A call on another subject; what has tasks only has no word for it, and asks the case's.
    pub fn call_to(&self, subject: &str, payload: impl Into<Bytes>) -> Call {
        let subject = if self.door.is_of_tasks() { "task_submit" } else { subject };
        Call {
            subject: subject.to_owned(),
            payload: payload.into(),
            headers: Headers::new(),
            timeout: None,
            idempotent: false,
            traceparent: None,
        }
    }

    /// What a client of the door asks first: a request, or a subscription where it only listens.
    pub fn question(&self, payload: impl Into<Bytes>) -> Say {
        self.question_to(&self.subject, payload)
    }

    /// The same, about another subject.
    pub fn question_to(&self, subject: &str, payload: impl Into<Bytes>) -> Say {
        let call = self.call_to(subject, payload);
        if self.door.only_listens() { Say::Subscribe(call) } else { Say::Request(call) }
    }

    /// Holds if the question was answered as it should be.
    pub fn settled(&self, what: What) -> Result<(), Fault> {
        if self.door.only_listens() { accepted(what) } else { reply(what).map(drop) }
    }

    /// Subscribes to the case's subject by the door under test.
    pub async fn subscribed(&self) -> Result<Box<dyn Line>, Fault> {
        let mut line = self.line().await?;
        let mut call = self.call(Bytes::new());
        call.subject.clone_from(&self.subject);
        accepted(ask(&mut line, 1, &Say::Subscribe(call)).await?)?;
        Ok(line)
    }

    /// Streams that hold a permit now.
    pub fn streams(&self) -> usize {
        self.gateway.as_ref().map_or(0, |gateway| gateway.rules().load().streams.used())
    }

    /// Has the outside party answer on the case's subject.
    pub async fn respond<F>(&mut self, answer: F) -> Ear
    where
        F: Fn(&Seen) -> Option<Answer> + Clone + Send + Sync + 'static,
    {
        let subject = self.subject.clone();
        self.respond_on(&subject, answer).await
    }

    /// Has the outside party answer on another subject.
    pub async fn respond_on<F>(&mut self, subject: &str, answer: F) -> Ear
    where
        F: Fn(&Seen) -> Option<Answer> + Clone + Send + Sync + 'static,
    {
        self.broker.respond(&mut self.tasks, subject, answer).await
    }

    /// Has the outside party send each request's payload back.
    pub async fn echo(&mut self) -> Ear {
        self.respond(|seen| Some(Answer { payload: seen.payload.clone(), ..Answer::default() })).await
    }

    /// Begins to stop the gateway; resolves when it has.
    pub fn stop(&mut self, grace: Duration) -> impl Future<Output = ()> + Send + use<> {
        let gateway = self.gateway.take().expect("it is stopped once");
        async move {
            gateway.stop(grace).await;
        }
    }

    /// Ends the cell: nothing of it is left.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
        if let Some(gateway) = self.gateway.take() {
            gateway.stop(Duration::from_millis(200)).await;
        }
    }
}

fn reach(gateway: &Gateway) -> Reach {
    let address = |name: &str| {
        let found = gateway.addresses().iter().find(|(known, _)| *known == name);
        found.map(|(_, address)| address.clone())
    };
    let Some(Address::Unix(socket)) = address("unix") else { panic!("the gateway has a Unix socket") };
    let Some(Address::Tcp(http)) = address("http") else { panic!("the gateway has an HTTP door") };
    let Some(Address::Tcp(grpc)) = address("grpc") else { panic!("the gateway has a gRPC door") };
    Reach { socket, http: http.to_string(), grpc }
}

/// Says something and gives what is answered to it.
pub async fn ask(line: &mut Box<dyn Line>, id: u64, say: &Say) -> Result<What, Fault> {
    line.say(id, say).map_err(|failure| format!("cannot say it: {failure}"))?;
    answer(line, id).await
}

/// The next thing heard about `id`; whatever else is heard is an error.
pub async fn answer(line: &mut Box<dyn Line>, id: u64) -> Result<What, Fault> {
    loop {
        let heard = line.heard().await.map_err(|lost| lost.to_string())?;
        match heard.id {
            Some(known) if known == id => return Ok(heard.what),
            None if matches!(heard.what, What::GoAway) => {}
            // A no that cannot be told whose it is belongs to the only question there is.
            None => return Ok(heard.what),
            other => return Err(format!("an answer to {other:?} instead of {id}: {:?}", heard.what)),
        }
    }
}

/// The reply's payload, or why it is none.
pub fn reply(what: What) -> Result<(Headers, Bytes), Fault> {
    match what {
        What::Reply { headers, payload, more: false } => Ok((headers, payload)),
        other => Err(format!("a reply was expected, and came {}", shown(&other))),
    }
}

/// Holds if it is an acceptance.
pub fn accepted(what: What) -> Result<(), Fault> {
    match what {
        What::Accepted => Ok(()),
        other => Err(format!("accepted was expected, and came {}", shown(&other))),
    }
}

/// The next message of a subscription.
pub async fn delivery(line: &mut Box<dyn Line>) -> Result<(String, Headers, Bytes), Fault> {
    match line.heard().await.map_err(|lost| lost.to_string())?.what {
        What::Delivery { subject, headers, payload } => Ok((subject, headers, payload)),
        other => Err(format!("a delivery was expected, and came {}", shown(&other))),
    }
}

/// The failure, if it is this kind with this outcome.
pub fn failed(what: What, kind: Kind, outcome: Outcome) -> Result<Failure, Fault> {
    match what {
        What::Failed(failure) if failure.kind == kind && failure.outcome == outcome => Ok(failure),
        other => Err(format!("{kind} ({}) was expected, and came {}", outcome.code(), shown(&other))),
    }
}

/// Holds, or says what does not.
pub fn check(holds: bool, what: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(what()) }
}

fn shown(what: &What) -> String {
    match what {
        What::Failed(failure) => format!("{} ({}): {}", failure.kind, failure.outcome.code(), failure.text),
        What::Reply { payload, more, .. } => format!("a reply of {} bytes, more: {more}", payload.len()),
        other => format!("{other:?}"),
    }
}
