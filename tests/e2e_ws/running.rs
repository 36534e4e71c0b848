//! A gateway in this process with every address free.

use std::net::SocketAddr;
use std::time::Duration;

use contract::Address;
use ipc_gateway::app::Gateway;
use ipc_gateway::config::{Config, Flag, Sources};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peer::{Peer, within};

/// A gateway that serves.
pub(crate) struct Running {
    gateway: Gateway,
    pub(crate) http: SocketAddr,
    admin: SocketAddr,
    place: TempDir,
}

impl Running {
    /// Starts one with these settings changed.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("socket");
        let own = [
            ("ipc.path", socket.to_str().unwrap()),
            ("http.port", "0"),
            ("grpc.port", "0"),
            ("admin.port", "0"),
        ];
        let flags = own.iter().chain(settings).map(|(key, value)| Flag {
            name: "test".to_owned(),
            path: (*key).to_owned(),
            text: (*value).to_owned(),
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
        let (http, admin) = (address("http"), address("admin"));
        Self { gateway, http, admin, place }
    }

    /// A peer that speaks JSON.
    pub(crate) async fn peer(&self) -> Peer {
        Peer::open(self.http, "ipc-gateway.v1+json").await
    }

    /// A count of the WebSocket door.
    pub(crate) async fn count(&self, what: &str) -> i64 {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        within(stream.read_to_string(&mut text)).await.unwrap();
        let name = format!("ipc_gateway_door_{what}{{door=\"websocket\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    /// Waits until a count of the WebSocket door is so.
    pub(crate) async fn until(&self, what: &str, expected: i64) {
        within(async {
            while self.count(what).await != expected {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    /// Stops it at once; tells how many connections were cut, and whether the socket file was left.
    pub(crate) async fn stop_at_once(self, grace: Duration) -> (usize, bool) {
        let stopped = self.gateway.stop_unless(grace, std::future::ready(())).await;
        (stopped.cut, self.place.path().join("socket").exists())
    }

    /// Begins to stop it; the task tells how many connections were cut.
    pub(crate) fn stop(self, grace: Duration) -> tokio::task::JoinHandle<usize> {
        tokio::spawn(async move { self.gateway.stop(grace).await })
    }
}
