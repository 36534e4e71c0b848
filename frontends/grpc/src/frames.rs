//! What comes in on a connection of HTTP/2, as far as its frames' headers tell: enough to stop a flood of frames
//! that cost the sender nothing and that no other limit counts.
//!
//! `h2` bounds CONTINUATION frames by the size of the header list, streams that are reset, and small DATA frames;
//! it acknowledges every SETTINGS and answers every PING, however many come. Those, and PRIORITY frames, are counted
//! here: nine bytes of each frame are looked at, the rest is skipped.

use std::time::Duration;

use tokio::time::Instant;

/// What every client of HTTP/2 says first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header (RFC 9113, section 4.1).
const HEADER_BYTES: usize = 9;
/// Bytes after which a client has said hello: the preface and the header of its SETTINGS. No request of HTTP/1.1
/// that means anything here is shorter.
pub(crate) const HELLO_BYTES: u64 = (PREFACE.len() + HEADER_BYTES) as u64;
/// Types of frames that are counted (RFC 9113, section 6): PRIORITY, SETTINGS, PING.
const COUNTED: [u8; 3] = [0x2, 0x4, 0x6];
const SECOND: Duration = Duration::from_secs(1);

/// The frames of one connection.
#[derive(Debug)]
pub(crate) struct Frames {
    per_second_max: u32,
    at: At,
    counted: u32,
    since: Option<Instant>,
}

/// Where in the stream of bytes.
#[derive(Debug)]
enum At {
    /// In the preface, this far.
    Preface(usize),
    /// In a frame's header, this much of it.
    Header([u8; HEADER_BYTES], usize),
    /// In a frame's payload, with this much to come.
    Payload(usize),
    /// Another protocol.
    Other,
}

/// More frames in a second than are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more SETTINGS, PING and PRIORITY frames in a second than grpc.control_frames_per_second_max")]
pub(crate) struct Flood;

impl Frames {
    /// Of a connection that is new.
    pub(crate) fn new(per_second_max: u32) -> Self {
        Self { per_second_max, at: At::Preface(0), counted: 0, since: None }
    }

    /// Looks at what has come.
    pub(crate) fn see(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Other => return Ok(()),
                At::Preface(seen) => {
                    let rest = &PREFACE[*seen..];
                    let length = rest.len().min(bytes.len());
                    if bytes[..length] != rest[..length] {
                        self.at = At::Other;
                        return Ok(());
                    }
                    bytes = &bytes[length..];
                    *seen += length;
                    if *seen == PREFACE.len() {
                        self.at = At::Header([0; HEADER_BYTES], 0);
                    }
                }
                At::Payload(left) => {
                    let length = (*left).min(bytes.len());
                    bytes = &bytes[length..];
                    *left -= length;
                    if *left == 0 {
                        self.at = At::Header([0; HEADER_BYTES], 0);
                    }
                }
                At::Header(header, seen) => {
                    let length = (HEADER_BYTES - *seen).min(bytes.len());
                    header[*seen..*seen + length].copy_from_slice(&bytes[..length]);
                    bytes = &bytes[length..];
                    *seen += length;
                    if *seen == HEADER_BYTES {
                        let [high, middle, low, kind, ..] = *header;
                        let payload = u32::from_be_bytes([0, high, middle, low]) as usize;
                        self.at = match payload {
                            0 => At::Header([0; HEADER_BYTES], 0),
                            payload => At::Payload(payload),
                        };
                        if COUNTED.contains(&kind) {
                            self.count()?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Flood> {
        let now = Instant::now();
        if self.since.is_none_or(|since| now.duration_since(since) >= SECOND) {
            (self.since, self.counted) = (Some(now), 0);
        }
        self.counted += 1;
        if self.counted > self.per_second_max { Err(Flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// DATA of three bytes that look like the start of a SETTINGS frame.
    const DATA: [u8; 12] = [0, 0, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0];

    fn see(frames: &mut Frames, bytes: &[u8], piece: usize) -> Result<(), Flood> {
        bytes.chunks(piece).try_for_each(|piece| frames.see(piece))
    }

    #[tokio::test(start_paused = true)]
    async fn counted_frames_are_bounded_in_a_second_however_the_bytes_come() {
        for piece in [1, 2, 7, 100] {
            let mut frames = Frames::new(2);
            let start = [PREFACE, &SETTINGS, &DATA, &SETTINGS].concat();
            assert_eq!(see(&mut frames, &start, piece), Ok(()));
            assert_eq!(see(&mut frames, &[&DATA[..]; 100].concat(), piece), Ok(()));
            tokio::time::advance(SECOND).await;
            assert_eq!(see(&mut frames, &[&SETTINGS[..]; 2].concat(), piece), Ok(()));
            assert_eq!(see(&mut frames, &SETTINGS, piece), Err(Flood));
        }
    }

    #[tokio::test]
    async fn another_protocol_is_left_alone() {
        let mut frames = Frames::new(0);
        let bytes = [&b"PRI * HTTP/1.1\r\n"[..], &SETTINGS, &SETTINGS].concat();
        assert_eq!(see(&mut frames, &bytes, 3), Ok(()));
    }
}
