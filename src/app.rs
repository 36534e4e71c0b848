//! The assembly: the only module that sees everything. It opens the backend, takes every address, and only
//! then serves; and it takes everything down again in the opposite order.

pub(crate) mod backends;
mod doors;
mod mount;
mod recovery;
mod reload;
pub(crate) mod rest;
mod watcher;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use contract::{Address, Admission, Drain, Frontend, Gate, Pipeline, ServeError, Timeouts};
use http_door::rest::{Stand, Standing, Table};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::clock::rfc3339;
use crate::admin::{Admin, AdminSettings, Status};
use crate::backend::Backend;
use crate::backend::embedded::Embedded;
use crate::backend::nats::{self, Nats};
use crate::circuit::State;
use crate::config::{self, Config};
use crate::hub::{self, Hub};
use crate::identity::{Identities, Local};
use crate::metrics::{self, MetricError, Registry, RouteMeters};
use crate::pipeline::pipeline;
use crate::pressure;
use crate::rules::{Handle, Limits, Rules};
use crate::services::idempotency::Shared;

pub use reload::Reload;

/// Why the gateway did not start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A door's address could not be taken.
    #[error(transparent)]
    Door(#[from] contract::BindError),
    /// The admin listener's address could not be taken.
    #[error(transparent)]
    Admin(#[from] crate::admin::BindError),
    /// The NATS backend's settings do not fit together, or a file of theirs cannot be read.
    #[error(transparent)]
    Nats(#[from] nats::OpenErrors),
    /// A REST route, or a form of errors, cannot be what it is configured to be.
    #[error(transparent)]
    Rest(#[from] config::Problems),
    /// Two parts of the program chose one metric name: a mistake in the program.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// Nothing is enabled that a client could use.
    #[error(
        "no door is enabled; set ipc.enabled = true (CGW_IPC_ENABLE=1), http.enabled = true or \
             grpc.enabled = true"
    )]
    NoDoor,
}

impl StartError {
    /// Whether the configuration has to change before a start can succeed.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Nats(_) | Self::Rest(_) | Self::NoDoor)
    }
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Gateway {
    drain: Drain,
    pause: Duration,
    admin_stop: CancellationToken,
    doors: JoinSet<Result<(), ServeError>>,
    admin: JoinSet<()>,
    /// What looks at the backend; ends before it.
    watching: JoinSet<()>,
    close: Closing,
    backend: &'static str,
    addresses: Vec<(&'static str, Address)>,
    web_socket: Option<&'static str>,
    handle: Handle,
    rest: watch::Sender<Arc<Table>>,
    registry: Registry,
}

/// Shows what the backend and the rules have to tell, read at each scrape.
fn show(
    registry: &Registry,
    backend: &impl Backend,
    handle: &Handle,
    old_names: bool,
) -> Result<(), MetricError> {
    let reachable = backend.clone();
    registry.backend(backend.health().kind, move || reachable.health().reachable)?;
    let (readable, rules) = (backend.clone(), handle.clone());
    registry.readings(Box::new(move || {
        let mut readings = readable.readings();
        let rules = rules.load();
        readings.extend(metrics::recovery::readings(&rules, old_names));
        readings.extend(metrics::idempotency::readings(&rules.idempotency, old_names));
        readings
    }));
    registry.show_rules(handle)
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Closes the backend, whichever it is.
struct Closing(Boxed<()>);

impl std::fmt::Debug for Closing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Closing")
    }
}

/// What every door is opened with.
struct Parts<P> {
    gate: Gate<P>,
    registry: Registry,
}

/// A door with its address taken.
struct Opened {
    name: &'static str,
    address: Address,
    serving: Boxed<Result<(), ServeError>>,
}

impl Gateway {
    /// Starts what `config` says. When this returns, every address is taken and served.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        match config.backend {
            config::Backend::Embedded => {
                let backend = Embedded::open(backends::embedded(&config.embedded));
                Self::start_with(config, backend).await
            }
            config::Backend::Nats => {
                let backend = Nats::open(backends::nats(&config)?)?;
                let shared = backends::shared(&config, &backend);
                Self::start_sharing(config, backend, shared).await
            }
        }
    }

    /// Starts with a backend that is open.
    pub async fn start_with<B: Backend>(config: Config, backend: B) -> Result<Self, StartError> {
        Self::start_sharing(config, backend, None).await
    }

    async fn start_sharing<B: Backend>(
        config: Config,
        backend: B,
        shared: Option<Shared>,
    ) -> Result<Self, StartError> {
        let registry = Registry::new(config.metrics_old_names);
        let handle = Handle::new(rules(&config, &registry, None));
        if let Some(shared) = shared {
            handle.load().idempotency.share(shared);
        }
        let (rest, paths) = watch::channel(Arc::new(rest::table(&config, None)?));
        let backend = Hub::new(backend, hub(&config.hub), handle.clone());
        let kind = backend.health().kind;
        show(&registry, &backend, &handle, config.metrics_old_names)?;
        let load = Arc::clone(&handle.load().load);
        registry.show_load(&load)?;
        backend.charge_to(&load.memory);
        let admission = Admission::new(config.limits.handshakes_max);
        registry.show_admission(&admission)?;
        let drain = Drain::spread_over(config.drain_spread);
        registry.show_drain(&drain)?;
        let authenticate =
            Identities { local: Local::new(config.ipc.allow_uids.clone(), config.ipc.allow_gids.clone()) };
        let parts = Parts {
            gate: Gate {
                pipeline: pipeline(handle.clone(), backend.clone()),
                authenticate: Arc::new(authenticate),
                drain: drain.clone(),
                meters: Arc::default(),
                budget: load.memory.clone(),
                admission,
                timeouts: Timeouts { max: config.limits.timeout_max },
            },
            registry: registry.clone(),
        };

        // Every address is taken before the first request.
        let mut opened = Vec::new();
        if config.ipc.enabled {
            opened.push(open::<ipc::UnixSocket, _>(doors::unix_socket(&config.ipc), &parts).await?);
        }
        if config.http.enabled {
            opened.push(open_http(&config, (paths, stand(&backend)), &parts).await?);
        }
        if config.grpc.enabled {
            let serving = backend.clone();
            let ready = Arc::new(move || serving.health().reachable);
            opened.push(open::<grpc::GrpcDoor, _>(doors::grpc(&config.grpc, ready), &parts).await?);
        }
        if opened.is_empty() {
            return Err(StartError::NoDoor);
        }
        let admin = config.admin.enabled.then(|| Admin::bind(admin(&config.admin))).transpose()?;

        let mut addresses = Vec::new();
        let mut doors = JoinSet::new();
        for door in opened {
            addresses.push((door.name, door.address));
            doors.spawn(door.serving);
        }
        let mut watching = JoinSet::new();
        watching.spawn(recovery::watch(backend.clone(), load));
        watching.spawn(watcher::watch(backend.clone(), handle.clone()));
        let admin_stop = CancellationToken::new();
        let mut admin_task = JoinSet::new();
        if let Some(admin) = admin {
            addresses.push(("admin", Address::Tcp(admin.local_address())));
            let status = Shown {
                backend: backend.clone(),
                drain: drain.clone(),
                registry: registry.clone(),
                handle: handle.clone(),
                started: Instant::now(),
            };
            admin_task.spawn(admin.serve(Arc::new(status), admin_stop.clone()));
        }
        Ok(Self {
            drain,
            pause: config.drain_pause,
            admin_stop,
            doors,
            admin: admin_task,
            watching,
            close: Closing(Box::pin(async move { backend.close().await })),
            backend: kind,
            addresses,
            web_socket: (config.http.enabled && config.websocket.enabled).then_some(websocket::PATH),
            handle,
            rest,
            registry,
        })
    }

    /// What listens where, by name.
    pub fn addresses(&self) -> &[(&'static str, Address)] {
        &self.addresses
    }

    /// The path of WebSockets on the address of the HTTP door, if they are offered.
    pub fn web_socket(&self) -> Option<&'static str> {
        self.web_socket
    }

    /// Which backend serves: `embedded` or `nats`.
    pub fn backend(&self) -> &'static str {
        self.backend
    }

    /// The rules in force, to look at or to swap.
    pub fn rules(&self) -> &Handle {
        &self.handle
    }

    /// What reloads the configuration that was read from `sources` as `running`. Once a gateway: its metrics
    /// have one name.
    pub fn reload(&self, sources: config::Sources, running: config::Resolved) -> Result<Reload, MetricError> {
        Reload::new(sources, running, (self.handle.clone(), self.rest.clone()), self.registry.clone())
    }

    /// Resolves when a door stopped on its own, which none should.
    pub async fn failed(&mut self) -> ServeError {
        loop {
            match self.doors.join_next().await {
                Some(Ok(Err(error))) => return error,
                Some(Ok(Ok(()))) => {}
                Some(Err(error)) => {
                    let reason = if error.is_panic() { "it panicked" } else { "it was cancelled" };
                    return ServeError { door: "?", reason: reason.to_owned() };
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Stops: readiness turns false and, after the pause that is configured, nothing new is accepted; what is in
    /// flight gets `grace` to finish. Returns how many connections were cut at its end.
    pub async fn stop(self, grace: Duration) -> usize {
        let stopped = self.stop_unless(grace, std::future::pending::<()>()).await;
        stopped.cut
    }

    /// The same, but as soon as `hurry` resolves everything is cut. What must not stay behind, such as the socket
    /// file, is removed in any case.
    pub async fn stop_unless<H>(mut self, grace: Duration, hurry: impl Future<Output = H>) -> Stopped<H> {
        let hurried = tokio::select! {
            cut = self.wind_down(grace) => return Stopped { cut, hurried: None },
            hurried = hurry => hurried,
        };
        self.drain.begin();
        let cut = self.drain.at_work();
        // Dropped with what they own, and nothing of it waits.
        self.doors.shutdown().await;
        Stopped { cut, hurried: Some(hurried) }
    }

    async fn wind_down(&mut self, grace: Duration) -> usize {
        self.drain.announce();
        tokio::time::sleep(self.pause).await;
        self.drain.begin();
        let finished = async {
            self.drain.finished().await;
            while self.doors.join_next().await.is_some() {}
        };
        let cut = match tokio::time::timeout(grace, finished).await {
            Ok(()) => 0,
            Err(_) => self.drain.at_work(),
        };
        self.doors.shutdown().await;
        self.watching.shutdown().await;
        self.close.0.as_mut().await;
        // Last, so that probes and scrapers see the drain to its end.
        self.admin_stop.cancel();
        while self.admin.join_next().await.is_some() {}
        cut
    }
}

/// How a gateway stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped<H> {
    /// Connections that were cut.
    pub cut: usize,
    /// What made it hurry, if anything did.
    pub hurried: Option<H>,
}

/// What tells configured routes how the gateway stands. The broker in the process is no NATS.
fn stand<B: Backend>(backend: &B) -> Stand {
    let backend = backend.clone();
    Stand(Arc::new(move || {
        let health = backend.health();
        Standing { connected: health.kind == "nats" && health.reachable, time: rfc3339(SystemTime::now()) }
    }))
}

/// Opens the HTTP door, with WebSockets on its port if they are enabled.
async fn open_http<P: Pipeline>(
    config: &Config,
    rest: doors::Rest,
    parts: &Parts<P>,
) -> Result<Opened, StartError> {
    if !config.websocket.enabled {
        let settings = doors::http(config, rest, http_door::NoMount);
        return open::<http_door::HttpDoor, _>(settings, parts).await;
    }
    let meters = Arc::default();
    parts.registry.show_door(websocket::NAME, &meters)?;
    let mount = mount::WebSockets { settings: doors::websocket(config), meters };
    open::<http_door::HttpDoor<_>, _>(doors::http(config, rest, mount), parts).await
}

/// Opens a door: takes its address, makes its meters known, and says how it is served.
async fn open<F: Frontend, P: Pipeline>(
    settings: F::Settings,
    parts: &Parts<P>,
) -> Result<Opened, StartError> {
    let door = F::bind(settings).await?;
    let gate = Gate { meters: Arc::default(), ..parts.gate.clone() };
    parts.registry.show_door(F::NAME, &gate.meters)?;
    let address = door.address();
    Ok(Opened { name: F::NAME, address, serving: Box::pin(door.serve(gate)) })
}

fn admin(config: &config::Admin) -> AdminSettings {
    AdminSettings {
        address: config.address,
        hosts: config.hosts.clone(),
        connections_max: config.connections_max,
        ..AdminSettings::default()
    }
}

fn hub(config: &config::Hub) -> hub::Settings {
    hub::Settings {
        linger: config.linger,
        open_timeout: config.open_timeout,
        patterns_max: config.patterns_max,
    }
}

/// The rules that the configuration asks for; what is spent and in use is shared with those `before`.
fn rules(config: &Config, registry: &Registry, before: Option<&Rules>) -> Rules {
    let limits = Limits {
        rate: config.limits.rate,
        peer_rate: config.limits.peer_rate,
        peer_rate_local: config.limits.peer_rate_local,
        peers_max: config.limits.peers_max,
        calls_max: config.limits.calls_max,
        streams_max: config.limits.streams_max,
        inbox_prefix: config.nats.inbox_prefix.clone(),
        load: config.limits.load,
        idempotency: config.idempotency.bounds,
    };
    let kinds = metrics::kinds();
    Rules::new(config.routes.clone(), limits, before, |route| RouteMeters::new(registry, route, &kinds))
}

/// The state of each circuit that is not closed, by its route. Never a reason not to be ready: the other routes work.
fn circuits(rules: &Rules) -> serde_json::Map<String, serde_json::Value> {
    let with_breaker = rules.routes.iter().filter(|route| route.settings.breaker.is_some());
    let states = with_breaker.map(|route| (route.settings.name.clone(), route.circuit.state()));
    let troubled = states.filter(|(_, state)| *state != State::Closed);
    troubled.map(|(name, state)| (name, state.name().into())).collect()
}

/// What holds for each route whose responder is under pressure, or was a moment ago.
fn pressures(rules: &Rules) -> serde_json::Map<String, serde_json::Value> {
    let now = tokio::time::Instant::now();
    let states = rules.routes.iter().filter_map(|route| {
        let settings = route.settings.pressure.as_ref()?;
        Some((route.settings.name.clone(), route.pressure.look(settings, now).0))
    });
    let troubled = states.filter(|(_, state)| *state != pressure::State::Free);
    troubled.map(|(name, state)| (name, state.name().into())).collect()
}

/// What the admin listener tells.
struct Shown<B> {
    backend: B,
    drain: Drain,
    registry: Registry,
    handle: Handle,
    started: Instant,
}

impl<B: Backend> Status for Shown<B> {
    fn health(&self) -> serde_json::Value {
        json!({
            "status": "healthy",
            "service": "ipc-gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": self.started.elapsed().as_secs(),
        })
    }

    fn ready(&self) -> (bool, serde_json::Value) {
        let (backend, rules) = (self.backend.health(), self.handle.load());
        let draining = self.drain.is_announced();
        let ready = backend.reachable && !draining;
        let message = match (draining, backend.reachable) {
            (true, _) => "draining: the gateway is stopping",
            (false, true) => "ready",
            (false, false) => "the backend cannot be reached",
        };
        let body = json!({
            "message": message,
            "draining": draining,
            "reasons": backend.reasons,
            "circuits": circuits(&rules),
            "pressure": pressures(&rules),
            "backend": { "kind": backend.kind, "reachable": backend.reachable, "facts": backend.facts },
        });
        (ready, body)
    }

    fn metrics(&self) -> String {
        self.registry.render()
    }
}
