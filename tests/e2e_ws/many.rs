//! Many sockets at once on the real program: they are told goodbye when it stops, and cost little while idle.

use std::collections::HashSet;
use std::net::SocketAddr;

use rustix::process::Signal;

use crate::gateway::Gateway;
use crate::peer::{Peer, within};

/// The address of the HTTP door, as the banner tells it.
fn http(gateway: &Gateway) -> SocketAddr {
    let line = gateway.banner().lines().find(|line| line.trim_start().starts_with("http "));
    let (_, rest) = line.expect("the banner has the HTTP door").split_once("http://").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

async fn open(gateway: &Gateway, count: usize) -> Vec<Peer> {
    let address = http(gateway);
    let mut peers = Vec::new();
    for _ in 0..count {
        peers.push(Peer::open(address, "ipc-gateway.v1+json").await);
    }
    peers
}

#[tokio::test]
async fn five_hundred_sockets_are_told_goodbye_and_the_program_ends_well() {
    let mut gateway = Gateway::with().set("drain.grace_ms=20000").gateway();
    let mut peers = open(&gateway, 500).await;
    for peer in &mut peers[..50] {
        peer.say("{\"op\":\"request\",\"id\":1,\"subject\":\"demo.slow\",\"payload\":1500}").await;
    }
    for peer in &mut peers[50..70] {
        peer.say("{\"op\":\"subscribe\",\"id\":1,\"subject\":\"demo.nothing\"}").await;
        assert_eq!(peer.json().await["op"], "accepted");
    }
    gateway.until("ipc_gateway_door_in_flight{door=\"websocket\"}", 50.0);
    gateway.signal(Signal::TERM);
    let mut waits = HashSet::new();
    for (number, mut peer) in peers.into_iter().enumerate() {
        let goodbye = peer.json().await;
        assert_eq!(goodbye["op"], "goaway", "{goodbye}");
        waits.insert(goodbye["retry_after_ms"].as_u64().unwrap());
        if number < 50 {
            let reply = peer.json().await;
            assert_eq!(reply["payload"]["waited_ms"], 1500, "what was in flight is finished: {reply}");
        } else if number < 70 {
            assert_eq!(peer.json().await["error"]["kind"], "draining");
        }
        assert_eq!(peer.closed().await, 1001);
    }
    assert!(waits.iter().all(|wait| (1000..=21_000).contains(wait)), "{waits:?}");
    assert!(waits.len() > 100, "clients come back at different times: {}", waits.len());
    let status = tokio::task::spawn_blocking(move || gateway.wait()).await.unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_request_after_the_goodbye_is_told_that_it_was_not_sent() {
    let gateway = crate::running::Running::start(&[]).await;
    let mut peer = gateway.peer().await;
    peer.say("{\"op\":\"request\",\"id\":1,\"subject\":\"demo.slow\",\"payload\":500}").await;
    gateway.until("in_flight", 1).await;
    let stopping = gateway.stop(crate::peer::PATIENCE);
    assert_eq!(peer.json().await["op"], "goaway");
    peer.say("{\"op\":\"request\",\"id\":2,\"subject\":\"demo.echo\"}").await;
    let refused = peer.json().await;
    assert_eq!((&refused["id"], &refused["error"]["kind"]), (&2.into(), &"draining".into()), "{refused}");
    assert_eq!(refused["error"]["outcome"], "not_sent");
    assert_eq!(peer.json().await["id"], 1);
    assert_eq!(peer.closed().await, 1001);
    assert_eq!(within(stopping).await.unwrap(), 0, "nothing was cut");
}

/// Resident bytes of a process.
#[cfg(target_os = "linux")]
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_idle_socket_costs_little() {
    const COUNT: usize = 5000;
    let gateway = Gateway::start();
    // What is allocated once is allocated before.
    drop(open(&gateway, 10).await);
    gateway.until("ipc_gateway_door_connections{door=\"websocket\"}", 0.0);
    let before = resident(gateway.pid());
    let peers = open(&gateway, COUNT).await;
    let each = (resident(gateway.pid()) - before) / COUNT;
    println!("an idle WebSocket: {each} bytes resident, of {COUNT}");
    assert!(each < 64 * 1024, "{each}");
    drop(peers);
    gateway.stop();
}
