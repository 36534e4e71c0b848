//! A gateway in this process with every address free.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use contract::Address;
use ipc_gateway::app::Gateway;
use ipc_gateway::config::{Config, Flag, Sources};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// What comes of this, which must be soon.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it takes too long")
}

/// A gateway that serves.
pub(crate) struct Running {
    gateway: Gateway,
    pub(crate) grpc: SocketAddr,
    admin: SocketAddr,
    place: TempDir,
}

impl Running {
    /// Starts one with these settings changed; `{}` in a value is a directory of its own.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let own = [("ipc.path", "{}/socket"), ("http.port", "0"), ("grpc.port", "0"), ("admin.port", "0")];
        let flags = own.iter().chain(settings).map(|(key, value)| Flag {
            name: "test".to_owned(),
            path: (*key).to_owned(),
            text: value.replace("{}", place.path().to_str().unwrap()),
        });
        let sources = Sources { flags: flags.collect(), usual_files: Vec::new(), ..Sources::default() };
        let config = Config::load(&sources).unwrap_or_else(|problems| panic!("{problems}")).config;
        let gateway = Gateway::start(config).await.unwrap();
        let address = |door| {
            let found = gateway.addresses().iter().find(|(name, _)| *name == door);
            match &found.unwrap().1 {
                Address::Tcp(address) => *address,
                Address::Unix(path) => panic!("{} is no TCP address", path.display()),
            }
        };
        let (grpc, admin) = (address("grpc"), address("admin"));
        Self { gateway, grpc, admin, place }
    }

    /// A file in its directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A metric by its name with labels.
    pub(crate) async fn metric(&self, name: &str) -> i64 {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        within(stream.read_to_string(&mut text)).await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    /// A count of the gRPC door.
    pub(crate) async fn count(&self, what: &str) -> i64 {
        self.metric(&format!("ipc_gateway_door_{what}{{door=\"grpc\"}}")).await
    }

    /// Waits until a count of the gRPC door is so.
    pub(crate) async fn until(&self, what: &str, expected: i64) {
        self.until_metric(&format!("ipc_gateway_door_{what}{{door=\"grpc\"}}"), expected).await;
    }

    /// Waits until a metric is so.
    pub(crate) async fn until_metric(&self, name: &str, expected: i64) {
        let mut last = 0;
        let reached = timeout(PATIENCE, async {
            loop {
                last = self.metric(name).await;
                if last == expected {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(reached.await.is_ok(), "{name} is {last} and not {expected}");
    }

    /// Begins to stop it; the task tells how many connections were cut.
    pub(crate) fn stop(self, grace: Duration) -> tokio::task::JoinHandle<usize> {
        tokio::spawn(async move {
            let cut = self.gateway.stop(grace).await;
            drop(self.place);
            cut
        })
    }
}
