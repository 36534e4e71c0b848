//! The typed settings of the HTTP door.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::resolved::Resolved;

/// `[http]`: the HTTP door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Whether it is offered.
    pub enabled: bool,
    /// Address and port; port 0 is any free one.
    pub address: SocketAddr,
    /// Host names allowed besides localhost and IP addresses.
    pub hosts: Vec<String>,
    /// Origins whose pages may send requests.
    pub origins: Vec<String>,
    /// Origins whose pages may also read the answers.
    pub cors_origins: Vec<String>,
    /// Connections at one time.
    pub connections_max: usize,
    /// Connections at one time from one address other than loopback; `None`: no limit of its own.
    pub connections_per_address_max: Option<usize>,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long a peer may take nothing of what is written to it.
    pub write_timeout: Duration,
    /// How long a connection may be idle.
    pub keep_alive: Duration,
    /// Headers of one request.
    pub headers_max: usize,
    /// Bytes of one request's head.
    pub header_bytes_max: usize,
    /// Pause between the comments that keep an event stream alive.
    pub event_keep_alive: Duration,
    /// Request headers handed on.
    pub request_headers: Vec<String>,
    /// Responders' headers given back.
    pub response_headers: Vec<String>,
    /// Whether JSON is compressed.
    pub gzip: bool,
}

impl Http {
    pub(super) fn from_resolved(settings: &Resolved) -> Self {
        let address: IpAddr =
            settings.text("http.address").parse().expect("the kind allows IP addresses only");
        Self {
            enabled: settings.bool("http.enabled"),
            address: SocketAddr::new(address, settings.int("http.port")),
            hosts: settings.texts("http.hosts"),
            origins: settings.texts("http.origins"),
            cors_origins: settings.texts("http.cors_origins"),
            connections_max: settings.int("http.connections_max"),
            connections_per_address_max: Some(settings.int("http.connections_per_address_max"))
                .filter(|max| *max > 0),
            header_timeout: settings.millis("http.header_timeout_ms"),
            body_timeout: settings.millis("http.body_timeout_ms"),
            write_timeout: settings.millis("http.write_timeout_ms"),
            keep_alive: settings.millis("http.keep_alive_ms"),
            headers_max: settings.int("http.headers_max"),
            header_bytes_max: settings.int("http.header_bytes_max"),
            event_keep_alive: settings.millis("http.event_keep_alive_ms"),
            request_headers: settings.texts("http.request_headers"),
            response_headers: settings.texts("http.response_headers"),
            gzip: settings.bool("http.gzip"),
        }
    }
}
