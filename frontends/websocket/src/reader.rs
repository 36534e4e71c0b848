//! From bytes to messages: frames (RFC 6455 section 5.2) decoded and put together as they arrive.
//!
//! Incremental, and fed from a buffer that lives for one read only, so that an idle connection holds none. A
//! WebSocket library hands out whole messages and hides how they came; here every frame is seen, which is what
//! the bounds on fragments and on time need. The byte budget is charged for what has arrived, never for what a
//! length promises; a message for which there is no memory is skipped and told, so that the connection stays.

use std::io::Cursor;

use bytes::{Bytes, BytesMut};
use contract::{ByteBudget, Charge, Kind};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use wire::charged::room;

use crate::close::Ending;

/// Bytes of the longest header of a client's frame.
const HEADER_BYTES_MAX: usize = 14;
/// Bytes of the largest payload of a control frame.
const CONTROL_BYTES_MAX: u8 = 125;
/// Bytes kept of a message that is skipped: they hold the id of a binary one.
pub(crate) const START_BYTES: usize = 18;

/// What the reader found.
#[derive(Debug)]
pub(crate) enum Found {
    Message(Message),
    Ping(Bytes),
    Pong,
    /// The payload of a close frame.
    Close(Bytes),
    /// Nothing after it can be understood.
    Broken(Ending),
}

/// A whole message.
#[derive(Debug)]
pub struct Message {
    /// Whether it is text, and then valid UTF-8.
    pub text: bool,
    /// What it says; of a skipped message its first bytes only.
    pub payload: Bytes,
    /// What it costs the byte budget, as long as it is kept; `None` if there was no memory for it, and it was
    /// skipped.
    pub charge: Option<Charge>,
}

#[derive(Debug)]
pub(crate) struct Reader {
    budget: ByteBudget,
    message_bytes_max: usize,
    fragments_max: usize,
    state: State,
    message: Option<Assembly>,
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; HEADER_BYTES_MAX], have: usize },
    Data { last: bool, mask: [u8; 4], need: usize },
    Control { control: Control, mask: [u8; 4], need: usize, body: BytesMut },
}

const START: State = State::Header { bytes: [0; HEADER_BYTES_MAX], have: 0 };

/// A message that is being put together.
#[derive(Debug)]
struct Assembly {
    text: bool,
    body: BytesMut,
    /// `None` while it is skipped.
    charge: Option<Charge>,
    /// Bytes of it so far, whether kept or not.
    bytes: usize,
    fragments: usize,
    /// Bytes of a text known to be UTF-8.
    checked: usize,
}

impl Reader {
    pub(crate) fn new(budget: ByteBudget, message_bytes_max: usize, fragments_max: usize) -> Self {
        Self { budget, message_bytes_max, fragments_max, state: START, message: None }
    }

    /// Whether a message or a frame has begun and is not whole.
    pub(crate) fn is_within(&self) -> bool {
        self.message.is_some() || !matches!(self.state, State::Header { have: 0, .. })
    }

    /// Takes bytes from the front of `input` until something is found (the rest stays), or until it is empty.
    pub(crate) fn take(&mut self, input: &mut &[u8]) -> Option<Found> {
        loop {
            let found = match &mut self.state {
                State::Header { bytes, have } => {
                    let needed = if *have < 2 { 2 } else { header_bytes(bytes[1]) };
                    let taken = cut(input, needed - *have);
                    bytes[*have..*have + taken.len()].copy_from_slice(taken);
                    *have += taken.len();
                    if *have < needed {
                        return None;
                    }
                    let (bytes, have) = (*bytes, *have);
                    if have == 2 {
                        self.judge(bytes[0], bytes[1]).err()
                    } else {
                        self.begin(&bytes[..have]).err()
                    }
                    .map(Found::Broken)
                }
                State::Data { last, mask, need } => {
                    let (last, turn) = (*last, *mask);
                    let bytes = cut(input, *need);
                    if bytes.is_empty() && *need > 0 {
                        return None;
                    }
                    *need -= bytes.len();
                    mask.rotate_left(bytes.len() % 4);
                    let whole = *need == 0;
                    let added = self.add(bytes, turn, whole.then_some(last));
                    if whole {
                        self.state = START;
                    }
                    match added {
                        Err(ending) => Some(Found::Broken(ending)),
                        Ok(()) if whole && last => Some(self.finish()),
                        Ok(()) => None,
                    }
                }
                State::Control { control, mask, need, body } => {
                    let start = body.len();
                    body.extend_from_slice(cut(input, *need - start));
                    if body.len() < *need {
                        unmask(&mut body[start..], *mask);
                        mask.rotate_left((body.len() - start) % 4);
                        return None;
                    }
                    unmask(&mut body[start..], *mask);
                    let (control, body) = (*control, std::mem::take(body).freeze());
                    self.state = START;
                    Some(match control {
                        Control::Ping => Found::Ping(body),
                        Control::Pong => Found::Pong,
                        _ => Found::Close(body),
                    })
                }
            };
            if found.is_some() {
                return found;
            }
        }
    }

    /// Judges the first two bytes of a frame as soon as they are here: a peer may wait for the answer.
    fn judge(&self, first: u8, second: u8) -> Result<(), Ending> {
        if first & 0x70 != 0 {
            return Err(Ending::protocol("reserved bits are set, and no extension was agreed on"));
        }
        if second & 0x80 == 0 {
            return Err(Ending::protocol("a client's frames are masked"));
        }
        match OpCode::from(first & 0x0F) {
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
                Err(Ending::protocol("a reserved opcode"))
            }
            OpCode::Control(_) if first & 0x80 == 0 => {
                Err(Ending::protocol("a control frame is not fragmented"))
            }
            OpCode::Control(_) if second & 0x7F > CONTROL_BYTES_MAX => {
                Err(Ending::protocol("a control frame has at most 125 bytes"))
            }
            OpCode::Data(Data::Continue) if self.message.is_none() => {
                Err(Ending::protocol("a continuation of nothing"))
            }
            OpCode::Data(Data::Text | Data::Binary) if self.message.is_some() => {
                Err(Ending::protocol("a new message within another one"))
            }
            _ => Ok(()),
        }
    }

    /// Begins a frame whose header is whole and whose first bytes are judged.
    fn begin(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        let (header, length) = FrameHeader::parse(&mut Cursor::new(bytes))
            .ok()
            .flatten()
            .expect("the header is whole and its opcode known");
        let mask = header.mask.expect("an unmasked frame was refused");
        if length >> 63 != 0 {
            return Err(Ending::protocol("the highest bit of a length is zero"));
        }
        if header.len(length) != bytes.len() {
            return Err(Ending::protocol("a length is written as short as possible"));
        }
        let text = match header.opcode {
            OpCode::Control(control) => {
                let need = usize::try_from(length).expect("a control frame is small");
                self.state = State::Control { control, mask, need, body: BytesMut::new() };
                return Ok(());
            }
            OpCode::Data(data) => data == Data::Text,
        };
        let message = self.message.get_or_insert_with(|| Assembly {
            text,
            body: BytesMut::new(),
            charge: self.budget.charge(0),
            bytes: 0,
            fragments: 0,
            checked: 0,
        });
        message.fragments += 1;
        if message.fragments > self.fragments_max {
            let reason = format!("a message has at most {} fragments", self.fragments_max);
            return Err(Ending::of(Kind::Invalid, reason));
        }
        let need =
            usize::try_from(length).ok().filter(|need| *need <= self.message_bytes_max - message.bytes);
        let Some(need) = need else {
            let reason = format!("a message has at most {} bytes", self.message_bytes_max);
            return Err(Ending::of(Kind::TooLarge, reason));
        };
        self.state = State::Data { last: header.is_final, mask, need };
        Ok(())
    }

    /// Adds bytes of a frame, masked by `mask`; `end` is whether the frame that ends here is the last one.
    fn add(&mut self, bytes: &[u8], mask: [u8; 4], end: Option<bool>) -> Result<(), Ending> {
        let message = self.message.as_mut().expect("a data frame belongs to a message");
        message.bytes += bytes.len();
        let start = message.body.len();
        let is_whole = start == 0 && end == Some(true);
        if let Some(charge) = &mut message.charge
            && !if is_whole {
                charge.grow_message(bytes.len())
            } else {
                room(&mut message.body, self.message_bytes_max, bytes.len(), charge)
            }
        {
            message.charge = None;
            message.body.truncate(START_BYTES);
            // The memory goes back at once.
            message.body = BytesMut::from(&message.body[..]);
        }
        let start = start.min(message.body.len());
        let kept = match message.charge {
            Some(_) => bytes.len(),
            None => bytes.len().min(START_BYTES.saturating_sub(start)),
        };
        message.body.extend_from_slice(&bytes[..kept]);
        unmask(&mut message.body[start..], mask);
        if message.text && message.charge.is_some() {
            message.check(end == Some(true))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Found {
        let Assembly { text, body, charge, .. } = self.message.take().expect("a frame of it has just ended");
        Found::Message(Message { text, payload: body.freeze(), charge })
    }
}

impl Assembly {
    /// Looks at what of a text is new; a character may be cut at its end, unless that is the end of all.
    fn check(&mut self, is_end: bool) -> Result<(), Ending> {
        match str::from_utf8(&self.body[self.checked..]) {
            Ok(_) => self.checked = self.body.len(),
            Err(error) if error.error_len().is_none() && !is_end => self.checked += error.valid_up_to(),
            Err(_) => return Err(Ending::of(Kind::Malformed, "a text is not UTF-8")),
        }
        Ok(())
    }
}

/// Bytes of a masked frame's header, by its second byte.
fn header_bytes(second: u8) -> usize {
    match second & 0x7F {
        126 => 8,
        127 => 14,
        _ => 6,
    }
}

fn cut<'input>(input: &mut &'input [u8], most: usize) -> &'input [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

/// Word by word, so that the compiler makes wide instructions of it.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
