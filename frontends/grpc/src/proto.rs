//! The messages, the service and its client, as made from `proto/gateway/v1/`.

#![expect(
    clippy::pedantic,
    unused_qualifications,
    reason = "generated code is tidy in its own way; its documentation is in the .proto files"
)]

tonic::include_proto!("gateway.v1");

/// The files and all that they import, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gateway.fds"));
