//! An echo of WebSocket messages for conformance suites, with the socket that the door uses and 16 MiB messages.
//!
//! Listens on a free loopback port, prints it, and serves until it is killed. Only the handshake is its own: the
//! suite's requests have no origin and no subprotocol to judge. `tests/autobahn` runs it.

#![expect(clippy::print_stdout, reason = "the port is told to whoever started this")]

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use contract::{ByteBudget, DoorMeters};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tungstenite::handshake::derive_accept_key;
use websocket::close::Ending;
use websocket::socket::{Bounds, Listener, Socket};
use websocket::{Message, Outbox};
use wire::Sink;
use wire::departure::Departure;

const MIB: usize = 1024 * 1024;

/// Says back what it hears.
struct Echo;

impl Listener for Echo {
    fn has_room(&self, unwritten: usize) -> bool {
        unwritten < 16 * MIB
    }

    fn hear(&mut self, message: Message, outbox: &mut Outbox) -> Option<Ending> {
        outbox.message(message.text, |draft| draft.share(message.payload));
        None
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        // A suite breaks most connections on purpose.
        tokio::spawn(async move { serve(stream).await.ok() });
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let key = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .map_or("", |(_, key)| key.trim());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(answer.as_bytes()).await?;
    let bounds = Bounds {
        message_bytes_max: 16 * MIB,
        // The suite sends 4 MiB in fragments of 64 bytes, and its pings as fast as it can.
        fragments_max: 1 << 20,
        pings_per_second_max: u32::MAX,
        message_timeout: Duration::from_secs(100),
        ping_interval: Duration::from_secs(100),
        write_timeout: Duration::from_secs(100),
        close_timeout: Duration::from_secs(1),
    };
    let (meters, budget) = (Arc::<DoorMeters>::default(), ByteBudget::new(64 * MIB));
    let mut socket = Socket::new(stream, Departure::untold(), Arc::new(bounds), meters, &budget);
    poll_fn(|context| poll(&mut socket, context)).await
}

fn poll(socket: &mut Socket<TcpStream>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    loop {
        let mut moved = socket.poll_write(context)?;
        moved |= socket.poll_read(context, &mut Echo)?;
        if socket.is_over() {
            return Poll::Ready(Ok(()));
        }
        if !moved && !socket.poll_clocks(context, &Echo)? {
            return Poll::Pending;
        }
    }
}
