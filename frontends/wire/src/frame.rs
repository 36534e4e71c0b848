//! Frames, as versions 1 and 2 of the IPC protocol share them: four bytes of length (big-endian, of the whole
//! frame), a byte of version, a byte of type, then the payload (`docs/protocols/ipc-v2.md`).
//!
//! The decoder is incremental and charges the byte budget for what has arrived, never for what a length
//! field promises. A body that does not fit the budget is skipped and answered, so that the connection stays.
//! One decoder serves a connection whatever its version, because byte 4 of its first frame decides that.

use bytes::{Bytes, BytesMut};
use contract::{ByteBudget, Charge};

use crate::charged::room;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 6;
/// Bytes of the largest frame, with its header, unless a decoder is told otherwise.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes kept of a payload that is skipped: in version 2 they hold the id to answer.
pub const START_BYTES: usize = 12;

/// The one frame whose payload is never kept: a PING of version 1 may be as large as any frame, and nothing
/// depends on what is in it.
const HOLLOW: (u8, u8) = (1, 0xF0);

/// What the decoder found.
#[derive(Debug)]
pub enum Decoded {
    /// A whole frame.
    Frame {
        /// Its version, which is that of the connection.
        version: u8,
        /// Its type.
        kind: u8,
        /// What is behind the header. That of a PING of version 1 is not kept.
        payload: Bytes,
        /// What the payload costs the byte budget, as long as it is kept.
        charge: Option<Charge>,
    },
    /// A whole frame whose payload did not fit the byte budget and was skipped.
    Skipped {
        /// Its version, which is that of the connection.
        version: u8,
        /// Its type.
        kind: u8,
        /// The first bytes of the payload, at most [`START_BYTES`].
        start: Bytes,
    },
    /// Not a frame: nothing after it can be understood.
    Broken(Broken),
}

/// Why the bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The length is over the limit.
    TooLarge,
    /// The length is less than that of a header.
    TooShort,
    /// The version is not spoken, or not that of the first frame.
    Version,
}

/// Where the decoder stands, for deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    /// Between frames.
    Nothing,
    /// Within a header (or, in raw JSON, nothing of the kind).
    Header,
    /// Within a body.
    Body,
}

/// The incremental decoder.
#[derive(Debug)]
pub struct Decoder {
    budget: ByteBudget,
    versions: &'static [u8],
    frame_bytes_max: usize,
    version: Option<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; HEADER_BYTES], have: usize },
    Body { kind: u8, need: usize, body: BytesMut, charge: Charge },
    Skip { kind: u8, need: usize, start: BytesMut },
}

const START: State = State::Header { bytes: [0; HEADER_BYTES], have: 0 };

impl Decoder {
    /// A decoder that takes the `versions` given, and frames of at most `frame_bytes_max` bytes with their
    /// header. The first frame's version is the only one from then on.
    pub fn new(budget: ByteBudget, versions: &'static [u8], frame_bytes_max: usize) -> Self {
        Self { budget, versions, frame_bytes_max, version: None, state: START }
    }

    /// The version of the connection; `None` until the fifth byte of its first frame is here.
    pub fn version(&self) -> Option<u8> {
        self.version
    }

    /// Takes bytes from the front of `input` until something is found (the rest stays in `input`), or until
    /// it is empty.
    pub fn decode(&mut self, input: &mut &[u8]) -> Option<Decoded> {
        loop {
            match &mut self.state {
                State::Header { bytes, have } => {
                    let taken = take(input, HEADER_BYTES - *have);
                    bytes[*have..*have + taken.len()].copy_from_slice(taken);
                    *have += taken.len();
                    let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
                    let [.., version, kind] = *bytes;
                    // Each fact is judged as soon as its bytes are here: a peer may wait for the answer.
                    let broken = match *have {
                        4.. if length > self.frame_bytes_max => Some(Broken::TooLarge),
                        4.. if length < HEADER_BYTES => Some(Broken::TooShort),
                        5.. if self.version.is_some_and(|first| first != version) => Some(Broken::Version),
                        5.. if !self.versions.contains(&version) => Some(Broken::Version),
                        _ => None,
                    };
                    if let Some(broken) = broken {
                        return Some(Decoded::Broken(broken));
                    }
                    if *have > 4 {
                        self.version = Some(version);
                    }
                    if *have < HEADER_BYTES {
                        return None;
                    }
                    if let Some(decoded) = self.begin(kind, length - HEADER_BYTES, input) {
                        return Some(decoded);
                    }
                }
                State::Body { need, body, charge, .. } => {
                    let arrived = input.len().min(*need - body.len());
                    if !room(body, *need, arrived, charge) {
                        self.skip();
                        continue;
                    }
                    body.extend_from_slice(take(input, arrived));
                    return self.finish();
                }
                State::Skip { kind, need, start } => {
                    let skipped = take(input, *need);
                    *need -= skipped.len();
                    start.extend_from_slice(&skipped[..skipped.len().min(START_BYTES - start.len())]);
                    if *need > 0 {
                        return None;
                    }
                    let (kind, start) = (*kind, std::mem::take(start).freeze());
                    self.state = START;
                    return Some(self.skipped(kind, start));
                }
            }
        }
    }

    /// The buffer to read into directly, and how many bytes it may take, when what is missing of a body is
    /// larger than `than`. After reading call [`Self::finish`].
    pub fn body(&mut self, than: usize) -> Option<(&mut BytesMut, usize)> {
        let State::Body { need, body, charge, .. } = &mut self.state else { return None };
        let missing = *need - body.len();
        if missing <= than {
            return None;
        }
        let step = missing.min(READ_BYTES);
        room(body, *need, step, charge).then_some((body, step))
    }

    /// The frame, if its body is whole.
    pub fn finish(&mut self) -> Option<Decoded> {
        match &self.state {
            State::Body { need, body, .. } if body.len() == *need => {}
            _ => return None,
        }
        let State::Body { kind, body, charge, .. } = std::mem::replace(&mut self.state, START) else {
            return None;
        };
        Some(self.frame(kind, body.freeze(), Some(charge)))
    }

    /// Where it stands.
    pub fn partial(&self) -> Partial {
        match &self.state {
            State::Header { have: 0, .. } => Partial::Nothing,
            State::Header { .. } => Partial::Header,
            State::Body { .. } | State::Skip { .. } => Partial::Body,
        }
    }

    fn begin(&mut self, kind: u8, need: usize, input: &mut &[u8]) -> Option<Decoded> {
        if self.is_hollow(kind) && need > 0 {
            self.state = State::Skip { kind, need, start: BytesMut::new() };
            return None;
        }
        if input.len() < need {
            let charge = self.budget.charge_always(0);
            self.state = State::Body { kind, need, body: BytesMut::new(), charge };
            return None;
        }
        // All of it is here: the payload is copied once, so that it does not pin the read buffer.
        self.state = START;
        let payload = take(input, need);
        if payload.is_empty() {
            return Some(self.frame(kind, Bytes::new(), None));
        }
        let mut charge = self.budget.charge_always(0);
        Some(if charge.grow_message(need) {
            self.frame(kind, copy(payload), Some(charge))
        } else {
            self.skipped(kind, Bytes::copy_from_slice(&payload[..need.min(START_BYTES)]))
        })
    }

    fn skip(&mut self) {
        if let State::Body { kind, need, body, .. } = &self.state {
            let start = BytesMut::from(&body[..body.len().min(START_BYTES)]);
            self.state = State::Skip { kind: *kind, need: *need - body.len(), start };
        }
    }

    fn frame(&self, kind: u8, payload: Bytes, charge: Option<Charge>) -> Decoded {
        let version = self.version.expect("a frame has passed its fifth byte");
        Decoded::Frame { version, kind, payload, charge }
    }

    fn skipped(&self, kind: u8, start: Bytes) -> Decoded {
        if self.is_hollow(kind) {
            return self.frame(kind, Bytes::new(), None);
        }
        let version = self.version.expect("a frame has passed its fifth byte");
        Decoded::Skipped { version, kind, start }
    }

    fn is_hollow(&self, kind: u8) -> bool {
        self.version == Some(HOLLOW.0) && kind == HOLLOW.1
    }
}

/// A copy that costs one allocation, also once it is sliced: plain [`Bytes`] allocate a second time for their
/// first slice, and a message of version 2 is taken apart by slicing. Each size has room for the headers and
/// the subject beside a payload of a power of two.
fn copy(body: &[u8]) -> Bytes {
    struct Inline<const N: usize> {
        bytes: [u8; N],
        len: usize,
    }
    impl<const N: usize> AsRef<[u8]> for Inline<N> {
        fn as_ref(&self) -> &[u8] {
            &self.bytes[..self.len]
        }
    }
    fn inline<const N: usize>(body: &[u8]) -> Bytes {
        let mut bytes = [0; N];
        bytes[..body.len()].copy_from_slice(body);
        Bytes::from_owner(Inline { bytes, len: body.len() })
    }
    match body.len() {
        0..=256 => inline::<256>(body),
        257..=1280 => inline::<1280>(body),
        1281..=4096 => inline::<4096>(body),
        _ => Bytes::copy_from_slice(body),
    }
}

/// Bytes read at once into a large body.
const READ_BYTES: usize = 64 * 1024;

fn take<'input>(input: &mut &'input [u8], most: usize) -> &'input [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

/// The header of a frame with a payload of so many bytes.
///
/// # Panics
/// If the frame would be larger than 4 GiB; whoever encodes has compared it with a far smaller limit.
pub fn header(version: u8, kind: u8, payload_bytes: usize) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(payload_bytes + HEADER_BYTES).expect("a frame is smaller than 4 GiB");
    let length = length.to_be_bytes();
    [length[0], length[1], length[2], length[3], version, kind]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TASK_SUBMIT: u8 = 1;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&header(1, kind, payload.len())[..], payload].concat()
    }

    fn decoder(budget: &ByteBudget) -> Decoder {
        Decoder::new(budget.clone(), &[1, 2], FRAME_BYTES_MAX)
    }

    /// Feeds `bytes` in pieces that end at `cuts`, and shows everything found.
    fn decode(bytes: &[u8], cuts: &[usize]) -> Vec<String> {
        let mut decoder = decoder(&ByteBudget::new(usize::MAX));
        let (mut found, mut from) = (Vec::new(), 0);
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            let mut piece = &bytes[from..cut.max(from)];
            from = cut.max(from);
            while let Some(decoded) = decoder.decode(&mut piece) {
                let broken = matches!(decoded, Decoded::Broken(_));
                found.push(match decoded {
                    Decoded::Frame { kind, payload, .. } => format!("{kind} {payload:?}"),
                    Decoded::Skipped { .. } => "skipped".to_owned(),
                    Decoded::Broken(why) => format!("{why:?}"),
                });
                if broken {
                    return found;
                }
            }
            assert!(piece.is_empty());
        }
        found
    }

    #[test]
    fn lengths_at_the_edges() {
        assert_eq!(decode(&[0, 0, 0, 5, 1, 1], &[]), ["TooShort"]);
        assert_eq!(decode(&[0, 0x40, 0, 1], &[]), ["TooLarge"]);
        assert_eq!(decode(&[0xff; 4], &[]), ["TooLarge"]);
        assert_eq!(decode(&[0, 0, 0, 6, 3], &[]), ["Version"]);
        assert_eq!(decode(&[0, 0, 0, 6, 2, 9, 0, 0, 0, 6, 1, 9], &[]), ["9 b\"\"", "Version"]);
        assert_eq!(decode(&[0, 0, 0, 6, 1, 9], &[]), ["9 b\"\""]);
        let largest = frame(TASK_SUBMIT, &vec![b'x'; FRAME_BYTES_MAX - HEADER_BYTES]);
        assert_eq!(decode(&largest, &[]).len(), 1);
    }

    #[test]
    fn nothing_is_allocated_for_a_promise() {
        let budget = ByteBudget::new(usize::MAX);
        let mut decoder = decoder(&budget);
        let mut input = &frame(TASK_SUBMIT, &vec![b'x'; 1_000_000])[..HEADER_BYTES + 10].to_vec()[..];
        assert!(decoder.decode(&mut input).is_none());
        assert!(budget.used() <= 64, "{}", budget.used());
    }

    #[test]
    fn a_body_over_the_budget_is_skipped_and_the_next_frame_is_read() {
        let budget = ByteBudget::new(100);
        let mut decoder = decoder(&budget);
        let bytes = [frame(1, &[b'x'; 5000]), frame(2, b"{}")].concat();
        for size in [1, 7, 6000] {
            let mut found = Vec::new();
            for mut piece in bytes.chunks(size) {
                while let Some(decoded) = decoder.decode(&mut piece) {
                    found.push(matches!(decoded, Decoded::Skipped { .. }));
                }
            }
            assert_eq!(found, [true, false], "in pieces of {size}");
            assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn a_cancel_is_heard_when_all_memory_is_spent() {
        let budget = ByteBudget::new(100);
        let _spent = budget.charge_always(101);
        let mut decoder = decoder(&budget);
        let cancel = frame(3, b"{\"task_id\":\"7b0c4ac4-1d3f-4a6f-9d1d-3a1d8a1c5a10\"}");
        for size in [1, 1000] {
            let mut found = Vec::new();
            for mut piece in cancel.chunks(size) {
                found.extend(decoder.decode(&mut piece));
            }
            assert!(matches!(&found[..], [Decoded::Frame { kind: 3, .. }]), "in pieces of {size}: {found:?}");
        }
    }

    #[test]
    fn what_is_skipped_keeps_its_start_and_a_ping_of_version_1_is_whole() {
        let payload: Vec<u8> = (0..=255).cycle().take(contract::SMALL_BYTES + 1).collect();
        let ping = |version| [&header(version, 0xF0, payload.len())[..], &payload].concat();
        for size in [1, 5, 9, 1000] {
            for (version, whole) in [(1, true), (2, false)] {
                let mut decoder = decoder(&ByteBudget::new(50));
                let mut found = Vec::new();
                for mut piece in ping(version).chunks(size) {
                    found.extend(decoder.decode(&mut piece));
                }
                assert_eq!(decoder.version(), Some(version));
                match &found[..] {
                    [Decoded::Frame { kind: 0xF0, payload, charge: None, .. }] => {
                        assert!(whole && payload.is_empty());
                    }
                    [Decoded::Skipped { start, .. }] => {
                        assert!(!whole);
                        assert_eq!(start, &payload[..START_BYTES]);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_large_body_can_be_read_into_directly() {
        let budget = ByteBudget::new(usize::MAX);
        let mut decoder = decoder(&budget);
        let payload: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let bytes = frame(1, &payload);
        let mut input = &bytes[..5000];
        assert!(decoder.decode(&mut input).is_none());
        let mut from = 5000;
        while let Some((body, most)) = decoder.body(4096) {
            let to = (from + most.min(9000)).min(bytes.len());
            body.extend_from_slice(&bytes[from..to]);
            from = to;
            if let Some(Decoded::Frame { payload: whole, .. }) = decoder.finish() {
                assert_eq!(whole, payload);
                return;
            }
        }
        let mut input = &bytes[from..];
        let Some(Decoded::Frame { payload: whole, .. }) = decoder.decode(&mut input) else { panic!() };
        assert_eq!(whole, payload);
    }

    proptest! {
        #[test]
        fn every_split_decodes_to_the_same(
            payloads in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 1..6),
            mut cuts in prop::collection::vec(0usize..240, 0..12),
        ) {
            let bytes: Vec<u8> =
                payloads.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            for cut in &mut cuts {
                *cut = (*cut).min(bytes.len());
            }
            cuts.sort_unstable();
            let whole = decode(&bytes, &[]);
            prop_assert_eq!(whole.len(), payloads.len());
            prop_assert_eq!(decode(&bytes, &cuts), whole);
            let every: Vec<usize> = (0..bytes.len()).collect();
            prop_assert_eq!(decode(&bytes, &every), decode(&bytes, &[]));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            decode(&bytes, &[]);
        }
    }
}
