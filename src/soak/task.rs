//! What a request of the soak holds: its number, what the responder is to do, and a text made of the number, so
//! that an answer put together from two is seen.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

/// Words of the text, 16 digits each.
const WORDS: u64 = 8;

/// A task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The request's number, which no other request of the run has.
    pub number: u64,
    /// How long the responder waits before it answers.
    pub wait: Duration,
    /// Whether the responder answers no.
    pub wants_no: bool,
}

#[derive(Deserialize)]
struct Body<'a> {
    n: u64,
    wait_ms: u64,
    no: bool,
    pad: &'a str,
}

impl Task {
    /// The payload, JSON, so that every door takes it.
    pub fn payload(&self) -> Bytes {
        let Self { number, wait, wants_no } = self;
        let (wait, pad) = (wait.as_millis(), pad(*number));
        let text =
            format!(r#"{{"task_id":"soak","n":{number},"wait_ms":{wait},"no":{wants_no},"pad":"{pad}"}}"#);
        text.into()
    }

    /// Reads a payload; `None` if it is no task, or not a whole one.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let body: Body<'_> = serde_json::from_slice(payload).ok()?;
        let task = Self { number: body.n, wait: Duration::from_millis(body.wait_ms), wants_no: body.no };
        (body.pad == pad(body.n)).then_some(task)
    }
}

fn pad(number: u64) -> String {
    let mut text = String::new();
    for word in 1..=WORDS {
        // Any odd number spreads the bits; this one is 2^64 over the golden ratio.
        let word = number.wrapping_add(word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        write!(text, "{word:016x}").expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_read_as_it_was_written_and_a_spliced_one_is_none() {
        let task = Task { number: 7, wait: Duration::from_millis(30), wants_no: true };
        let payload = task.payload();
        assert_eq!(Task::parse(&payload), Some(task));
        let other = Task { number: 8, ..task }.payload();
        let spliced = [&payload[..60], &other[60..]].concat();
        assert!(serde_json::from_slice::<serde_json::Value>(&spliced).is_ok());
        assert_eq!(Task::parse(&spliced), None);
        assert_eq!(Task::parse(b"{}"), None);
    }
}
