//! Clients of the Unix socket, written against the protocol's document and not with the gateway's own code:
//! bytes in, bytes out.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::Scope;

use serde_json::Value;

use crate::gateway::{Gateway, PATIENCE};

/// Types of version 1.
pub(crate) mod kind {
    pub(crate) const TASK_SUBMIT: u8 = 0x01;
    pub(crate) const TASK_QUERY: u8 = 0x02;
    pub(crate) const TASK_CANCEL: u8 = 0x03;
    pub(crate) const STREAM_SUBSCRIBE: u8 = 0x04;
    pub(crate) const STREAM_DATA: u8 = 0x05;
    pub(crate) const STREAM_COMPLETE: u8 = 0x06;
    pub(crate) const STREAM_ERROR: u8 = 0x07;
    pub(crate) const RESPONSE_OK: u8 = 0x10;
    pub(crate) const RESPONSE_ERROR: u8 = 0x11;
    pub(crate) const PING: u8 = 0xF0;
    pub(crate) const PONG: u8 = 0xF1;
    pub(crate) const CAPABILITIES: u8 = 0xF2;
}

/// The largest frame, with its header.
pub(crate) const FRAME_BYTES_MAX: usize = 4_194_304;
/// Bytes of a frame's header.
pub(crate) const HEADER_BYTES: usize = 6;

/// A frame as it is on the wire.
pub(crate) fn frame(kind: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len() + HEADER_BYTES).unwrap();
    [&length.to_be_bytes()[..], &[1, kind], payload].concat()
}

/// A frame that came.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.payload[..self.payload.len().min(200)];
        write!(formatter, "{:#04x} {:?}", self.kind, String::from_utf8_lossy(shown))
    }
}

impl Frame {
    /// The payload as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The payload as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    /// Of an error frame: number, message and the gateway's own code.
    pub(crate) fn error(&self) -> (u64, String, String) {
        assert_eq!(self.kind, kind::RESPONSE_ERROR, "{self:?}");
        error_of(&self.json())
    }
}

/// Number, message and the gateway's own code of an error body.
pub(crate) fn error_of(body: &Value) -> (u64, String, String) {
    assert_eq!(body["ok"], false, "{body}");
    let text = |key: &str| body["error"][key].as_str().unwrap_or_default().to_owned();
    (
        body["error"]["code"].as_u64().unwrap_or_else(|| panic!("no code: {body}")),
        text("message"),
        text("kind"),
    )
}

/// A client of version 1.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    /// Of the frames that must come; that of the first frame sent.
    version: u8,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, version: 1 }
    }

    /// Expects frames of this version from now on.
    #[allow(dead_code, reason = "the documentation has frames of both versions, the other tests of one")]
    pub(crate) fn expect_version(&mut self, version: u8) {
        self.version = version;
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Writes bytes as they are, unless the gateway has closed.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Writes one frame.
    pub(crate) fn send(&mut self, kind: u8, payload: impl AsRef<[u8]>) {
        self.write(&frame(kind, payload));
    }

    /// Writes from a thread of its own, for what is larger than the socket's buffers.
    pub(crate) fn write_aside<'scope>(&self, scope: &'scope Scope<'scope, '_>, bytes: Vec<u8>) {
        let mut stream = self.stream.try_clone().unwrap();
        scope.spawn(move || stream.write_all(&bytes).unwrap());
    }

    /// Reads one frame.
    pub(crate) fn receive(&mut self) -> Frame {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).unwrap_or_else(|error| panic!("no frame came: {error}"));
        let [a, b, c, d, version, kind] = header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        assert!((HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length), "{header:?}");
        assert_eq!(version, self.version, "{header:?}");
        let mut payload = vec![0; length - HEADER_BYTES];
        self.stream.read_exact(&mut payload).unwrap();
        Frame { kind, payload }
    }

    /// Reads once, whatever comes.
    pub(crate) fn read_once(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let read = self.stream.read(&mut buffer).unwrap();
        buffer.truncate(read);
        buffer
    }

    /// Sends one frame and reads one.
    pub(crate) fn ask(&mut self, kind: u8, payload: impl AsRef<[u8]>) -> Frame {
        self.send(kind, payload);
        self.receive()
    }

    /// Sees that the connection serves.
    pub(crate) fn ping(&mut self) {
        assert_eq!(self.ask(kind::PING, ""), Frame { kind: kind::PONG, payload: Vec::new() });
    }

    /// Ends its input, and goes on listening.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Sees that the gateway closes and says nothing more.
    pub(crate) fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("not closed: {error}"),
        }
        assert!(rest.is_empty(), "more came before the end: {rest:?}");
    }
}

/// A client of raw JSON.
#[derive(Debug)]
pub(crate) struct JsonClient {
    stream: BufReader<UnixStream>,
}

impl JsonClient {
    pub(crate) fn connect(socket: &Path) -> Self {
        let Client { stream, .. } = Client::connect(socket);
        Self { stream: BufReader::new(stream) }
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Reads one line, without its newline.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap_or_else(|error| panic!("no line came: {error}"));
        assert_eq!(line.pop(), Some('\n'), "the line has no end: {line}");
        line
    }

    /// Writes and reads one line.
    pub(crate) fn ask(&mut self, document: impl AsRef<[u8]>) -> String {
        self.write(document);
        self.line()
    }

    /// Reads one line, which is an error.
    pub(crate) fn error(&mut self) -> (u64, String, String) {
        error_of(&serde_json::from_str(&self.line()).unwrap())
    }

    /// Ends its input, and goes on listening.
    pub(crate) fn finish(&mut self) {
        self.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    /// Sees that the gateway closes and says nothing more.
    pub(crate) fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "more came before the end: {rest:?}");
    }
}

impl Gateway {
    /// A client that speaks version 1.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// A client that speaks raw JSON.
    pub(crate) fn json(&self) -> JsonClient {
        JsonClient::connect(&self.socket())
    }
}
