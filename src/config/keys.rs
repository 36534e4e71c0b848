//! Every setting, declared once: its name, kind, range, default, old names and description.
//!
//! All else is derived from this list: reading the file, the environment and flags, the checks of ranges, the
//! `config` output, the JSON Schema and `config/gateway.toml`. So a setting cannot be known to one of them
//! and unknown to another.

use super::key::{Key, OldName, same};
use super::value::Kind;

const fn int(min: u64, max: u64, unit: &'static str) -> Kind {
    Kind::Int { min, max, unit }
}

const MIB: u64 = 1024 * 1024;
/// The bounds of every deadline of a request, in milliseconds: below, a busy scheduler alone can miss it;
/// above, a request is better a stream.
pub(super) const TIMEOUT_MS: Kind = int(100, 300_000, "ms");
const BOOL: Kind = Kind::Bool;

/// The sections in the order of the file, each with its heading.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("", "The whole program."),
    ("ipc", "The Unix socket door: frames of versions 1 and 2, and raw JSON."),
    ("http", "The HTTP door: requests, publishes and Server-Sent Events."),
    ("websocket", "WebSockets, at /ws on the port of the HTTP door, for its hosts and origins."),
    ("backend", "What is behind the rules."),
    ("nats", "The pool of connections to NATS. Give one kind of credential at most."),
    ("embedded", "The broker inside the process, used when no NATS is configured."),
    ("hub", "Fan-out: one subscription of the backend a pattern, shared by all who listen on it."),
    ("limits", "Limits over all doors. Work above a limit is refused at once, never queued."),
    ("admin", "The listener for health, readiness and metrics."),
    ("drain", "Stopping."),
    ("log", "The log on standard error."),
    ("metrics", "The numbers on the admin listener."),
];

/// All settings outside `[routes.*]`, in the order of the file.
pub static KEYS: &[Key] = &[
    Key::new(
        "allow_anonymous_network",
        BOOL,
        "Whether listeners without authentication may be reached from other machines. Without it only \
         loopback addresses can be bound.",
    )
    .default_to("false"),
    // ipc
    Key::new("ipc.enabled", BOOL, "Whether the Unix socket is offered.")
        .default_to("true")
        .old(&[same("CGW_IPC_ENABLE")]),
    Key::new("ipc.path", Kind::Path, "Where the socket is created.")
        .default_to("/tmp/beamline-gateway.sock")
        .old(&[same("IPC_SOCKET_PATH"), same("CGW_IPC_SOCKET_PATH")]),
    Key::new("ipc.mode", Kind::Mode, "The mode of the socket file.").default_to("0600"),
    Key::new(
        "ipc.connections_max",
        int(1, 1_000_000, "connections"),
        "Connections at one time; one more gets an error frame and is closed.",
    )
    .default_to("1024")
    .old(&[same("CGW_IPC_MAX_CONNECTIONS")]),
    Key::new(
        "ipc.in_flight_max",
        int(1, 4096, "requests"),
        "Requests that one connection may have in flight; at this number reading from it stops.",
    )
    .default_to("256"),
    Key::new("ipc.streams_max", int(1, 4096, "streams"), "Streams that one connection may have open.")
        .default_to("64"),
    Key::new(
        "ipc.buffer_pool_size",
        int(0, 128, "buffers"),
        "Read buffers kept ready. Idle connections hold none.",
    )
    .default_to("32")
    .old(&[same("BUFFER_POOL_SIZE")]),
    Key::new("ipc.buffer_bytes", int(512, 65_536, "bytes"), "Size of a read buffer.")
        .default_to("4096")
        .old(&[same("BUFFER_SIZE")]),
    Key::new(
        "ipc.header_timeout_ms",
        TIMEOUT_MS,
        "How long the six bytes of a frame's header may take, from its first byte.",
    )
    .default_to("5000"),
    Key::new(
        "ipc.body_timeout_ms",
        TIMEOUT_MS,
        "How long the rest of a frame, or one raw JSON document, may take.",
    )
    .default_to("30000"),
    Key::new(
        "ipc.write_queue_bytes_max",
        int(64 * 1024, 1024 * MIB, "bytes"),
        "Replies waiting to be read by one peer; at this number reading from it stops.",
    )
    .default_to("8388608"),
    Key::new(
        "ipc.allow_uids",
        Kind::List(&Kind::Id),
        "Users that may connect, by number. With both lists empty: the gateway's own user and root.",
    )
    .default_to("[]"),
    Key::new("ipc.allow_gids", Kind::List(&Kind::Id), "Groups that may connect, by number; what counts is the effective group of the process.")
        .default_to("[]"),
    Key::new(
        "ipc.failed_as_error",
        BOOL,
        "Whether a version 1 reply whose body says \"ok\": false leaves as an error frame (0x11) instead \
         of RESPONSE_OK with that body.",
    )
    .default_to("false"),
    // http
    Key::new("http.enabled", BOOL, "Whether the HTTP door is offered.").default_to("true"),
    Key::new(
        "http.address",
        Kind::Address,
        "The address it binds. Anything but loopback needs allow_anonymous_network = true.",
    )
    .default_to("127.0.0.1"),
    Key::new("http.port", int(0, 65_535, "0 = any free one"), "Its TCP port.").default_to("8081"),
    Key::new(
        "http.hosts",
        Kind::List(&Kind::Host),
        "Host names that requests may use besides localhost and IP addresses; * allows every name.",
    )
    .default_to("[]"),
    Key::new(
        "http.origins",
        Kind::List(&Kind::Origin),
        "Origins whose web pages may send requests, besides the door's own; * allows every one but null.",
    )
    .default_to("[]"),
    Key::new(
        "http.cors_origins",
        Kind::List(&Kind::Origin),
        "Origins whose web pages may send requests and read the answers (CORS).",
    )
    .default_to("[]"),
    Key::new(
        "http.connections_max",
        int(1, 1_000_000, "connections"),
        "Connections at one time; one more is answered 503 and closed.",
    )
    .default_to("20000"),
    Key::new(
        "http.connections_per_address_max",
        int(0, 1_000_000, "connections, 0 = no limit of its own"),
        "Connections at one time from one address (for IPv6 its first 64 bits). Loopback is not counted.",
    )
    .default_to("256"),
    Key::new(
        "http.header_timeout_ms",
        TIMEOUT_MS,
        "How long a request's head may take, from its first byte.",
    )
    .default_to("5000"),
    Key::new(
        "http.body_timeout_ms",
        TIMEOUT_MS,
        "How long a request's body may take, from the end of its head.",
    )
    .default_to("30000"),
    Key::new(
        "http.write_timeout_ms",
        TIMEOUT_MS,
        "How long a peer may take nothing of what is written to it; then the connection is closed.",
    )
    .default_to("30000"),
    Key::new(
        "http.keep_alive_ms",
        int(100, 3_600_000, "ms"),
        "How long a connection may be idle between two requests; at least http.header_timeout_ms.",
    )
    .default_to("60000"),
    Key::new("http.headers_max", int(8, 1024, "headers"), "Headers of one request; more are answered 431.")
        .default_to("100"),
    Key::new(
        "http.header_bytes_max",
        int(8192, MIB, "bytes"),
        "Size of a request's head; a larger one is answered 431.",
    )
    .default_to("32768"),
    Key::new(
        "http.event_keep_alive_ms",
        int(100, 3_600_000, "ms"),
        "Pause after which a comment keeps a quiet event stream alive.",
    )
    .default_to("15000"),
    Key::new(
        "http.request_headers",
        Kind::List(&Kind::Header),
        "Request headers handed on, as far as the route's own list lets them pass: names, beginnings such as \
         x-*, or *. Credentials and what belongs to the connection never are.",
    )
    .default_to("content-type,content-encoding,idempotency-key,x-request-id,x-correlation-id"),
    Key::new(
        "http.response_headers",
        Kind::List(&Kind::Header),
        "A responder's headers that are given back, in the same form; its Content-Type always is.",
    )
    .default_to("content-encoding,cache-control,etag,x-request-id,x-correlation-id"),
    Key::new("http.gzip", BOOL, "Whether JSON over 1 KiB is compressed for who accepts gzip.")
        .default_to("true"),
    // websocket
    Key::new("websocket.enabled", BOOL, "Whether WebSockets are offered; they need http.enabled.")
        .default_to("true"),
    Key::new(
        "websocket.connections_max",
        int(1, 1_000_000, "connections"),
        "WebSockets at one time; one more is answered 503. They count for http.connections_max too.",
    )
    .default_to("20000"),
    Key::new(
        "websocket.in_flight_max",
        int(1, 4096, "requests"),
        "Requests that one WebSocket may have in flight; at this number reading from it stops.",
    )
    .default_to("256"),
    Key::new("websocket.streams_max", int(1, 4096, "streams"), "Subscriptions that one WebSocket may have open.")
        .default_to("256"),
    Key::new(
        "websocket.message_bytes_max",
        int(8192, 64 * MIB, "bytes"),
        "Largest message, in all its fragments, in both directions; a larger one closes with 1009.",
    )
    .default_to("4194304"),
    Key::new(
        "websocket.fragments_max",
        int(16, 1_000_000, "fragments"),
        "Fragments of one message; more of them close with 1008.",
    )
    .default_to("4096"),
    Key::new("websocket.message_timeout_ms", TIMEOUT_MS, "How long one message may take to arrive.")
        .default_to("30000"),
    Key::new(
        "websocket.pings_per_second_max",
        int(1, 10_000, "pings"),
        "Pings and pongs that a client may send in a second; more of them close with 1008.",
    )
    .default_to("20"),
    Key::new(
        "websocket.ping_interval_ms",
        int(100, 3_600_000, "ms"),
        "How often a client is pinged; who is silent until the next ping is due is closed on with 4408.",
    )
    .default_to("25000"),
    Key::new(
        "websocket.write_queue_bytes_max",
        int(64 * 1024, 1024 * MIB, "bytes"),
        "Answers waiting to be read by one client; at this number reading from it stops.",
    )
    .default_to("1048576"),
    Key::new(
        "websocket.write_timeout_ms",
        TIMEOUT_MS,
        "How long a client may take nothing of what is written to it; then the connection is dropped.",
    )
    .default_to("30000"),
    // backend
    Key::new(
        "backend.kind",
        Kind::Choice(&["auto", "embedded", "nats"]),
        "auto is nats when nats.urls names a server, and embedded otherwise. nats without an address is \
         an error: set it in production.",
    )
    .default_to("auto")
    .old(&[OldName { name: "CGW_IPC_NATS_ENABLE", switch: Some(("embedded", "nats")) }]),
    // nats
    Key::new(
        "nats.urls",
        Kind::List(&Kind::Url),
        "Servers of one cluster. An address that cannot be parsed is an error.",
    )
    .default_to("[]")
    .old(&[same("NATS_URL"), same("CGW_IPC_NATS_URL")]),
    Key::new("nats.pool_connections_min", int(1, 256, "connections"), "Connections kept open.")
        .default_to("2")
        .old(&[same("NATS_POOL_MIN_CONNECTIONS")]),
    Key::new("nats.pool_connections_max", int(1, 256, "connections"), "Connections opened under load.")
        .default_to("10")
        .old(&[same("NATS_POOL_MAX_CONNECTIONS")]),
    Key::new(
        "nats.in_flight_per_connection",
        int(1, 65_536, "requests"),
        "The pool grows while the mean of requests in flight per connection is above this. A Unix-socket client \
         of version 1 keeps to one connection; when that one has more than this in flight, the client moves to one \
         with at most half as many as soon as nothing of its own is on its way.",
    )
    .default_to("128"),
    Key::new(
        "nats.idle_shrink_ms",
        int(1000, 86_400_000, "ms"),
        "How long a connection above the minimum may be idle before it is closed.",
    )
    .default_to("60000"),
    Key::new("nats.connect_timeout_ms", TIMEOUT_MS, "How long one attempt to connect may take.")
        .default_to("5000"),
    Key::new(
        "nats.reconnect_attempts_max",
        int(0, 1_000_000, "attempts, 0 = endless"),
        "Attempts to reconnect before a connection gives up.",
    )
    .default_to("0"),
    Key::new(
        "nats.reconnect_delay_ms_max",
        int(10, 300_000, "ms"),
        "Longest wait between two attempts; the wait is random below it.",
    )
    .default_to("5000"),
    Key::new("nats.ping_interval_ms", int(100, 300_000, "ms"), "How often a connection is probed.")
        .default_to("10000"),
    Key::new("nats.inbox_prefix", Kind::Prefix, "First tokens of the subjects that replies come back on.")
        .default_to("_INBOX"),
    Key::new(
        "nats.inbox_slots_max",
        int(1, 1_048_576, "requests"),
        "Requests of one connection that may wait for an answer.",
    )
    .default_to("65536"),
    Key::new(
        "nats.subscription_capacity",
        int(16, 1_048_576, "messages"),
        "Messages queued per subscription.",
    )
    .default_to("4096"),
    Key::new("nats.publish_queue", int(16, 1_048_576, "commands"), "Commands queued per connection.")
        .default_to("8192"),
    Key::new(
        "nats.publish_queue_bytes_max",
        int(64 * 1024, 1024 * MIB, "bytes"),
        "Bytes queued per connection, without messages of up to 4 KiB. Above it requests are refused and \
         publishes wait.",
    )
    .default_to("16777216"),
    Key::new("nats.user", Kind::Text, "User name; needs nats.password.").example("gateway"),
    Key::new("nats.password", Kind::Secret, "Password of nats.user.").example("change me"),
    Key::new("nats.token", Kind::Secret, "Token.").example("change me"),
    Key::new("nats.nkey_seed", Kind::Secret, "Seed of an nkey, as text.").example("SU..."),
    Key::new("nats.credentials_file", Kind::Path, "A .creds file: a JWT and its seed.")
        .example("/run/secrets/gateway.creds"),
    Key::new("nats.tls", BOOL, "Whether a connection without TLS is refused.").default_to("false"),
    Key::new(
        "nats.tls_first",
        BOOL,
        "Whether the TLS handshake comes before the server's greeting; needs nats.tls.",
    )
    .default_to("false"),
    Key::new(
        "nats.tls_ca_file",
        Kind::Path,
        "Certificates (PEM) that the server's certificate is checked against, instead of the system's.",
    )
    .example("/etc/ipc-gateway/ca.pem"),
    Key::new(
        "nats.tls_certificate_file",
        Kind::Path,
        "Certificate (PEM) shown to the server; needs nats.tls_key_file.",
    )
    .example("/etc/ipc-gateway/client.pem"),
    Key::new("nats.tls_key_file", Kind::Path, "Private key (PEM) of that certificate.")
        .example("/run/secrets/client.key"),
    // embedded
    Key::new("embedded.demo", BOOL, "Whether the built-in demo responders answer.").default_to("true"),
    Key::new("embedded.tick_ms", int(10, 3_600_000, "ms"), "Interval of the demo's ticking subject.")
        .default_to("1000"),
    Key::new(
        "embedded.subscription_capacity",
        int(16, 1_048_576, "messages"),
        "Messages queued per subscription.",
    )
    .default_to("1024"),
    Key::new("embedded.payload_bytes_max", int(1024, 64 * MIB, "bytes"), "Largest payload the broker takes.")
        .default_to("8388608"),
    // hub
    Key::new(
        "hub.linger_ms",
        int(0, 3_600_000, "ms"),
        "How long the subscription of a pattern is kept after its last listener left.",
    )
    .default_to("5000"),
    Key::new("hub.open_timeout_ms", TIMEOUT_MS, "How long the backend may take to open a subscription.")
        .default_to("5000"),
    Key::new(
        "hub.patterns_max",
        int(1, 1_000_000, "patterns"),
        "Patterns subscribed at one time; those that nobody listens on give way first.",
    )
    .default_to("4096"),
    Key::new("hub.queue_messages_max", QUEUE_MESSAGES, "Unread messages kept for one listener.")
        .default_to("1024"),
    Key::new("hub.queue_bytes_max", QUEUE_BYTES, "Bytes of unread messages kept for one listener.")
        .default_to("8388608"),
    // limits
    Key::new(
        "limits.timeout_ms",
        TIMEOUT_MS,
        "Deadline of a request that brings none of its own and whose route has none.",
    )
    .default_to("30000")
    .old(&[same("CGW_IPC_TIMEOUT_MS")]),
    Key::new(
        "limits.timeout_ms_max",
        TIMEOUT_MS,
        "Longest deadline that a peer may ask for; a longer one is cut to it.",
    )
    .default_to("300000"),
    Key::new(
        "limits.payload_bytes_max",
        int(1024, 64 * MIB, "bytes"),
        "Largest payload of a request; doors and servers may have lower limits of their own.",
    )
    .default_to("8388608"),
    Key::new(
        "limits.memory_bytes_max",
        int(MIB, 1024 * 1024 * MIB, "bytes"),
        "Memory for read buffers and waiting replies of all connections together.",
    )
    .default_to("268435456"),
    Key::new("limits.calls_max", int(1, 1_000_000, "requests"), "Requests in progress in all.")
        .default_to("8192"),
    Key::new("limits.streams_max", int(1, 1_000_000, "streams"), "Open streams in all.").default_to("4096"),
    Key::new("limits.rate_per_second", RATE, "Requests a second in all.").default_to("0"),
    Key::new("limits.rate_burst", BURST, "Requests that may come at once above that rate.").default_to("0"),
    Key::new("limits.peer_rate_per_second", RATE, "Requests a second of one peer.").default_to("0"),
    Key::new("limits.peer_rate_burst", BURST, "Requests of one peer that may come at once above that rate.")
        .default_to("0"),
    Key::new(
        "limits.peers_max",
        int(1, 16_777_216, "peers"),
        "Peers whose rate is remembered; who has nothing spent is forgotten, and beyond that newcomers share one rate.",
    )
    .default_to("65536"),
    Key::new(
        "limits.peer_rate_local",
        BOOL,
        "Whether the peers' rate also holds for local peers, that is on the Unix socket.",
    )
    .default_to("false"),
    // admin
    Key::new("admin.enabled", BOOL, "Whether the listener is offered.").default_to("true"),
    Key::new(
        "admin.address",
        Kind::Address,
        "The address it binds. Anything but loopback needs allow_anonymous_network = true.",
    )
    .default_to("127.0.0.1"),
    Key::new("admin.port", int(0, 65_535, "0 = any free one"), "Its TCP port.")
        .default_to("8080")
        .old(&[same("GATEWAY_PORT")]),
    Key::new(
        "admin.hosts",
        Kind::List(&Kind::Host),
        "Host names that requests may use besides localhost and IP addresses; * allows every name.",
    )
    .default_to("[]"),
    Key::new("admin.connections_max", int(1, 65_536, "connections"), "Connections at one time.")
        .default_to("64"),
    // drain, log, metrics
    Key::new(
        "drain.grace_ms",
        int(0, 3_600_000, "ms"),
        "How long work in flight may take after the signal to stop.",
    )
    .default_to("30000"),
    Key::new(
        "log.level",
        Kind::Filter,
        "What is logged: a level (off, error, warn, info, debug, trace), or directives such as \
         warn,ipc_gateway=debug.",
    )
    .default_to("info")
    .old(&[same("RUST_LOG")]),
    Key::new(
        "log.format",
        Kind::Choice(&["auto", "human", "json"]),
        "auto is human on a terminal and json otherwise.",
    )
    .default_to("auto"),
    Key::new(
        "metrics.old_names",
        BOOL,
        "Whether the predecessor's metric names are offered beside the new ones.",
    )
    .default_to("true"),
];

/// A rate; shared with the routes.
pub(super) const RATE: Kind = int(0, 10_000_000, "a second, 0 = no limit");
/// What a rate's bucket holds; shared with the routes.
pub(super) const BURST: Kind = int(0, 10_000_000, "requests, 0 = the same as the rate");

/// Messages that one listener's queue may hold; shared with the routes.
pub(super) const QUEUE_MESSAGES: Kind = int(1, 1_048_576, "messages");
/// Bytes that one listener's queue may hold; shared with the routes. The newest message is kept in any case.
pub(super) const QUEUE_BYTES: Kind = int(1024, 1024 * MIB, "bytes");
