//! Bare tasks in raw JSON as a client speaks them (`docs/protocols/ipc.md`): one object a task, one line an
//! answer, in the order of the tasks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use contract::{Headers, Kind};

use super::stream::Dialect;
use super::{Failure, Heard, Lost, Say, What, v1};

/// Bytes of the longest answer: as in the frames beside it, with the newline.
const LINE_BYTES_MAX: usize = wire::frame::FRAME_BYTES_MAX + 1;

/// The dialect.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// Tasks that wait for an answer, oldest first.
    asked: VecDeque<u64>,
    lines: Lines,
}

impl Dialect for Tasks {
    fn encode(&mut self, id: u64, say: &Say, out: &mut BytesMut) -> Result<(), Failure> {
        let call = match say {
            Say::Request(call) if call.subject == "task_submit" => call,
            _ => return Err(Failure::unsupported("bare tasks know one question: request task_submit")),
        };
        v1::plain(call)?;
        if !call.payload.trim_ascii_start().starts_with(b"{") {
            return Err(Failure::new(Kind::Malformed, "a task is a JSON object"));
        }
        out.extend_from_slice(&call.payload);
        out.extend_from_slice(b"\n");
        self.asked.push_back(id);
        Ok(())
    }

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Heard>, Lost> {
        let Some(line) = self.lines.next(input)? else { return Ok(None) };
        let what = if line.starts_with(b"{\"ok\":false,\"error\":{\"code\":") {
            What::Failed(v1::failed(&line))
        } else {
            What::Reply { headers: Headers::new(), payload: line, more: false }
        };
        Ok(Some(Heard { id: self.asked.pop_front(), what }))
    }
}

/// Finds the ends of lines, looking at each byte once.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Bytes of the input in which no newline was found.
    searched: usize,
}

impl Lines {
    /// The next line, without its newline.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Lost> {
        let Some(end) = input[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = input.len();
            if self.searched >= LINE_BYTES_MAX {
                return Err(Lost::Protocol(format!("a line of over {LINE_BYTES_MAX} bytes")));
            }
            return Ok(None);
        };
        let mut line = input.split_to(self.searched + end + 1).freeze();
        self.searched = 0;
        line.truncate(line.len() - 1);
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Call;

    #[test]
    fn a_line_an_answer_in_order_and_in_any_pieces() {
        let call = Call { subject: "task_submit".to_owned(), payload: "{}".into(), ..Call::default() };
        let bytes = b"{\"ok\":true}\n{\"ok\":false,\"error\":{\"code\":5,\"message\":\"late\"}}\n";
        for size in [1, 7, bytes.len()] {
            let mut tasks = Tasks::default();
            let mut out = BytesMut::new();
            for id in [3, 4] {
                tasks.encode(id, &Say::Request(call.clone()), &mut out).unwrap();
            }
            assert_eq!(out, "{}\n{}\n");
            let (mut input, mut heard) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(size) {
                input.extend_from_slice(piece);
                while let Some(Heard { id, what }) = tasks.decode(&mut input).unwrap() {
                    heard.push((id.unwrap(), matches!(what, What::Reply { .. })));
                }
            }
            assert_eq!(heard, [(3, true), (4, false)], "{size}");
        }
    }

    #[test]
    fn only_tasks_can_be_said() {
        let other = Call { subject: "a.b".to_owned(), payload: "{}".into(), ..Call::default() };
        let text = Call { subject: "task_submit".to_owned(), payload: "text".into(), ..Call::default() };
        for say in [Say::Request(other), Say::Request(text), Say::Ping] {
            assert!(Tasks::default().encode(1, &say, &mut BytesMut::new()).is_err());
        }
    }
}
