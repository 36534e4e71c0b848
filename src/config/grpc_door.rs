//! The typed settings of the gRPC door.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::resolved::Resolved;

/// `[grpc]`: the gRPC door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grpc {
    /// Whether it is offered.
    pub enabled: bool,
    /// Address and port; port 0 is any free one.
    pub address: SocketAddr,
    /// A Unix socket to listen on as well.
    pub path: Option<PathBuf>,
    /// The mode of its file, 0 to 0o777.
    pub mode: u32,
    /// Host names that gRPC-Web may use besides localhost and IP addresses.
    pub hosts: Vec<String>,
    /// Origins whose pages may call and read the answers.
    pub origins: Vec<String>,
    /// Connections at one time.
    pub connections_max: usize,
    /// Connections at one time from one address other than loopback; `None`: no limit of its own.
    pub connections_per_address_max: Option<usize>,
    /// How long a client may take to say hello.
    pub handshake_timeout: Duration,
    /// How long a client may take nothing.
    pub write_timeout: Duration,
    /// How long a connection may be without a call.
    pub idle_timeout: Duration,
    /// How often a silent client is pinged.
    pub ping_interval: Duration,
    /// How long it has to answer.
    pub ping_timeout: Duration,
    /// SETTINGS, PING and PRIORITY frames of a connection in a second.
    pub control_frames_per_second_max: u32,
    /// Calls of one connection at one time.
    pub concurrent_streams_max: u32,
    /// Calls taken back before they were looked at.
    pub pending_resets_max: usize,
    /// Bytes that a client may send ahead.
    pub window_bytes: u32,
    /// Bytes of a call's metadata.
    pub header_bytes_max: u32,
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// Requests in flight of one session, 1 to 4096.
    pub in_flight_max: usize,
    /// Subscriptions of one session.
    pub streams_max: usize,
    /// Bytes of a session's answers that wait, at which reading from it stops.
    pub write_queue_bytes_max: usize,
    /// Metadata handed on.
    pub request_headers: Vec<String>,
    /// Responders' headers given back as metadata.
    pub response_headers: Vec<String>,
    /// Bytes of a responder's no in the details of a status.
    pub error_body_bytes_max: usize,
    /// Whether messages are compressed.
    pub gzip: bool,
}

impl Grpc {
    pub(super) fn from_resolved(settings: &Resolved) -> Self {
        let address: IpAddr =
            settings.text("grpc.address").parse().expect("the kind allows IP addresses only");
        Self {
            enabled: settings.bool("grpc.enabled"),
            address: SocketAddr::new(address, settings.int("grpc.port")),
            path: settings.path_if_set("grpc.path"),
            mode: u32::from_str_radix(settings.text("grpc.mode"), 8)
                .expect("the kind allows octal digits only"),
            hosts: settings.texts("grpc.hosts"),
            origins: settings.texts("grpc.origins"),
            connections_max: settings.int("grpc.connections_max"),
            connections_per_address_max: Some(settings.int("grpc.connections_per_address_max"))
                .filter(|max| *max > 0),
            handshake_timeout: settings.millis("grpc.handshake_timeout_ms"),
            write_timeout: settings.millis("grpc.write_timeout_ms"),
            idle_timeout: settings.millis("grpc.idle_timeout_ms"),
            ping_interval: settings.millis("grpc.ping_interval_ms"),
            ping_timeout: settings.millis("grpc.ping_timeout_ms"),
            control_frames_per_second_max: settings.int("grpc.control_frames_per_second_max"),
            concurrent_streams_max: settings.int("grpc.concurrent_streams_max"),
            pending_resets_max: settings.int("grpc.pending_resets_max"),
            window_bytes: settings.int("grpc.window_bytes"),
            header_bytes_max: settings.int("grpc.header_bytes_max"),
            message_bytes_max: settings.int("grpc.message_bytes_max"),
            in_flight_max: settings.int("grpc.in_flight_max"),
            streams_max: settings.int("grpc.streams_max"),
            write_queue_bytes_max: settings.int("grpc.write_queue_bytes_max"),
            request_headers: settings.texts("grpc.request_headers"),
            response_headers: settings.texts("grpc.response_headers"),
            error_body_bytes_max: settings.int("grpc.error_body_bytes_max"),
            gzip: settings.bool("grpc.gzip"),
        }
    }
}
