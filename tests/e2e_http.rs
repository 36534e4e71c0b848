//! The HTTP door of the whole gateway, over real sockets: raw bytes, and curl.

#![expect(
    clippy::unwrap_used,
    reason = "tests state their expectations with unwrap, in functions they share too"
)]

#[path = "e2e_http/bad_input.rs"]
mod bad_input;
#[path = "e2e_http/browser.rs"]
mod browser;
#[path = "e2e_http/curl.rs"]
mod curl;
#[path = "e2e_http/document.rs"]
mod document;
#[path = "e2e_http/events.rs"]
mod events;
#[path = "e2e_http/fixture.rs"]
mod fixture;
#[path = "e2e_http/mounted.rs"]
mod mounted;
#[path = "e2e_http/parts.rs"]
mod parts;
#[path = "e2e_http/requests.rs"]
mod requests;
#[path = "e2e_http/rest.rs"]
mod rest;
#[path = "fixtures/running.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod running;
#[path = "e2e_http/sites.rs"]
mod sites;

/// The door that is tested.
const DOOR: &str = "http";
