//! Attacks by number: peers that nobody has seen before.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::Scene;
use crate::gateway::PATIENCE;

/// Peers that the gateway remembers.
pub(super) const PEERS_MAX: usize = 500;
/// What connects unless the environment says otherwise.
const PEERS: u32 = 10_000;

/// Row 30: peers that nobody has seen before, by address and by what they say of themselves.
pub(super) fn distinct_peers(scene: &Scene) {
    let peers = std::env::var("MEMORY_TEST_PEERS").map_or(PEERS, |peers| peers.parse().unwrap());
    let address = scene.gateway.http();
    let ask = async |stream: &mut TcpStream, more: &str, times: u32| {
        let head = "POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n";
        for number in 0..times {
            let forwarded = format!("X-Forwarded-For: {}", Ipv4Addr::from_bits(0x0A00_0000 + number));
            stream.write_all(format!("{head}{forwarded}\r\n{more}\r\n\"x\"").as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n\"x\"") {
                assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        }
    };
    let before = scene.gateway.metrics().of("ipc_gateway_limiter_peers");
    let attack = async {
        let mut one = TcpStream::connect(address).await.unwrap();
        ask(&mut one, "", peers).await;
        drop(one);
        assert!(scene.gateway.metrics().of("ipc_gateway_limiter_peers") <= before + 1.0);
        for number in 0..peers {
            let socket = TcpSocket::new_v4().unwrap();
            // The whole of 127/8 is this machine (RFC 1122, section 3.2.1.3), on Linux without asking for it.
            let own = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number);
            socket.bind(SocketAddr::from((own, 0))).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            ask(&mut stream, "Connection: close\r\n", 1).await;
        }
    };
    let patience = PATIENCE * (4 + peers / 5000);
    scene.runtime.block_on(async { timeout(patience, attack).await }).unwrap();
    let metrics = scene.gateway.metrics();
    assert!(metrics.of("ipc_gateway_limiter_peers") <= PEERS_MAX as f64, "{metrics:?}");
}
