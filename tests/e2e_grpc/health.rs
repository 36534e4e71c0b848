//! Health as an orchestrator asks for it, while the backend goes and comes back.

use crate::calls::{Connection, framed};
use crate::nats_server::NatsServer;
use crate::running::{Running, within};

/// `HealthCheckResponse` with this status (gRPC Health Checking Protocol).
const SERVING: &[u8] = &[0x08, 1];
const NOT_SERVING: &[u8] = &[0x08, 2];

async fn until_told(connection: &Connection, expected: &[u8]) {
    let expected = framed(0, expected);
    within(async {
        loop {
            let answer = connection.call("grpc.health.v1.Health/Check", &[], framed(0, &[])).await;
            assert_eq!(answer.status(), Some(0), "{answer:?}");
            if answer.body == expected {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_follows_the_backend() {
    let mut server = NatsServer::start("");
    let url = server.url();
    let gateway = Running::start(&[("nats.urls", &url)]).await;
    let connection = Connection::open(gateway.grpc).await;
    until_told(&connection, SERVING).await;
    // Who watches is told without asking.
    let (response, mut send) = connection.begin("grpc.health.v1.Health/Watch", &[]).await;
    send.send_data(framed(0, &[]), true).unwrap();
    let mut told = within(response).await.unwrap().into_body();
    let mut next = async || {
        let piece = within(told.data()).await.unwrap().unwrap();
        told.flow_control().release_capacity(piece.len()).unwrap();
        piece
    };
    assert_eq!(next().await, framed(0, SERVING));
    server.kill();
    assert_eq!(next().await, framed(0, NOT_SERVING));
    until_told(&connection, NOT_SERVING).await;
    server.restart();
    assert_eq!(next().await, framed(0, SERVING));
    until_told(&connection, SERVING).await;
}
