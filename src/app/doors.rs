//! From the configuration to the doors' own settings.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use wire::site::Site;

use crate::config::{self, Config};
use crate::holder::tcp_holder;

/// The Unix socket's.
pub(super) fn unix_socket(config: &config::Ipc) -> ipc::Settings {
    ipc::Settings {
        path: config.path.clone(),
        mode: config.mode,
        connections_max: config.connections_max,
        in_flight_max: config.in_flight_max,
        streams_max: config.streams_max,
        buffers_ready: config.buffer_pool_size,
        buffer_bytes: config.buffer_bytes,
        write_queue_bytes_max: config.write_queue_bytes_max,
        header_timeout: config.header_timeout,
        body_timeout: config.body_timeout,
        write_timeout: config.write_timeout,
        failed_as_error: config.failed_as_error,
    }
}

/// The configured routes in force, and what tells how the gateway stands.
pub(super) type Rest = (watch::Receiver<Arc<http_door::rest::Table>>, http_door::rest::Stand);

/// The HTTP door's.
pub(super) fn http<M>(config: &Config, (rest, stand): Rest, mount: M) -> http_door::Settings<M> {
    let settings = config.http.clone();
    http_door::Settings {
        address: settings.address,
        hosts: settings.hosts,
        origins: settings.origins,
        cors_origins: settings.cors_origins,
        connections_max: settings.connections_max,
        connections_per_address_max: settings.connections_per_address_max,
        header_timeout: settings.header_timeout,
        body_timeout: settings.body_timeout,
        write_timeout: settings.write_timeout,
        keep_alive: settings.keep_alive,
        headers_max: settings.headers_max,
        header_bytes_max: settings.header_bytes_max,
        payload_bytes_max: config.limits.payload_bytes_max,
        event_keep_alive: settings.event_keep_alive,
        request_headers: settings.request_headers,
        response_headers: settings.response_headers,
        gzip: settings.gzip,
        rest,
        stand,
        holder: |address| tcp_holder(address).map(|holder| holder.to_string()),
        mount,
    }
}

/// How long a WebSocket's peer gets to answer a close: a gateway that stops, with nothing in flight, is gone
/// within a second.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Of WebSockets, which are on the HTTP door's port and so for its hosts and origins.
pub(super) fn websocket(config: &Config) -> websocket::Settings {
    let (http, settings) = (&config.http, &config.websocket);
    websocket::Settings {
        site: Site::new("http", &http.hosts).with_origins(http.origins.iter().chain(&http.cors_origins)),
        connections_max: settings.connections_max,
        in_flight_max: settings.in_flight_max,
        streams_max: settings.streams_max,
        write_queue_bytes_max: settings.write_queue_bytes_max,
        bounds: Arc::new(websocket::socket::Bounds {
            message_bytes_max: settings.message_bytes_max,
            fragments_max: settings.fragments_max,
            message_timeout: settings.message_timeout,
            pings_per_second_max: settings.pings_per_second_max,
            ping_interval: settings.ping_interval,
            write_timeout: settings.write_timeout,
            close_timeout: CLOSE_TIMEOUT,
        }),
    }
}

/// The gRPC door's; `ready` says whether the backend can be reached.
pub(super) fn grpc(config: &config::Grpc, ready: grpc::Ready) -> grpc::Settings {
    let settings = config.clone();
    grpc::Settings {
        address: settings.address,
        socket: settings.path.map(|path| (path, settings.mode)),
        hosts: settings.hosts,
        origins: settings.origins,
        connections_max: settings.connections_max,
        connections_per_address_max: settings.connections_per_address_max,
        handshake_timeout: settings.handshake_timeout,
        write_timeout: settings.write_timeout,
        idle_timeout: settings.idle_timeout,
        ping_interval: settings.ping_interval,
        ping_timeout: settings.ping_timeout,
        control_frames_per_second_max: settings.control_frames_per_second_max,
        concurrent_streams_max: settings.concurrent_streams_max,
        pending_resets_max: settings.pending_resets_max,
        window_bytes: settings.window_bytes,
        header_bytes_max: settings.header_bytes_max,
        message_bytes_max: settings.message_bytes_max,
        in_flight_max: settings.in_flight_max,
        streams_max: settings.streams_max,
        write_queue_bytes_max: settings.write_queue_bytes_max,
        request_headers: settings.request_headers,
        response_headers: settings.response_headers,
        error_body_bytes_max: settings.error_body_bytes_max,
        gzip: settings.gzip,
        ready,
        holder: |address| tcp_holder(address).map(|holder| holder.to_string()),
    }
}
