//! The keys of `[grpc]`.

use super::{BOOL, MIB, Section, TIMEOUT_MS, int};
use crate::config::key::Key;
use crate::config::value::Kind;

pub(super) static SECTION: Section = Section {
    name: "grpc",
    heading: "The gRPC door: gateway.v1.Gateway over HTTP/2 without TLS, and gRPC-Web.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    Key::new("grpc.enabled", BOOL, "Whether the gRPC door is offered.").default_to("true"),
    Key::new(
        "grpc.address",
        Kind::Address,
        "The address it binds. Anything but loopback needs allow_anonymous_network = true.",
    )
    .default_to("127.0.0.1"),
    Key::new("grpc.port", int(0, 65_535, "0 = any free one"), "Its TCP port.").default_to("50051"),
    Key::new(
        "grpc.path",
        Kind::Path,
        "A Unix socket to listen on as well. Who may connect there is said by ipc.allow_uids and ipc.allow_gids.",
    )
    .example("/run/ipc-gateway/grpc.sock"),
    Key::new("grpc.mode", Kind::Mode, "The mode of that socket's file.").default_to("0600"),
    Key::new(
        "grpc.hosts",
        Kind::List(&Kind::Host),
        "Host names that gRPC-Web may use besides localhost and IP addresses; * allows every name. Clients of \
         plain gRPC may use any name, since no web page can speak it.",
    )
    .default_to("[]"),
    Key::new(
        "grpc.origins",
        Kind::List(&Kind::Origin),
        "Origins whose web pages may call by gRPC-Web and read the answers; * allows every one but null.",
    )
    .default_to("[]"),
    Key::new(
        "grpc.connections_max",
        int(1, 1_000_000, "connections"),
        "Connections at one time; one more is closed.",
    )
    .default_to("4000"),
    Key::new(
        "grpc.connections_per_address_max",
        int(0, 1_000_000, "connections, 0 = no limit of its own"),
        "Connections at one time from one address (for IPv6 its first 64 bits). Loopback is not counted.",
    )
    .default_to("256"),
    Key::new(
        "grpc.handshake_timeout_ms",
        TIMEOUT_MS,
        "How long a client may take to say hello: HTTP/2's preface, or the head of a request of HTTP/1.1.",
    )
    .default_to("5000"),
    Key::new(
        "grpc.write_timeout_ms",
        TIMEOUT_MS,
        "How long a client may take nothing of what is written to it, or of 64 KiB of one answer; then the \
         connection is closed.",
    )
    .default_to("30000"),
    Key::new(
        "grpc.idle_timeout_ms",
        int(100, 86_400_000, "ms"),
        "How long a connection may be without a call, give or take as much again; then it gets a GOAWAY.",
    )
    .default_to("300000"),
    Key::new("grpc.ping_interval_ms", int(100, 3_600_000, "ms"), "How often a silent client is pinged.")
        .default_to("30000"),
    Key::new("grpc.ping_timeout_ms", TIMEOUT_MS, "How long it has to answer; then the connection is closed.")
        .default_to("10000"),
    Key::new(
        "grpc.control_frames_per_second_max",
        int(10, 10_000_000, "frames"),
        "SETTINGS, PING and PRIORITY frames of one connection in a second; more close it.",
    )
    .default_to("10000"),
    Key::new(
        "grpc.concurrent_streams_max",
        int(1, 100_000, "calls"),
        "Calls of one connection at one time; HTTP/2 tells the client, which waits with the next.",
    )
    .default_to("256"),
    Key::new(
        "grpc.window_bytes",
        int(65_535, 16 * MIB, "bytes"),
        "Bytes that a client may send ahead on a call before they are taken; on all calls of a connection together it is \
         1 MiB, or this if it is more. A larger window is for clients that are far away, and is memory that each call \
         may take.",
    )
    .default_to("65535"),
    Key::new(
        "grpc.pending_resets_max",
        int(1, 10_000, "calls"),
        "Calls that a client took back before they were looked at; more close the connection (rapid reset).",
    )
    .default_to("20"),
    Key::new(
        "grpc.header_bytes_max",
        int(1024, MIB, "bytes"),
        "Metadata of one call, as HTTP/2 counts it: 32 bytes a header more than it has.",
    )
    .default_to("16384"),
    Key::new(
        "grpc.message_bytes_max",
        int(1024, 64 * MIB, "bytes"),
        "Size of one message either way, decompressed: a payload with its subject and headers.",
    )
    .default_to("4259840"),
    Key::new(
        "grpc.in_flight_max",
        int(1, 4096, "requests"),
        "Requests that one session may have in flight; at this number reading from it stops.",
    )
    .default_to("256"),
    Key::new("grpc.streams_max", int(1, 4096, "streams"), "Subscriptions that one session may have open.")
        .default_to("64"),
    Key::new(
        "grpc.write_queue_bytes_max",
        int(64 * 1024, 1024 * MIB, "bytes"),
        "Answers of one session that its client has not taken; at this size reading from it stops.",
    )
    .default_to("8388608"),
    Key::new(
        "grpc.request_headers",
        Kind::List(&Kind::Header),
        "Metadata handed on as headers, as far as the route's own list lets it pass: names, beginnings such as \
         x-*, or *. Credentials, binary metadata and what belongs to the connection never are; idempotency-key \
         always is, for the gateway reads it.",
    )
    .default_to("idempotency-key,x-request-id,x-correlation-id"),
    Key::new(
        "grpc.response_headers",
        Kind::List(&Kind::Header),
        "A responder's headers that come back as metadata too, in the same form.",
    )
    .default_to("x-request-id,x-correlation-id"),
    Key::new(
        "grpc.error_body_bytes_max",
        int(0, 65_536, "bytes"),
        "A responder's no of up to this size is in the details of the status. They are sent as a header, and \
         most clients take 8 KiB of headers.",
    )
    .default_to("4096"),
    Key::new(
        "grpc.gzip",
        BOOL,
        "Whether messages are compressed for who accepts gzip, which every client says. Compressed ones are \
         always taken.",
    )
    .default_to("false"),
];
