//! Frames of version 1: the types that it knows, over the frames that it shares with version 2.

use contract::ByteBudget;

pub(crate) use wire::frame::{Broken, Decoded, Decoder, FRAME_BYTES_MAX, HEADER_BYTES, Partial};

/// The version.
pub(crate) const VERSION: u8 = 1;

/// Message types of version 1.
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

/// A decoder of both versions.
pub(crate) fn decoder(budget: ByteBudget) -> Decoder {
    Decoder::new(budget, &[VERSION, wire::binary::VERSION], FRAME_BYTES_MAX)
}

/// The header of a frame of version 1 with a payload of so many bytes.
///
/// # Panics
/// If the frame would be larger than [`FRAME_BYTES_MAX`]; whoever encodes checks that first.
pub(crate) fn header(kind: u8, payload_bytes: usize) -> [u8; HEADER_BYTES] {
    assert!(payload_bytes <= FRAME_BYTES_MAX - HEADER_BYTES, "a payload of {payload_bytes} bytes");
    wire::frame::header(VERSION, kind, payload_bytes)
}
