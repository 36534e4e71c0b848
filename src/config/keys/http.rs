//! The keys of `[http]`.

use super::{BOOL, MIB, Section, TIMEOUT_MS, int};
use crate::config::key::Key;
use crate::config::value::Kind;

pub(super) static SECTION: Section = Section {
    name: "http",
    heading: "The HTTP door: requests, publishes and Server-Sent Events.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
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
         x-*, or *. Credentials and what belongs to the connection never are; Idempotency-Key always is, for the \
         gateway reads it.",
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
];
