//! Where a payload comes from: the argument itself, a file, or standard input.

use std::fs::File;
use std::io::{self, IsTerminal, Read};

use bytes::Bytes;

/// Bytes read at most: one more than any frame holds, so that what is too large is seen to be.
const BYTES_MAX: u64 = wire::frame::FRAME_BYTES_MAX as u64 + 1;

/// Reads the payload that `argument` names: `@FILE`, `-` for standard input, anything else itself. Without an
/// argument it is standard input, or nothing if that is a terminal. Fails with a line for the person who typed
/// it.
pub(super) fn read(argument: Option<&str>) -> Result<Bytes, String> {
    match argument {
        Some("-") => from_input(),
        Some(text) => match text.strip_prefix('@') {
            Some(path) => File::open(path)
                .and_then(all)
                .map_err(|error| format!("cannot read the payload from {path}: {error}")),
            None => Ok(Bytes::from(text.to_owned())),
        },
        None if io::stdin().is_terminal() => Ok(Bytes::new()),
        None => from_input(),
    }
}

fn from_input() -> Result<Bytes, String> {
    all(io::stdin().lock()).map_err(|error| format!("cannot read the payload from standard input: {error}"))
}

fn all(source: impl Read) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    source.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}
