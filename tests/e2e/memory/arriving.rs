//! Attacks by what arrives: lengths that are lies, messages that never end, bytes that become many, fragments of nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use tokio::time::timeout;

use super::wire::{Http2, grpc_message, header, push, unix, web_socket};
use super::{PAYLOAD_BYTES_MAX, Scene};
use crate::client::kind;
use crate::gateway::PATIENCE;

/// What each of many sends: with all of them four times the memory.
const PIECE_BYTES: usize = 2 << 20;
const CLIENTS: usize = 128;

/// Row 2: lengths of four gigabytes and more, and the largest that is allowed.
pub(super) fn huge_lengths(scene: &Scene) -> (Vec<UnixStream>, Vec<TcpStream>) {
    for _ in 0..CLIENTS {
        let mut stream = unix(scene);
        push(&stream, &[0xFF, 0xFF, 0xFF, 0xFF, 1, 1]);
        let mut told = Vec::new();
        let _ = stream.read_to_end(&mut told);
        assert!(told.len() > 6 && told[5] == kind::RESPONSE_ERROR, "{told:?}");
    }
    let unix = (0..CLIENTS).map(|_| {
        let stream = unix(scene);
        push(&stream, &header(crate::client::FRAME_BYTES_MAX - 6));
        push(&stream, &[b'x'; 100]);
        stream
    });
    let web = (0..CLIENTS).map(|_| {
        let stream = web_socket(scene);
        push(&stream, &[&[0x82, 0xFF][..], &[0x7F; 8], &[0; 4]].concat());
        stream
    });
    (unix.collect(), web.collect())
}

/// Row 21: a thousand heads of requests that are almost as long as they may be, and no more.
pub(super) fn heads_without_an_end(scene: &Scene) -> Vec<TcpStream> {
    let streams: Vec<_> = (0..1000).map(|_| scene.http()).collect();
    for stream in &streams {
        push(stream, b"GET /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\nX: ");
        push(stream, &[b'x'; 32_000]);
    }
    streams
}

/// Row 4: headers, a part of the body, and no more. On the Unix socket.
pub(super) fn frames_without_an_end(scene: &Scene) -> Vec<UnixStream> {
    let streams: Vec<_> = (0..CLIENTS).map(|_| unix(scene)).collect();
    for stream in &streams {
        push(stream, &header(2 * PIECE_BYTES - 6));
        push(stream, &vec![b'x'; PIECE_BYTES]);
    }
    streams
}

/// The same on the HTTP door.
pub(super) fn bodies_without_an_end(scene: &Scene) -> Vec<TcpStream> {
    let streams: Vec<_> = (0..CLIENTS).map(|_| scene.http()).collect();
    for stream in &streams {
        let head = "POST /v1/request/demo.echo HTTP/1.1\r\nHost: localhost\r\n";
        push(stream, format!("{head}Content-Length: {}\r\n\r\n", 2 * PIECE_BYTES).as_bytes());
        push(stream, &vec![b'x'; PIECE_BYTES]);
    }
    streams
}

/// The same on WebSockets.
pub(super) fn messages_without_an_end(scene: &Scene) -> Vec<TcpStream> {
    let streams: Vec<_> = (0..CLIENTS).map(|_| web_socket(scene)).collect();
    for stream in &streams {
        push(stream, &[&[0x01, 0xFF][..], &(2 * PIECE_BYTES as u64).to_be_bytes(), &[0; 4]].concat());
        push(stream, &vec![b'x'; PIECE_BYTES]);
    }
    streams
}

/// The same by gRPC.
pub(super) fn calls_without_an_end(scene: &Scene) -> Vec<Http2> {
    let address = scene.gateway.grpc();
    let body = grpc_message(false, PAYLOAD_BYTES_MAX, &vec![b'x'; PIECE_BYTES]);
    let attack = async {
        let mut connections = Vec::new();
        for _ in 0..CLIENTS {
            let Some(mut connection) = Http2::open(address).await else { continue };
            let _ = connection.call("Request", "identity", body.clone(), false).await;
            connections.push(connection);
        }
        connections
    };
    let connections = scene.runtime.block_on(async { timeout(PATIENCE, attack).await }).unwrap();
    // What of it the gateway takes, it has taken when it has taken nothing for a while.
    let mut before = -1.0;
    loop {
        let now = scene.gateway.metrics().of("ipc_gateway_door_received_bytes_total{door=\"grpc\"}");
        if (now - before).abs() < 0.5 {
            break connections;
        }
        before = now;
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// Row 15, where compression is offered: messages of gRPC of a megabyte that are a gigabyte. (WebSockets offer none.)
pub(super) fn compressed_nothing(scene: &Scene) {
    let body = grpc_message(true, 0, &[]);
    let bomb = bomb();
    let body = Bytes::from([&body[..1], &u32::try_from(bomb.len()).unwrap().to_be_bytes(), &bomb].concat());
    let address = scene.gateway.grpc();
    let attack = async {
        let mut connection = Http2::open(address).await.unwrap();
        for _ in 0..16 {
            connection.call("Request", "gzip", body.clone(), true).await.unwrap();
        }
        let statuses = connection.statuses().await;
        assert!(statuses.iter().all(|status| status != "0"), "{statuses:?}");
    };
    scene.runtime.block_on(async { timeout(PATIENCE, attack).await }).unwrap();
}

/// A gigabyte of zeros, compressed. Made of one megabyte again and again: what was flushed whole knows nothing of what
/// is before it (RFC 1951, section 3.2.3). The checksum is wrong, which nobody knows before the end.
fn bomb() -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.flush().unwrap();
    let head = gzip.get_ref().len();
    gzip.write_all(&vec![0; 1 << 20]).unwrap();
    gzip.flush().unwrap();
    let megabyte = gzip.get_ref()[head..].to_vec();
    let mut all = gzip.get_ref()[..head].to_vec();
    for _ in 0..1024 {
        all.extend_from_slice(&megabyte);
    }
    all
}

/// Row 16: a million fragments of nothing, from each of some.
pub(super) fn empty_fragments(scene: &Scene) -> Vec<TcpStream> {
    let attackers = (0..4).map(|_| {
        let stream = web_socket(scene);
        push(&stream, &[0x01, 0x80, 0, 0, 0, 0]);
        let some = [0x00, 0x80, 0, 0, 0, 0].repeat(1000);
        for _ in 0..1000 {
            // It is closed on long before the last of them.
            push(&stream, &some);
        }
        stream
    });
    attackers.collect()
}
