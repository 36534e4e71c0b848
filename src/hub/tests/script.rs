//! A backend that does what a test says: it opens a subscription when it is told to, and yields what it is
//! given.

use std::collections::VecDeque;

use tokio::sync::{Semaphore, mpsc};

use super::*;

/// The backend; cloning shares it.
#[derive(Clone)]
pub(super) struct Scripted(Arc<Script>);

struct Script {
    /// One permit a subscription that may be answered.
    gate: Semaphore,
    refusals: Mutex<VecDeque<Error>>,
    /// What each subscription was asked with.
    pub(super) asked: Mutex<Vec<Request>>,
    opened: Mutex<Vec<mpsc::Sender<Result<Event, Error>>>>,
}

impl Scripted {
    /// A hub in front of it; `answers` subscriptions may be answered at once.
    pub(super) fn hub(settings: Settings, answers: usize) -> (Self, Hub<Self>) {
        let script = Self(Arc::new(Script {
            gate: Semaphore::new(answers),
            refusals: Mutex::default(),
            asked: Mutex::default(),
            opened: Mutex::default(),
        }));
        let hub = Hub::new(script.clone(), settings, Handle::new(rules(open_route(|_| ()))));
        (script, hub)
    }

    /// Lets one more subscription be answered.
    pub(super) fn answer(&self) {
        self.0.gate.add_permits(1);
    }

    /// Refuses the next one.
    pub(super) fn refuse(&self, error: Error) {
        self.0.refusals.lock().unwrap().push_back(error);
    }

    /// The origins of all that were asked, by name.
    pub(super) fn asked(&self) -> Vec<String> {
        let asked = self.0.asked.lock().unwrap();
        asked.iter().map(|request| request.origin.identity.name.to_string()).collect()
    }

    /// Yields this in the subscription that was opened last.
    pub(super) async fn tell(&self, event: Result<Event, Error>) {
        let sender = self.0.opened.lock().unwrap().last().cloned().expect("one is open");
        sender.send(event).await.expect("the hub reads it");
    }

    /// The same with a message.
    pub(super) async fn say(&self, payload: &'static str) {
        let payload = Bytes::from_static(payload.as_bytes());
        let delivery = contract::Delivery::new(Subject::from_static("a"), Headers::new(), payload);
        self.tell(Ok(Event::Delivery(Arc::new(delivery)))).await;
    }

    /// Ends the subscription that was opened last.
    pub(super) fn end(&self) {
        self.0.opened.lock().unwrap().pop();
    }

    /// Subscriptions that the hub holds now.
    pub(super) fn held(&self) -> usize {
        self.0.opened.lock().unwrap().iter().filter(|sender| !sender.is_closed()).count()
    }
}

impl Backend for Scripted {
    type Answer = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

    fn call_as(&self, request: Request, _: Manner) -> Self::Answer {
        let script = Arc::clone(&self.0);
        Box::pin(async move {
            script.asked.lock().unwrap().push(request);
            script.gate.acquire().await.expect("it is never closed").forget();
            if let Some(error) = script.refusals.lock().unwrap().pop_front() {
                return Err(error);
            }
            let (sender, mut receiver) = mpsc::channel(16);
            script.opened.lock().unwrap().push(sender);
            let events = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
            // A test may have an accident in the backend, too.
            let events = events.inspect(|event| {
                assert!(!matches!(event, Err(error) if error.text() == PANIC), "{PANIC}");
            });
            Ok(Reply::Stream(DeliveryStream::new(events)))
        })
    }

    fn health(&self) -> Health {
        Health { kind: "script", reachable: true, reasons: Vec::new(), facts: serde_json::Value::Null }
    }

    fn readings(&self) -> Vec<Reading> {
        Vec::new()
    }

    /// Does not end its streams: the hub has to.
    async fn close(&self) {}
}

/// The text of an error at which the backend's stream panics instead of yielding it.
pub(super) const PANIC: &str = "on purpose";
