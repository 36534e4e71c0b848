//! A client of the gateway by one of the ways, which says tasks and reads answers in the words of the router.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use contract::{Headers, Kind, Outcome};
use ipc_gateway::client::{Call, Failure, Heard, Line, Reach, Say, What};
use serde_json::Value;
use tokio::runtime::Handle;

use crate::ground::within;
use crate::outside::DECIDE;
use crate::ways::Way;

/// A client with one connection.
pub(crate) struct Peer {
    way: &'static Way,
    runtime: Handle,
    line: Box<dyn Line>,
    next: u64,
    /// What was heard while something was said.
    early: VecDeque<Heard>,
}

/// What a client is told of a task.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The router's decision.
    Decision {
        /// The router's headers.
        headers: Headers,
        /// The body.
        body: Value,
        /// The bytes that it has.
        bytes: usize,
    },
    /// The router's no.
    Refusal {
        /// Its code.
        code: String,
        /// What it says.
        message: String,
        /// The body.
        body: Value,
    },
    /// The gateway's no.
    Failure(Failure),
}

impl Peer {
    pub(crate) fn connect(way: &'static Way, runtime: Handle, reach: &Reach) -> Self {
        let line = runtime.block_on(within(way.via.open(reach))).unwrap();
        Self { way, runtime, line, next: 1, early: VecDeque::new() }
    }

    /// Says a task; returns its id.
    pub(crate) fn say(&mut self, task: &Value) -> u64 {
        self.say_with(task, |_| ())
    }

    /// Says a task with what else its protocol can say.
    pub(crate) fn say_with(&mut self, task: &Value, shape: impl FnOnce(&mut Call)) -> u64 {
        let subject = if self.way.is_version_1 { "task_submit" } else { DECIDE };
        let payload = Bytes::from(task.to_string());
        let mut call = Call { subject: subject.to_owned(), payload, ..Call::default() };
        shape(&mut call);
        self.tell(&Say::Request(call))
    }

    fn tell(&mut self, say: &Say) -> u64 {
        let id = self.next;
        self.next += 1;
        self.line.say(id, say).unwrap();
        // One poll sends it; what comes meanwhile is kept for whoever asks.
        let (line, early) = (&mut self.line, &mut self.early);
        self.runtime.block_on(poll_fn(|context| {
            if let Poll::Ready(heard) = line.poll_heard(context) {
                early.push_back(heard.unwrap());
            }
            Poll::Ready(())
        }));
        id
    }

    fn heard(&mut self) -> Heard {
        match self.early.pop_front() {
            Some(heard) => heard,
            None => self.runtime.block_on(within(self.line.heard())).unwrap(),
        }
    }

    /// The next answer, and to which task it is.
    pub(crate) fn hears(&mut self) -> (u64, Answer) {
        let Heard { id, what } = self.heard();
        (id.expect("an answer is to something"), self.read(what))
    }

    /// Says a task and hears its answer.
    pub(crate) fn ask(&mut self, task: &Value) -> Answer {
        let said = self.say(task);
        let (id, answer) = self.hears();
        assert_eq!(id, said, "the answer to another task");
        answer
    }

    /// Sees that nothing more is told: the answer to a ping is the next thing heard.
    pub(crate) fn expect_nothing_more(&mut self) {
        let said = self.tell(&Say::Ping);
        let heard = self.heard();
        assert!(heard.id == Some(said) && matches!(heard.what, What::Pong), "more is told: {heard:?}");
    }

    /// The router's words, as this way has them.
    fn read(&self, what: What) -> Answer {
        match what {
            What::Reply { headers, payload, more: false } => {
                let body: Value = serde_json::from_slice(&payload).unwrap();
                if body["ok"] == true {
                    return Answer::Decision { headers, body, bytes: payload.len() };
                }
                assert!(self.way.is_version_1, "only version 1 has the router's no in a reply: {body}");
                refusal(body)
            }
            What::Failed(failure) if failure.kind == Kind::Failed => {
                assert_eq!(failure.outcome, Outcome::Done);
                let body: Value = serde_json::from_slice(&failure.body).unwrap();
                if !self.way.is_version_1 {
                    assert_eq!(failure.backend_code.as_deref(), body["error"]["code"].as_str());
                    assert_eq!(Some(&*failure.text), body["error"]["message"].as_str());
                }
                refusal(body)
            }
            What::Failed(failure) => Answer::Failure(failure),
            other => panic!("neither an answer nor a no: {other:?}"),
        }
    }
}

fn refusal(body: Value) -> Answer {
    assert_eq!(body["ok"], false, "{body}");
    let text = |name: &str| body["error"][name].as_str().unwrap().to_owned();
    Answer::Refusal { code: text("code"), message: text("message"), body }
}

impl Answer {
    /// The decision's body.
    pub(crate) fn decision(self) -> Value {
        match self {
            Self::Decision { body, .. } => body,
            other => panic!("a decision was expected: {other:?}"),
        }
    }

    /// Code, message and body of the router's no.
    pub(crate) fn refusal(self) -> (String, String, Value) {
        match self {
            Self::Refusal { code, message, body } => (code, message, body),
            other => panic!("the router's no was expected: {other:?}"),
        }
    }

    /// The gateway's no.
    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Failure(failure) => failure,
            other => panic!("the gateway's no was expected: {other:?}"),
        }
    }

    /// Sees that it is this no of the gateway's.
    pub(crate) fn expect_failure(self, kind: Kind, outcome: Outcome) -> Failure {
        let failure = self.failure();
        assert_eq!((failure.kind, failure.outcome), (kind, outcome), "{failure}");
        failure
    }
}
