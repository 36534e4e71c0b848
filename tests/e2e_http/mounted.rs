//! Something else on the same port: behind the same guard, under the same caps, with upgrades.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use contract::{
    Address, Admission, Authenticate, ByteBudget, DoorMeters, Drain, Error, Frontend, Gate, Identity, Kind,
    Method, Pipeline, Presented, Reply, Timeouts,
};
use http_door::rest::{Stand, Standing, Table};
use http_door::{Entry, HttpDoor, Mount, Peer, Router, Settings};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::fixture::{Client, PATIENCE};

/// Upgrades to an echo of bytes.
struct Echo;

impl Mount for Echo {
    const ENTRIES: &'static [Entry] = &[Entry { method: "GET", path: "/echo", summary: "Bytes back." }];

    fn router<P: Pipeline>(self, gate: Gate<P>) -> Router {
        let upgrade = async move |mut request: Request| -> Response {
            let peer = request.extensions().get::<Peer>().cloned().unwrap();
            let upgrading = hyper::upgrade::on(&mut request);
            gate.drain.track(async move {
                let mut stream = TokioIo::new(upgrading.await.unwrap());
                let mut bytes = [0; 64];
                while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                    stream.write_all(&bytes[..read]).await.unwrap();
                }
                drop(peer);
            });
            let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")];
            (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
        };
        Router::new()
            .route("/echo", get(upgrade))
            .route("/panic", get(async || -> Response { panic!("as asked") }))
    }
}

struct Anybody;

impl Authenticate for Anybody {
    fn authenticate(&self, _: &Presented) -> Result<Identity, Error> {
        Ok(Identity::new("anonymous", Method::Anonymous))
    }
}

async fn serve() -> (SocketAddr, Drain, Arc<DoorMeters>, tokio::task::JoinHandle<()>) {
    let refusing = tower::service_fn(async |_: contract::Request| {
        Err::<Reply, Error>(Error::new(Kind::NotFound, "nothing is behind this door"))
    });
    serve_with(refusing).await
}

/// The door in front of this pipeline.
pub(crate) async fn serve_with(
    pipeline: impl Pipeline,
) -> (SocketAddr, Drain, Arc<DoorMeters>, tokio::task::JoinHandle<()>) {
    let settings = Settings {
        address: "127.0.0.1:0".parse().unwrap(),
        hosts: Vec::new(),
        origins: Vec::new(),
        cors_origins: Vec::new(),
        connections_max: 10,
        connections_per_address_max: None,
        header_timeout: Duration::from_millis(200),
        body_timeout: PATIENCE,
        write_timeout: PATIENCE,
        keep_alive: PATIENCE,
        headers_max: 64,
        header_bytes_max: 8192,
        payload_bytes_max: 1024,
        event_keep_alive: PATIENCE,
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        gzip: false,
        rest: watch::channel(Arc::new(Table::empty(Echo::ENTRIES))).1,
        stand: Stand(Arc::new(|| Standing { connected: true, time: String::new() })),
        holder: |_| None,
        mount: Echo,
    };
    let door = HttpDoor::bind(settings).await.unwrap();
    let Address::Tcp(address) = door.address() else { panic!("a TCP door") };
    let (drain, meters) = (Drain::new(), Arc::<DoorMeters>::default());
    let gate = Gate {
        pipeline,
        authenticate: Arc::new(Anybody),
        drain: drain.clone(),
        meters: Arc::clone(&meters),
        budget: ByteBudget::new(1 << 20),
        admission: Admission::default(),
        timeouts: Timeouts { max: PATIENCE },
    };
    let serving = tokio::spawn(async move { door.serve(gate).await.unwrap() });
    (address, drain, meters, serving)
}

#[tokio::test]
async fn an_upgraded_connection_keeps_its_place_and_is_not_hurried() {
    let (address, drain, meters, serving) = serve().await;
    let mut client = Client(TcpStream::connect(address).await.unwrap());
    client
        .send("GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        .await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    client.send("a").await;
    assert_eq!(client.until("a").await, "a");
    // Longer than a head may take: what follows an upgrade is no head.
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.send("b").await;
    assert_eq!(client.until("b").await, "b");
    assert_eq!(meters.connections.get(), 1);
    drop(client);
    drain.begin();
    tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
    assert_eq!(meters.connections.get(), 0);
}

#[tokio::test]
async fn what_is_mounted_is_listed_and_guarded_and_its_panics_are_caught() {
    let (address, drain, meters, serving) = serve().await;
    let ask = async |path: &str, host: &str| {
        let mut client = Client(TcpStream::connect(address).await.unwrap());
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        client.answer().await
    };
    let index = ask("/", "localhost").await.json();
    assert!(index["paths"].as_array().unwrap().iter().any(|entry| entry["path"] == "/echo"), "{index}");
    ask("/echo", "evil.example").await.problem(403, "denied");
    ask("/panic", "localhost").await.problem(500, "internal");
    assert_eq!(meters.panics_total.get(), 1);
    ask("/nothing", "localhost").await.problem(404, "not_found");
    drain.begin();
    tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
}
