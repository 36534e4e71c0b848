//! The typed settings of the WebSocket door.

use std::time::Duration;

use super::resolved::Resolved;

/// `[websocket]`: WebSockets on the port of the HTTP door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocket {
    /// Whether they are offered.
    pub enabled: bool,
    /// Connections at one time.
    pub connections_max: usize,
    /// Requests in flight of one connection.
    pub in_flight_max: usize,
    /// Subscriptions of one connection.
    pub streams_max: usize,
    /// Bytes of a message.
    pub message_bytes_max: usize,
    /// Fragments of a message.
    pub fragments_max: usize,
    /// How long a message may take.
    pub message_timeout: Duration,
    /// Pings and pongs of a client in a second.
    pub pings_per_second_max: u32,
    /// How often a client is pinged.
    pub ping_interval: Duration,
    /// Bytes waiting for one client at which reading from it stops.
    pub write_queue_bytes_max: usize,
    /// How long a client may take nothing.
    pub write_timeout: Duration,
}

impl WebSocket {
    pub(super) fn from_resolved(settings: &Resolved) -> Self {
        Self {
            enabled: settings.bool("websocket.enabled"),
            connections_max: settings.int("websocket.connections_max"),
            in_flight_max: settings.int("websocket.in_flight_max"),
            streams_max: settings.int("websocket.streams_max"),
            message_bytes_max: settings.int("websocket.message_bytes_max"),
            fragments_max: settings.int("websocket.fragments_max"),
            message_timeout: settings.millis("websocket.message_timeout_ms"),
            pings_per_second_max: settings.int("websocket.pings_per_second_max"),
            ping_interval: settings.millis("websocket.ping_interval_ms"),
            write_queue_bytes_max: settings.int("websocket.write_queue_bytes_max"),
            write_timeout: settings.millis("websocket.write_timeout_ms"),
        }
    }
}
