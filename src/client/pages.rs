//! The admin listener's pages, fetched over one connection.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long connecting, and how long one page may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The largest page: a thousand routes have some 30 series of 100 bytes each.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The listener.
pub(crate) struct Pages {
    address: SocketAddr,
    sender: SendRequest<Empty<Bytes>>,
}

impl Pages {
    /// Connects. Fails with a line for a person.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, String> {
        let failed = |error: String| {
            format!(
                "cannot reach the admin listener at {address}: {error}; is the gateway running, and is this its \
                 port? Name another with --admin-port PORT"
            )
        };
        let connecting = async {
            let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            let (sender, connection) =
                handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
            // Ends with the connection; what goes wrong is told to whoever asks for a page.
            tokio::spawn(connection);
            Ok(Self { address, sender })
        };
        timeout(LIMIT, connecting).await.unwrap_or_else(|_| Err("no answer".to_owned())).map_err(failed)
    }

    /// A page, whatever its status, and whether that was 200.
    pub(crate) async fn get(&mut self, path: &'static str) -> Result<(bool, Bytes), String> {
        let address = self.address;
        let request = Request::get(path)
            .header("host", address.to_string())
            .body(Empty::new())
            .expect("a path of the program itself and an address make a request");
        let getting = async {
            let answer = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
            let ok = answer.status() == 200;
            let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX);
            let body = body.collect().await.map_err(|error| error.to_string())?;
            Ok((ok, body.to_bytes()))
        };
        timeout(LIMIT, getting)
            .await
            .unwrap_or_else(|_| Err("no answer".to_owned()))
            .map_err(|error: String| format!("no page {path} from http://{address}: {error}"))
    }
}
