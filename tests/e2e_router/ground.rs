//! The ground of one cell: a nats-server, the reference router and a gateway, all its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use ipc_gateway::backend::nats::responder::{self, Subjects};
use ipc_gateway::client::Reach;
use ipc_gateway::demo_router::{self, Act, Behaviour, DemoRouter};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::calls::{Connection, framed};
use crate::gateway::{Gateway, Metrics, PATIENCE, eventually};
use crate::nats_server::NatsServer;
use crate::outside::{DECIDE, in_front_of_a_router, until_connected};
use crate::peer::Peer;
use crate::ways::Way;

/// What comes of this, which must be soon.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it takes too long")
}

/// A route whose time is short, where a check is about what happens at its end.
pub(crate) const SHORT: &str = "routes.decide.timeout_ms=300";
/// No breaker, where a check fails more requests than one lets pass.
pub(crate) const UNGUARDED: &str = "breaker.enabled=false";

/// What a router under pressure says of when to come again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(7);

/// A gateway in front of a router.
pub(crate) struct Ground {
    /// The way in.
    pub(crate) way: &'static Way,
    /// The gateway.
    pub(crate) gateway: Gateway,
    /// What is between it and the router.
    pub(crate) server: NatsServer,
    router: Option<Running>,
    runtime: Runtime,
}

/// A router that runs.
struct Running {
    router: Arc<DemoRouter>,
    task: AbortHandle,
}

impl Ground {
    /// A router that answers, and a gateway with these settings that is connected.
    pub(crate) fn open(way: &'static Way, settings: &[&str]) -> Self {
        let mut ground = Self::without_router(way, settings);
        ground.start_router(&["default_tenant"]);
        ground
    }

    /// As [`Self::open`], with nobody who answers.
    pub(crate) fn without_router(way: &'static Way, settings: &[&str]) -> Self {
        // It tells how many connections it has at a port of its own.
        let server = NatsServer::start("http: \"127.0.0.1:-1\"");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let gateway = gateway(&server, settings);
        Self { way, gateway, server, router: None, runtime }
    }

    /// Another gateway in front of the same router.
    pub(crate) fn another(&self, settings: &[&str]) -> Gateway {
        gateway(&self.server, settings)
    }

    /// Has a router answer in place of any before; it is there when this returns.
    pub(crate) fn start_router(&mut self, tenants: &[&str]) {
        self.start(tenants, &[DECIDE, demo_router::ADMIN]);
    }

    /// As [`Self::start_router`], with one that says how much it can take, too.
    pub(crate) fn start_watched_router(&mut self) {
        self.start(&["default_tenant"], &[DECIDE, demo_router::ADMIN, demo_router::BACKPRESSURE]);
    }

    fn start(&mut self, tenants: &[&str], shared: &[&str]) {
        self.stop_router();
        let router = Arc::new(DemoRouter::new(demo_router::Settings {
            tenants: tenants.iter().map(|tenant| (*tenant).to_owned()).collect(),
            decide: DECIDE.to_owned(),
            behaviour: Behaviour::new("answer", None, None).unwrap(),
            pressure: "inactive",
            results: "none",
            retry_after_seconds: RETRY_AFTER.as_secs(),
            keys_max: 100,
        }));
        let subjects = Subjects {
            group: "beamline-router".to_owned(),
            shared: shared.iter().map(|subject| (*subject).to_owned()).collect(),
            own: vec![demo_router::CONTROL.to_owned()],
        };
        let (ready, is_ready) = oneshot::channel();
        let url = self.server.url();
        let served = Arc::clone(&router);
        let task = self.runtime.spawn(async move {
            let ready = move || ready.send(()).unwrap();
            responder::serve(&url, Duration::ZERO, subjects, served, ready).await
        });
        self.router = Some(Running { router, task: task.abort_handle() });
        self.runtime.block_on(within(is_ready)).expect("the router listens");
    }

    /// What the router says of its pressure from now on.
    pub(crate) fn press(&self, status: &str) {
        let told = json!({"backpressure": status}).to_string();
        let router = &self.router.as_ref().expect("a router is there").router;
        let Act::Answer { body, .. } = router.act(demo_router::CONTROL, told.as_bytes(), None) else {
            panic!("control is answered");
        };
        assert_eq!(body["ok"], true, "{body}");
    }

    /// Takes the router away.
    pub(crate) fn stop_router(&mut self) {
        if let Some(Running { task, .. }) = self.router.take() {
            task.abort();
            eventually("the router is gone", || task.is_finished());
        }
    }

    /// Kills the server, and the router with it: its client would come back at a time of its own.
    pub(crate) fn kill(&mut self) {
        self.server.kill();
        self.stop_router();
    }

    /// Starts the server and a router again, and waits until the gateway is connected.
    pub(crate) fn revive(&mut self) {
        self.server.restart();
        self.start_router(&["default_tenant"]);
        until_connected(&self.gateway);
    }

    /// The connections that the server counts.
    pub(crate) fn connections_at_the_server(&self) -> u64 {
        // One that was killed leaves its file behind.
        let files = std::fs::read_dir(self.server.directory()).unwrap().map(|file| file.unwrap().path());
        let newest = files
            .filter(|file| file.extension().is_some_and(|ending| ending == "ports"))
            .max_by_key(|file| file.metadata().unwrap().modified().unwrap());
        let ports: Value = serde_json::from_slice(&std::fs::read(newest.unwrap()).unwrap()).unwrap();
        let address = ports["monitoring"][0].as_str().unwrap().trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body).unwrap()["connections"].as_u64().unwrap()
    }

    /// A client, connected.
    pub(crate) fn peer(&self) -> Peer {
        self.peer_of(&self.gateway)
    }

    /// Where the gateway's doors are.
    pub(crate) fn reach(&self) -> Reach {
        reach(&self.gateway)
    }

    /// Runs something to its end beside the router.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// A client of another gateway.
    pub(crate) fn peer_of(&self, gateway: &Gateway) -> Peer {
        Peer::connect(self.way, self.runtime.handle().clone(), &reach(gateway))
    }

    /// gRPC's status of one unary call with this task, and what it says.
    pub(crate) fn unary(&self, task: &Value) -> (u8, String) {
        let payload = task.to_string();
        // Field 1 of RequestRequest is the subject and field 3 the payload (gateway.v1.proto).
        let mut message = vec![0x0a, u8::try_from(DECIDE.len()).unwrap()];
        message.extend_from_slice(DECIDE.as_bytes());
        let (low, high) = (payload.len() & 0x7f, payload.len() >> 7);
        message.extend([0x1a, u8::try_from(low).unwrap() | 0x80, u8::try_from(high).unwrap()]);
        message.extend_from_slice(payload.as_bytes());
        let answer = self.runtime.block_on(async {
            let connection = Connection::open(self.gateway.grpc()).await;
            connection.call("Request", &[], framed(0, &message)).await
        });
        // Percent-encoded (gRPC over HTTP/2, "Responses"); these texts have no other character that would be.
        let text = answer.told.get("grpc-message").map(|text| text.to_str().unwrap().replace("%20", " "));
        (answer.status().expect("a call has a status"), text.unwrap_or_default())
    }

    /// What the gateway holds for requests: all of it returns to where it was.
    pub(crate) fn held(&self) -> Vec<(String, f64)> {
        let metrics = self.gateway.metrics();
        let door = self.way.door;
        let mut series = vec![
            "ipc_gateway_calls".to_owned(),
            "ipc_gateway_streams".to_owned(),
            "ipc_gateway_memory_used_bytes".to_owned(),
            "ipc_gateway_nats_inbox_slots".to_owned(),
            "ipc_gateway_nats_in_flight".to_owned(),
            "ipc_gateway_nats_tasks".to_owned(),
            "ipc_gateway_nats_pool_size".to_owned(),
            "process_open_fds".to_owned(),
        ];
        for name in ["connections", "in_flight", "buffers_lent"] {
            series.push(format!("ipc_gateway_door_{name}{{door=\"{door}\"}}"));
        }
        series.into_iter().map(|series| (series.clone(), metrics.of(&series))).collect()
    }

    /// Waits until the gateway holds no more than `before`.
    pub(crate) fn until_held(&self, before: &[(String, f64)]) {
        let mut now = Vec::new();
        eventually(&format!("it holds what it held, {before:?}"), || {
            now = self.held();
            now.iter().zip(before).all(|((_, now), (_, before))| now <= before)
        });
    }

    /// A counter of the NATS backend.
    pub(crate) fn nats(&self, name: &str) -> f64 {
        self.metrics().of(&format!("ipc_gateway_nats_{name}"))
    }

    /// What a scrape finds.
    pub(crate) fn metrics(&self) -> Metrics {
        self.gateway.metrics()
    }

    /// Stops the gateway and sees that it ends well.
    pub(crate) fn close(mut self) {
        self.stop_router();
        self.gateway.stop();
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

fn gateway(server: &NatsServer, settings: &[&str]) -> Gateway {
    let start = settings.iter().fold(in_front_of_a_router(server), |start, setting| start.set(setting));
    let gateway = start.gateway();
    until_connected(&gateway);
    gateway
}

fn reach(gateway: &Gateway) -> Reach {
    Reach { socket: gateway.socket(), http: gateway.http().to_string(), grpc: gateway.grpc() }
}

/// A task with this id.
pub(crate) fn task(id: &str) -> Value {
    json!({"task_id": id, "text": "what to do"})
}

/// A task that has the router behave so.
pub(crate) fn told(id: &str, behaviour: Value) -> Value {
    let mut task = task(id);
    task["demo_router"] = behaviour;
    task
}
