//! Many sockets at once on the real program: they cost little while idle.

use crate::gateway::Gateway;
use crate::peer::Peer;
use crate::running::within;

/// So many peers that speak JSON.
pub(crate) async fn open(gateway: &Gateway, count: usize) -> Vec<Peer> {
    let address = gateway.http();
    let mut peers = Vec::new();
    for _ in 0..count {
        peers.push(Peer::open(address, "ipc-gateway.v1+json").await);
    }
    peers
}

#[tokio::test]
async fn a_request_after_the_goodbye_is_told_that_it_was_not_sent() {
    let gateway = crate::running::Running::start(&[]).await;
    let mut peer = gateway.peer().await;
    peer.say("{\"op\":\"request\",\"id\":1,\"subject\":\"demo.slow\",\"payload\":500}").await;
    gateway.until("in_flight", 1).await;
    let stopping = gateway.stop_within(crate::running::PATIENCE);
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
