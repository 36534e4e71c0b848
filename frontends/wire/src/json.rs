//! JSON as bytes: where a document ends, whether it is one, whether it is an envelope, and how it becomes one
//! line (`docs/protocols/json.md`).
//!
//! No tree is built: what a payload says is the backend's business. Few passes look at the bytes, each once:
//! [`Scanner`] finds the end while they arrive; [`decode`] (for an envelope or a task) or [`validate`] (for an
//! answer) is strict about what is inside; and [`one_line`] makes an answer fit for a protocol that ends
//! answers with a newline.

mod decode;
mod encode;
mod members;
mod scanner;
mod text;
mod validate;

use bytes::Bytes;

pub use decode::{Decoded, decode, is_envelope};
pub use encode::encode;
pub use scanner::{Flaw, Resync, Scan, Scanner, blank};
pub use text::Text;
pub use validate::{JsonError, validate};

/// The deepest nesting of arrays and objects: what `serde_json` takes, whose limit of 128 counts the innermost
/// value too. A backend in Rust would not read more either.
pub const DEPTH_MAX: usize = 127;

/// A valid JSON text without line breaks: in valid JSON they can only be white space, so each becomes a space.
/// Bytes without any come back as they are, uncopied.
pub fn one_line(text: Bytes) -> Bytes {
    if !text.contains(&b'\n') && !text.contains(&b'\r') {
        return text;
    }
    text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_copies_only_when_it_must() {
        let text = Bytes::from_static(b"{\"a\": \"b\\n\"}");
        let same = one_line(text.clone());
        assert_eq!(same.as_ptr(), text.as_ptr());
        let lines = one_line(Bytes::from_static(b"{\r\n\t\"a\\r\":\n1}\n"));
        assert_eq!(lines, "{  \t\"a\\r\": 1} ");
    }
}
