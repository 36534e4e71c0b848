//! The scanner: finds where one JSON document ends, in bytes that arrive in any pieces.
//!
//! It keeps a handful of words and no bytes: each byte is looked at once, whatever the pieces, so 4 MiB in
//! pieces of one byte cost what 4 MiB at once do. It knows only as much of the grammar as the boundary needs
//! (strings, escapes, nesting, where a value may begin), and refuses at once what no JSON has where it stands:
//! that keeps a quote or a bracket that was never closed from swallowing all that follows, because a string
//! cannot hold a raw newline, and no document begins where another has just had a value.

use std::fmt;

/// What a piece of bytes held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The document goes on in the next piece, or none has begun ([`Scanner::is_between`]).
    Incomplete,
    /// The document ends here.
    Complete {
        /// Bytes of this piece up to and with the document's last one. White space before the document is
        /// counted here; nothing behind the document is.
        end: usize,
    },
    /// No document can come of this. Where the next may begin is for [`Resync`] to find, from `at` on.
    Broken {
        /// What is wrong.
        why: Flaw,
        /// Offset in this piece of the byte that showed it.
        at: usize,
    },
}

/// Why bytes are not a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A byte that no JSON has where it stands.
    NotJson,
    /// A raw control character, such as a newline, inside a string.
    ControlInString,
    /// Nested deeper than the limit.
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
    /// Longer than the limit.
    TooLarge {
        /// The limit in bytes.
        bytes_max: usize,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => formatter.write_str("not JSON"),
            Self::ControlInString => formatter.write_str("a raw control character in a JSON string"),
            Self::TooDeep { depth_max } => write!(formatter, "JSON nested deeper than {depth_max}"),
            Self::TooLarge { bytes_max } => {
                write!(formatter, "a JSON document of more than {bytes_max} bytes")
            }
        }
    }
}

/// Finds the end of one document after the other. After `Complete` or `Broken` it is ready for the next.
#[derive(Clone, Debug)]
pub struct Scanner {
    bytes_max: usize,
    depth_max: usize,
    /// Bytes of the current document so far.
    bytes: usize,
    /// Arrays and objects open.
    depth: usize,
    /// Which of them are objects: the innermost has the lowest bit.
    objects: u128,
    /// What may begin next in the innermost.
    ready_for: Ready,
    within: Within,
}

/// What may begin inside an array or object, behind what has been there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    /// Nothing, before a comma, a colon or the closing bracket.
    Nothing,
    /// A key.
    Key,
    /// A value.
    Value,
}

/// What the next byte is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// Nothing: white space between documents.
    Between,
    /// An array or object, outside of strings.
    Container,
    /// A string.
    String,
    /// A string, behind a backslash.
    Escape,
    /// A number, `true`, `false` or `null` at the top; only white space or the end of input ends it.
    Scalar,
}

/// What one byte does.
enum Step {
    /// It is part of the document.
    On,
    /// It is the document's last byte.
    Last,
    /// It is behind the document's last byte.
    Behind,
    /// It is wrong.
    Broken(Flaw),
}

impl Scanner {
    /// A scanner for documents of at most `bytes_max` bytes (white space around them not counted) and
    /// `depth_max` open arrays and objects, 128 at most; [`DEPTH_MAX`](super::DEPTH_MAX) is what
    /// [`super::validate`] takes.
    pub fn new(bytes_max: usize, depth_max: usize) -> Self {
        debug_assert!(depth_max <= 128, "each has a bit of `objects`");
        let (ready_for, within) = (Ready::Nothing, Within::Between);
        Self { bytes_max, depth_max, bytes: 0, depth: 0, objects: 0, ready_for, within }
    }

    /// Looks at the next bytes, which must follow those of the last call: all of them after `Incomplete`, those
    /// from `end` on after `Complete`, those that [`Resync`] left after `Broken`.
    pub fn scan(&mut self, piece: &[u8]) -> Scan {
        let mut at = if self.is_between() { blank(piece) } else { 0 };
        while at < piece.len() {
            if self.within == Within::String {
                // The bulk of most documents: run through it without a decision a byte.
                let room = self.bytes_max - self.bytes;
                let rest = &piece[at..piece.len().min(at.saturating_add(room))];
                let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
                let plain = plain.unwrap_or(rest.len());
                self.bytes += plain;
                at += plain;
                if at == piece.len() {
                    break;
                }
            }
            match self.step(piece[at]) {
                Step::On => at += 1,
                Step::Last => return self.complete(at + 1),
                Step::Behind => return self.complete(at),
                Step::Broken(why) => {
                    self.reset();
                    return Scan::Broken { why, at };
                }
            }
        }
        Scan::Incomplete
    }

    /// The input has ended: a bare number or word is complete now (`end` is 0), anything else that has begun
    /// stays `Incomplete` for ever.
    pub fn finish(&mut self) -> Scan {
        if self.within == Within::Scalar { self.complete(0) } else { Scan::Incomplete }
    }

    /// Whether no document has begun: all bytes seen since the last one were white space and can be dropped.
    pub fn is_between(&self) -> bool {
        self.within == Within::Between
    }

    fn complete(&mut self, end: usize) -> Scan {
        self.reset();
        Scan::Complete { end }
    }

    fn reset(&mut self) {
        *self = Self::new(self.bytes_max, self.depth_max);
    }

    fn step(&mut self, byte: u8) -> Step {
        if self.within == Within::Scalar && is_blank(byte) {
            return Step::Behind;
        }
        if self.bytes == self.bytes_max {
            return Step::Broken(Flaw::TooLarge { bytes_max: self.bytes_max });
        }
        self.bytes += 1;
        match self.within {
            Within::Between => match byte {
                b'{' | b'[' => self.open(byte),
                b'"' => self.go_on(Within::String),
                b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.go_on(Within::Scalar),
                _ => Step::Broken(Flaw::NotJson),
            },
            Within::Container => self.step_in_container(byte),
            Within::String => match byte {
                b'"' if self.depth == 0 => Step::Last,
                b'"' => self.go_on(Within::Container),
                b'\\' => self.go_on(Within::Escape),
                0..0x20 => Step::Broken(Flaw::ControlInString),
                _ => Step::On,
            },
            Within::Escape => match byte {
                0..0x20 => Step::Broken(Flaw::ControlInString),
                _ => self.go_on(Within::String),
            },
            Within::Scalar if is_of_scalar(byte) => Step::On,
            Within::Scalar => Step::Broken(Flaw::NotJson),
        }
    }

    fn step_in_container(&mut self, byte: u8) -> Step {
        let in_object = self.objects & 1 == 1;
        match byte {
            b'{' | b'[' if self.ready_for == Ready::Value => self.open(byte),
            b'}' | b']' if in_object == (byte == b'}') => {
                self.depth -= 1;
                self.objects >>= 1;
                self.ready_for = Ready::Nothing;
                if self.depth == 0 { Step::Last } else { Step::On }
            }
            b'"' if self.ready_for != Ready::Nothing => {
                self.ready_for = Ready::Nothing;
                self.go_on(Within::String)
            }
            b',' => {
                self.ready_for = if in_object { Ready::Key } else { Ready::Value };
                Step::On
            }
            b':' if in_object => {
                self.ready_for = Ready::Value;
                Step::On
            }
            _ if is_blank(byte) => Step::On,
            // Its first byte, or a further one: which numbers and words there are is not asked here.
            _ if is_of_scalar(byte) && self.ready_for != Ready::Key => {
                self.ready_for = Ready::Nothing;
                Step::On
            }
            _ => Step::Broken(Flaw::NotJson),
        }
    }

    fn open(&mut self, bracket: u8) -> Step {
        if self.depth == self.depth_max {
            return Step::Broken(Flaw::TooDeep { depth_max: self.depth_max });
        }
        let is_object = bracket == b'{';
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(is_object);
        self.ready_for = if is_object { Ready::Key } else { Ready::Value };
        self.go_on(Within::Container)
    }

    fn go_on(&mut self, within: Within) -> Step {
        self.within = within;
        Step::On
    }
}

/// Skips what is left of a bad document: everything through the next newline.
#[derive(Clone, Debug, Default)]
pub struct Resync {
    skipped_bytes: usize,
}

impl Resync {
    /// Bytes of this piece to skip, when the newline is among them; `None` when all of them are to be skipped
    /// and the newline is still to come.
    pub fn skip(&mut self, piece: &[u8]) -> Option<usize> {
        let through = piece.iter().position(|byte| *byte == b'\n').map(|newline| newline + 1);
        self.skipped_bytes = self.skipped_bytes.saturating_add(through.unwrap_or(piece.len()));
        through
    }

    /// Bytes skipped so far, for the log.
    pub fn skipped_bytes(&self) -> usize {
        self.skipped_bytes
    }
}

/// Number of bytes of JSON white space at the start.
pub fn blank(piece: &[u8]) -> usize {
    piece.iter().position(|byte| !is_blank(*byte)).unwrap_or(piece.len())
}

/// White space as JSON has it (RFC 8259, section 2).
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A byte that numbers and the three words are made of.
fn is_of_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

#[cfg(test)]
mod tests;
